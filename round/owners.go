package round

import (
	"slices"

	"dunlin/wire"
)

// owners maps the slabs of a fragment to the members of an attempt. Where owners keep
// error feedback a slab stays with the one that summed it last (R10), unless the round
// has failed twice: that one may be whom half of the members cannot reach. Elsewhere the
// shares move on with every attempt, so that rounding favours nobody for long.
func (l *Leader) owners(fragment int, members []candidate) []wire.Share {
	slabs := l.cfg.Slabs[fragment]
	if !l.cfg.OwnerFeedback || l.rounds[fragment].failures > 1 {
		return shares(members, slabs, l.counter)
	}
	last := make([]wire.PeerID, slabs)
	for i := range last {
		last[i] = l.history.lastSum(fragment, uint64(i)).owner
	}
	return lastingShares(members, last, fragment*slabs)
}

// shares cuts the slabs into contiguous shares proportional to the members'
// upload. Members beyond the number of slabs own none. turn says who is first.
func shares(members []candidate, slabs int, turn uint64) []wire.Share {
	uploads, total := uploadsOf(members)
	n := uint64(len(members))
	var out []wire.Share
	var sum, from uint64
	for i := range n {
		rank := (turn + i) % n
		sum += uploads[rank]
		if to := uint64(slabs) * sum / total; to > from {
			out = append(out, wire.Share{From: from, To: to, Owner: rank, Standby: (rank + 1) % n})
			from = to
		}
	}
	return out
}

// lastingShares leaves every slab with the member that summed it last, as far as that
// is no more than its part by upload; the others go, in order, to the members that
// lack most of theirs, of equals the one at turn or the next.
func lastingShares(members []candidate, last []wire.PeerID, turn int) []wire.Share {
	uploads, total := uploadsOf(members)
	n := len(members)
	neediest := func(room []int) int {
		best := turn % n
		for i := range n {
			if r := (turn + i) % n; room[r] > room[best] {
				best = r
			}
		}
		return best
	}
	room := make([]int, n) // slabs that a member may still take
	for r := range room {
		room[r] = int((uint64(len(last))*uploads[r] + total - 1) / total)
	}
	owner := make([]int, len(last))
	for i, peer := range last {
		owner[i] = -1
		if r := slices.IndexFunc(members, func(c candidate) bool { return c.worker.Peer == peer }); r >= 0 && room[r] > 0 {
			owner[i] = r
			room[r]--
		}
	}
	var out []wire.Share
	for i, r := range owner {
		if r < 0 {
			r = neediest(room)
			room[r]--
		}
		if k := len(out) - 1; k >= 0 && out[k].Owner == uint64(r) {
			out[k].To++
			continue
		}
		out = append(out, wire.Share{From: uint64(i), To: uint64(i) + 1, Owner: uint64(r), Standby: uint64((r + 1) % n)})
	}
	return out
}

// uploadsOf returns the members' upload by rank and its sum; unknown and unlimited
// count as the fastest known. Mute ones have none, unless all are.
func uploadsOf(members []candidate) (uploads []uint64, total uint64) {
	const most = 1 << 40 // keeps slabs × the sum within 64 bits
	fastest := uint64(1)
	for _, m := range members {
		fastest = max(fastest, min(m.worker.Upload, most))
	}
	uploads = make([]uint64, len(members))
	allMute := !slices.ContainsFunc(members, func(m candidate) bool { return !m.mute })
	for r, m := range members {
		if uploads[r] = min(m.worker.Upload, most); uploads[r] == 0 {
			uploads[r] = fastest
		}
		if m.mute && !allMute {
			uploads[r] = 0
		}
		total += uploads[r]
	}
	return uploads, total
}
