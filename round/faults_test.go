package round

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dunlin/wire"
)

func (w *world) disconnect(k *simWorker) {
	k.connected = false
	k.left = w.now.Add(millis(w.spec.Deadlines.Leave))
	w.say("slot %d is disconnected", k.slot)
	w.list()
}

func (w *world) reconnect(k *simWorker) {
	if !k.alive || k.connected || !w.up {
		return
	}
	k.connected = true
	w.say("slot %d is back", k.slot)
	w.list()
	w.send("L>"+k.peer.Short(), func() {
		w.follow(k)
		w.toMember(k, Reconnected{})
		w.toOwner(k, Reconnected{})
	})
}

// fault does one random harm.
func (w *world) fault() {
	all := w.sorted()
	if len(all) == 0 {
		w.join()
		return
	}
	k := all[w.rng.IntN(len(all))]
	switch w.rng.IntN(9) {
	case 0: // killed; others notice at once
		k.alive = false
		w.say("slot %d dies", k.slot)
		if k.connected {
			w.disconnect(k)
		}
		for _, other := range all {
			w.toOwner(other, PeerDown{k.peer})
		}
	case 1, 2:
		if k.connected {
			w.disconnect(k)
		}
	case 3, 4:
		w.reconnect(k)
	case 5:
		if len(all) < 6 && w.up {
			w.join()
		}
	case 6: // the coordinator restarts
		w.up = false
		w.queue = slices.DeleteFunc(w.queue, func(d delivery) bool { return d.lane == "log" })
		w.say("the coordinator dies")
		for _, k := range all {
			if k.connected {
				k.connected, k.left = false, w.now.Add(20*time.Second)
			}
		}
		w.reign()
	case 7: // messages of one lane are lost with their connection
		if len(w.queue) > 0 {
			lane := w.queue[w.rng.IntN(len(w.queue))].lane
			if strings.HasPrefix(lane, "L>") && k.connected && strings.HasSuffix(lane, k.peer.Short()) {
				w.queue = slices.DeleteFunc(w.queue, func(d delivery) bool { return d.lane == lane })
				w.disconnect(k)
			}
		}
	case 8:
		s := wire.Settings{Phase: wire.PhaseTraining, Reason: fmt.Sprint(w.height)}
		w.settings = s.Hash()
		w.append(&s, nil)
	}
}

// settle ends all faults: whoever lives is connected, two or more work.
func (w *world) settle() {
	alive := 0
	for _, k := range w.sorted() {
		if k.alive {
			alive++
			w.reconnect(k)
		}
	}
	for ; alive < 2; alive++ {
		w.join()
	}
}
