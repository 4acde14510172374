package pipeline

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"dunlin/wire"
)

// The transcripts of testdata: events in, effects out, one file a story. Run
// with -rewrite to accept a change, and read the difference.

func TestTrainerTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/trainer", func(t *testing.T, path string) {
		s := &trainerStory{names: names{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.names.replace(s.command(t, d)) })
	})
}

func TestServerTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/server", func(t *testing.T, path string) {
		s := &serverStory{names: names{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.names.replace(s.command(t, d)) })
	})
}

var storyStart = time.Unix(0, 0)

// names writes the short forms of ids as the words they were made from.
type names map[string]string

func (n names) peer(number uint64) wire.PeerID {
	p := wire.PeerID{byte(number), 0xff}
	n[p.Short()] = fmt.Sprintf("p%d", number)
	return p
}

func (n names) replace(s string) string {
	var pairs []string
	for short, name := range n {
		pairs = append(pairs, short, name)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

func argument(d *datadriven.TestData, key, otherwise string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return otherwise
}

func number(t *testing.T, d *datadriven.TestData, key string, otherwise uint64) uint64 {
	s := argument(d, key, strconv.FormatUint(otherwise, 10))
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		d.Fatalf(t, "%s=%s: %v", key, s, err)
	}
	return n
}

func norm(t *testing.T, d *datadriven.TestData, otherwise float64) float64 {
	x, err := strconv.ParseFloat(argument(d, "norm", strconv.FormatFloat(otherwise, 'g', -1, 64)), 64)
	if err != nil {
		d.Fatalf(t, "norm: %v", err)
	}
	return x
}

func list(t *testing.T, text string) []uint64 {
	var out []uint64
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func lines(effects []Effect, deadline time.Time) string {
	var b strings.Builder
	for _, e := range effects {
		fmt.Fprintln(&b, e)
	}
	if deadline.IsZero() {
		fmt.Fprintln(&b, "(no deadline)")
	} else {
		fmt.Fprintf(&b, "(deadline %s)\n", deadline.Sub(storyStart))
	}
	return b.String()
}

// elapse moves the time on and sends every tick that is due on the way.
func elapse(t *testing.T, d *datadriven.TestData, now *time.Time, deadline func() time.Time, step func(Event) []Effect) []Effect {
	by, err := time.ParseDuration(d.CmdArgs[0].Key)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	end := now.Add(by)
	var out []Effect
	for range 1000 {
		next := deadline()
		if next.IsZero() || next.After(end) {
			break
		}
		*now = next
		out = append(out, step(Tick{})...)
	}
	*now = end
	return out
}

func mode(d *datadriven.TestData) Mode {
	if d.HasArg("local") {
		return LocalSteps
	}
	return Synchronous
}

type trainerStory struct {
	names   names
	now     time.Time
	trainer *Trainer
	seq     uint64
}

func (s *trainerStory) command(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "new" {
		s.now, s.seq = storyStart, 0
		var err error
		s.trainer, err = NewTrainer(TrainerConfig{
			Slot: 1, Stages: int(number(t, d, "stages", 2)), Mode: mode(d), Batch: int(number(t, d, "batch", 2)),
			InFlight: int(number(t, d, "in-flight", 2)), PerPeer: int(number(t, d, "per-peer", 4)),
			Bytes: number(t, d, "bytes", 0), Limits: DefaultLimits(), Rand: rand.New(rand.NewPCG(1, 1)),
		})
		if err != nil {
			return err.Error() + "\n"
		}
		return lines(s.trainer.Step(s.now, Tick{}), s.trainer.Deadline())
	}
	if d.Cmd == "wait" {
		return lines(elapse(t, d, &s.now, s.trainer.Deadline, func(e Event) []Effect { return s.trainer.Step(s.now, e) }), s.trainer.Deadline())
	}
	if d.Cmd == "snapshot" {
		return s.snapshot()
	}
	return lines(s.trainer.Step(s.now, s.event(t, d)), s.trainer.Deadline())
}

func (s *trainerStory) snapshot() string {
	v := s.trainer.Snapshot()
	var b strings.Builder
	fmt.Fprintf(&b, "%s, step %d.%d %s, %d micro-batches, %+v\n", v.Mode, v.Step, v.Try, v.Phase, v.Micros, v.Totals)
	for i, stage := range v.Stages {
		for _, p := range stage.Peers {
			fmt.Fprintf(&b, "stage %d %s %s: %.3g s, %d calls", i, p.Peer.Short(), p.State, p.Seconds, p.Calls)
			if !p.Banned.IsZero() {
				fmt.Fprintf(&b, ", banned until %v", p.Banned.Sub(storyStart))
			}
			fmt.Fprintln(&b)
		}
	}
	return b.String()
}

func (s *trainerStory) event(t *testing.T, d *datadriven.TestData) Event {
	micro, stage := number(t, d, "m", 0), number(t, d, "s", 0)
	peer := s.names.peer(number(t, d, "p", 1))
	st := s.trainer.step
	key := wire.StageKey{Trainer: 1, Step: s.trainer.stepNumber(), Try: st.try, Micro: micro, Stage: stage}
	if m := s.trainer.find(micro); m != nil && stage < uint64(len(m.parts)) {
		key.Attempt = m.parts[stage].attempt
		if !d.HasArg("p") {
			peer = m.parts[stage].holder
		}
	}
	key.Attempt = number(t, d, "attempt", key.Attempt)
	switch d.Cmd {
	case "peer":
		s.seq++
		state := map[string]PeerState{"joining": Joining, "online": Online, "leaving": Leaving}[argument(d, "state", "online")]
		rtt, err := time.ParseDuration(argument(d, "rtt", "0s"))
		if err != nil {
			t.Fatal(err)
		}
		return Announced{Peer: peer, Stage: int(stage), State: state, Seq: s.seq, Link: Link{RTT: rtt, Bandwidth: float64(number(t, d, "rate", 0))}}
	case "down":
		return PeerDown{peer}
	case "drawn":
		return Drawn{micro}
	case "not-drawn":
		return NotDrawn{micro, "no lease"}
	case "answer":
		return From{peer, &wire.StageAnswer{Key: key, Version: number(t, d, "version", 0)}}
	case "refuse":
		code := map[string]wire.StageRefusalCode{
			"busy": wire.StageBusy, "moving": wire.StageMoving, "behind": wire.StageBehind, "stale": wire.StageStale,
			"broken": wire.StageBroken, "already": wire.StageAlready, "invalid": wire.StageInvalid,
		}[argument(d, "code", "busy")]
		return From{peer, &wire.StageRefusal{Key: key, Code: code, Reason: "so it is", Version: number(t, d, "version", 0)}}
	case "fail":
		return Failed{key, "stream reset"}
	case "counted":
		fate := map[string]wire.StageFate{"sum": wire.StageInSum, "given-up": wire.StageGivenUp, "unknown": wire.StageUnknown}[argument(d, "fate", "sum")]
		return From{peer, &wire.StageCounted{Key: key, Fate: fate}}
	case "reduced":
		return From{peer, &wire.StageReduced{
			Trainer: 1, Step: st.number, Try: st.try, Edition: number(t, d, "edition", st.edition), Stage: stage, NormSq: math.Float64bits(norm(t, d, float64(1+stage))),
		}}
	case "missing":
		return From{peer, &wire.StageMissing{
			Trainer: 1, Step: st.number, Try: st.try, Edition: number(t, d, "edition", st.edition), Stage: stage, Micros: list(t, argument(d, "micros", "")), Reason: "lost", Behind: d.HasArg("behind"),
		}}
	case "decided":
		return Decided{st.number, st.try, number(t, d, "edition", st.edition)}
	case "applied":
		return From{peer, &wire.StageApplied{Trainer: 1, Step: st.number, Stage: stage, Version: st.number + 1}}
	case "stop":
		return Stop{}
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return nil
}

type serverStory struct {
	names  names
	now    time.Time
	server *Server
}

func (s *serverStory) command(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "new" {
		s.now = storyStart
		var err error
		s.server, err = NewServer(ServerConfig{
			Stage: int(number(t, d, "stage", 0)), Stages: int(number(t, d, "stages", 2)), Mode: mode(d), Queue: int(number(t, d, "queue", 4)),
			Held: int(number(t, d, "held", 2)), Batch: int(number(t, d, "batch", 2)), Version: number(t, d, "version", 0), Limits: DefaultLimits(),
		})
		if err != nil {
			return err.Error() + "\n"
		}
		return lines(nil, s.server.Deadline())
	}
	if d.Cmd == "wait" {
		return lines(elapse(t, d, &s.now, s.server.Deadline, func(e Event) []Effect { return s.server.Step(s.now, e) }), s.server.Deadline())
	}
	if d.Cmd == "snapshot" {
		return fmt.Sprintf("%+v\n", s.server.Snapshot())
	}
	return lines(s.server.Step(s.now, s.event(t, d)), s.server.Deadline())
}

func (s *serverStory) event(t *testing.T, d *datadriven.TestData) Event {
	step := number(t, d, "step", s.server.version)
	if s.server.cfg.Mode == LocalSteps {
		step = 0
	}
	trainer := wire.Slot(number(t, d, "t", 1))
	from := s.names.peer(100 + uint64(trainer))
	try, edition, stage := number(t, d, "try", s.server.steps.try), number(t, d, "edition", 1), number(t, d, "s", uint64(s.server.cfg.Stage))
	key := wire.StageKey{Trainer: trainer, Step: step, Try: try, Micro: number(t, d, "m", 0), Stage: stage, Attempt: number(t, d, "attempt", 1)}
	switch d.Cmd {
	case "forward", "backward":
		return From{from, &wire.StageCall{Key: key, Backward: d.Cmd == "backward", Version: number(t, d, "version", 0)}}
	case "cancel":
		return From{from, &wire.StageCancel{Key: key}}
	case "accept":
		return From{from, &wire.StageAccept{Key: key}}
	case "computed":
		return Computed{key, 100 * time.Millisecond}
	case "compute-failed":
		return ComputeFailed{key, "out of memory"}
	case "added":
		return Added{key}
	case "close":
		c := &wire.StageClose{Trainer: trainer, Step: step, Try: try, Edition: edition, Stage: stage, Micros: list(t, argument(d, "micros", "")), Total: 2}
		for _, p := range list(t, argument(d, "members", "1")) {
			c.Members = append(c.Members, s.names.peer(p))
		}
		return From{from, c}
	case "reduced":
		return Reduced{step, try, edition, norm(t, d, 2.5)}
	case "reduce-failed":
		return ReduceFailed{step, try, edition, "p2 is gone"}
	case "apply":
		return From{from, &wire.StageApply{Trainer: trainer, Step: step, Try: try, Edition: edition, Stage: stage, NormSq: math.Float64bits(norm(t, d, 6.25))}}
	case "void":
		return From{from, &wire.StageVoid{Trainer: trainer, Step: step, Try: try}}
	case "stepped":
		return Stepped{number(t, d, "version", s.server.version+1)}
	case "moved":
		return Moved{number(t, d, "version", s.server.version+1)}
	case "leave":
		return Leave{}
	case "down":
		return PeerDown{from}
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return nil
}
