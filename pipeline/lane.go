package pipeline

import (
	"container/heap"
	"math"
	"time"

	"dunlin/wire"
)

// lane is a pipeline of one peer a stage and one trainer, pass by pass in virtual time: what
// inner steps cost shows only so. It follows the rules of Trainer and Server where nothing
// fails. Times are seconds.
type lane struct {
	stages   []laneStage
	inFlight int

	now     float64
	events  laneEvents
	order   int // of the newest event
	drawn   int
	under   int         // micro-batches, drawn and not yet counted in every stage
	counted map[int]int // stages that have counted one of them
	stepped []float64   // times at which the first stage began inner steps
}

// laneStage is a peer.
type laneStage struct {
	forward float64 // a forward pass; a backward pass takes three times as long
	step    float64 // an inner step
	batch   int     // micro-batches of an inner step

	in, out         float64 // the ways of a forward call and its answer
	inBack, outBack float64 // of a backward call and its answer
	word            float64 // of a StageAccept and of a StageCounted

	backward, ahead []int // calls that wait
	accepted        []int // gradients that wait to be added up
	passed, sum     int
	busy            bool
}

// laneEvent is something that comes about at a time, the earlier made first.
type laneEvent struct {
	at    float64
	order int
	do    func()
}

type laneEvents []laneEvent

func (e laneEvents) Len() int { return len(e) }
func (e laneEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e laneEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *laneEvents) Push(x any)   { *e = append(*e, x.(laneEvent)) }
func (e *laneEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// Inner steps of the first stage that a lane is played for, and after which it counts.
const (
	laneSteps = 8
	laneWarm  = 3
)

// rate returns the micro-batches a second.
func (l *lane) rate() float64 {
	l.counted = map[int]int{}
	l.draw()
	for l.events.Len() > 0 && len(l.stepped) < laneSteps {
		e := heap.Pop(&l.events).(laneEvent)
		l.now = e.at
		e.do()
	}
	if len(l.stepped) < laneSteps {
		return 0
	}
	return float64((laneSteps-laneWarm)*l.stages[0].batch) / (l.stepped[laneSteps-1] - l.stepped[laneWarm-1])
}

func (l *lane) after(seconds float64, do func()) {
	l.order++
	heap.Push(&l.events, laneEvent{l.now + seconds, l.order, do})
}

// draw puts micro-batches under way.
func (l *lane) draw() {
	for ; l.under < l.inFlight; l.under++ {
		m := l.drawn
		l.drawn++
		l.call(m, 0)
	}
}

// call has a stage run its forward pass; the last one runs both.
func (l *lane) call(m, at int) {
	s := &l.stages[at]
	l.after(s.in, func() {
		if at == len(l.stages)-1 {
			s.backward = append(s.backward, m)
		} else {
			s.ahead = append(s.ahead, m)
		}
		l.work(at)
	})
}

// work begins what is next, as Server.work does.
func (l *lane) work(at int) {
	s := &l.stages[at]
	for !s.busy {
		most := s.batch + s.batch/lateShare
		if at == len(l.stages)-1 {
			most = math.MaxInt
		}
		switch {
		case s.sum >= s.batch:
			s.sum = 0
			if at == 0 {
				l.stepped = append(l.stepped, l.now)
			}
			l.occupy(at, s.step, func() {})
		case len(s.backward) > 0:
			m := s.backward[0]
			s.backward = s.backward[1:]
			l.occupy(at, 3*s.forward, func() { l.back(m, at) })
		case len(s.ahead) > 0 && s.passed+s.sum < most:
			m := s.ahead[0]
			s.ahead = s.ahead[1:]
			s.passed++
			l.occupy(at, s.forward, func() {
				l.after(s.out, func() { l.call(m, at+1) })
			})
		case len(s.accepted) > 0:
			m := s.accepted[0]
			s.accepted = s.accepted[1:]
			s.passed, s.sum = max(0, s.passed-1), s.sum+1
			l.after(s.word, func() { l.count(m) })
		default:
			return
		}
	}
}

// occupy has a stage compute for a while.
func (l *lane) occupy(at int, seconds float64, done func()) {
	l.stages[at].busy = true
	l.after(seconds, func() {
		l.stages[at].busy = false
		done()
		l.work(at)
	})
}

// back hands a gradient to the stage before and accepts it here.
func (l *lane) back(m, at int) {
	s := &l.stages[at]
	l.after(s.outBack, func() {
		l.after(s.word, func() {
			s.accepted = append(s.accepted, m)
			l.work(at)
		})
		if at > 0 {
			before := &l.stages[at-1]
			l.after(before.inBack, func() {
				before.backward = append(before.backward, m)
				l.work(at - 1)
			})
		}
	})
}

// count ends a micro-batch that every stage has counted.
func (l *lane) count(m int) {
	if l.counted[m]++; l.counted[m] == len(l.stages) {
		delete(l.counted, m)
		l.under--
		l.draw()
	}
}

// mostLaneBatch bounds an inner step that a lane plays: with more micro-batches the gap at a
// step is nothing beside the step.
const mostLaneBatch = 96

// lane returns a pipeline with one peer of the stage that lets least through, and of the
// others as much as comes on it.
func (o Outlook) lane(lanes int) *lane {
	scale := min(1, mostLaneBatch/float64(o.Batch))
	l := &lane{inFlight: max(1, int(math.Round(min(float64(o.InFlight)/float64(lanes), wire.MaxMicroBatches))))}
	for at, peers := range o.Stages {
		mean, more := meanWorker(peers), float64(len(peers))/float64(lanes)
		way := func(bytes float64) float64 {
			return mean.Link.RTT.Seconds()/2 + bytes*mean.Link.inverse()
		}
		s := laneStage{
			forward: mean.Forward.Seconds() / more, step: mean.Step.Seconds() * scale, batch: max(1, int(math.Round(float64(o.Batch)*scale*more))),
			word: way(0), in: way(o.Bytes), out: way(o.Bytes), inBack: way(o.Bytes + o.gradient()), outBack: way(o.gradient()),
		}
		if at == 0 { // it is sent tokens, and nobody wants their gradient
			s.in, s.inBack, s.outBack = way(0), way(o.gradient()), way(0)
		}
		l.stages = append(l.stages, s)
	}
	return l
}

// inverse returns the seconds of a byte, 0 where nothing is known.
func (l Link) inverse() float64 {
	if l.Bandwidth <= 0 {
		return 0
	}
	return 1 / l.Bandwidth
}

// meanWorker returns a peer of which as many do the same.
func meanWorker(peers []Worker) Worker {
	n := float64(len(peers))
	var speed, step, rtt, perByte float64
	for _, p := range peers {
		speed += 1 / p.Forward.Seconds()
		step += p.Step.Seconds()
		rtt += p.Link.RTT.Seconds()
		perByte += p.Link.inverse()
	}
	second := float64(time.Second)
	mean := Worker{Forward: time.Duration(n / speed * second), Step: time.Duration(step / n * second), Link: Link{RTT: time.Duration(rtt / n * second)}}
	if perByte > 0 {
		mean.Link.Bandwidth = n / perByte
	}
	return mean
}
