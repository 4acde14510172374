package round

import "dunlin/wire"

// Owing lists the connected peers for whom some round waits now, in the order of
// their slots: who has no Ready while others do, owners of slabs without a
// result, and who does not hold yet what is to spread. The driver asks them for
// signs of life, since a cut cable or a frozen process shows in nothing else.
func (l *Leader) Owing() []wire.PeerID {
	if l.deposed {
		return nil
	}
	owing := make(map[wire.PeerID]bool)
	for _, r := range l.rounds {
		switch r.phase {
		case Collecting:
			if len(r.readys) == 0 {
				continue
			}
			for _, w := range l.waiting(r) {
				if worker := l.worker(w.Slot); worker != nil {
					owing[worker.Peer] = true
				}
			}
		case Summing:
			set := r.attempt.owing()
			for rank, m := range r.attempt.members {
				if set>>uint(rank)&1 == 1 {
					owing[m.Peer] = true
				}
			}
		case Spreading:
			for _, m := range r.attempt.members {
				if !r.attempt.has(m.Peer) {
					owing[m.Peer] = true
				}
			}
		case Opening, Committing: // the log is waited for
		}
	}
	var out []wire.PeerID
	for _, w := range l.workers {
		if w.Connected && owing[w.Peer] {
			out = append(out, w.Peer)
			delete(owing, w.Peer)
		}
	}
	return out
}
