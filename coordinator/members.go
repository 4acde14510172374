package coordinator

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"dunlin/wire"
)

// LeftByItself begins the reason of a Leave entry that the worker asked for.
const LeftByItself = "it left: "

// member is one live slot.
type member struct {
	slot     wire.Slot
	peer     wire.PeerID
	addrs    []string
	joined   uint64 // height
	name     string
	stage    uint64
	upload   uint64
	stepTime uint64
	beat     wire.Heartbeat
	seen     time.Time // last word
	fresh    bool      // admitted in this reign and not heard of since
	returned bool      // had the slot before this reign
	away     string    // why it is not connected; "" when it is
	leaveAt  time.Time // while away: when its slot ends
	leaving  string    // why its slot is being ended; "" when it is not
}

// visitor is a connected peer, in the run or not.
type visitor struct {
	peer    wire.PeerID
	hello   *wire.Hello // the newest; nil before the first and after a refusal
	fork    bool
	beat    wire.Heartbeat
	wants   bool      // a slot
	offered wire.Slot // in the admission under way
	height  uint64    // that it has applied, by its own word
	moved   time.Time // when height last rose
}

func (m *Machine) visit(peer wire.PeerID) *visitor {
	v := m.peers[peer]
	if v == nil {
		v = &visitor{peer: peer, moved: m.now}
		m.peers[peer] = v
	}
	return v
}

// slotOf returns the newest live slot of a peer.
func (m *Machine) slotOf(peer wire.PeerID) *member {
	var found *member
	for _, slot := range m.live {
		if b := m.members[slot]; b.peer == peer {
			found = b
		}
	}
	return found
}

func (m *Machine) hello(e HelloFrom) {
	v := m.visit(e.Peer)
	v.height, v.moved = e.Hello.Head, m.now
	if m.reign.phase == replaying { // another coordinator leads and answers
		m.reign.heard(e.Peer, &e.Hello)
		return
	}
	v.hello, v.fork = &e.Hello, e.Fork
	if m.reign.phase != leading {
		m.reign.heard(e.Peer, &e.Hello)
		return // answered when this coordinator leads
	}
	m.answer(v)
}

// answer admits, readmits or refuses a peer by its newest hello.
func (m *Machine) answer(v *visitor) {
	h := v.hello
	if code, reason := m.refusal(v); code != 0 {
		v.hello, v.wants = nil, false
		m.do(Send{To: v.peer, Message: &wire.Refuse{Code: code, Reason: limit(reason)}})
		return
	}
	if h.Role&wire.RoleWorker == 0 {
		m.welcome(v.peer, 0)
		return
	}
	b := m.members[h.Slot]
	if h.Slot == 0 {
		b = m.slotOf(v.peer)
		if b == nil || !b.fresh || b.leaving != "" {
			v.wants = true
			if b != nil && b.leaving == "" {
				b.leaving = "the same peer came back without its slot"
			}
			return
		}
	}
	b.greet(h, m.now)
	m.welcome(v.peer, b.slot)
}

// greet takes over what a hello says about a live slot.
func (b *member) greet(h *wire.Hello, now time.Time) {
	b.away, b.leaveAt, b.seen = "", time.Time{}, now
	b.addrs, b.name, b.upload = h.Addrs, h.Name, h.Upload
	if h.StepTime > 0 {
		b.stepTime = h.StepTime
	}
}

func (m *Machine) welcome(peer wire.PeerID, slot wire.Slot) {
	m.do(Send{To: peer, Message: &wire.Welcome{Slot: slot, Head: m.height, Term: m.reign.term}})
}

// refusal says why a peer may not stay, or code 0.
func (m *Machine) refusal(v *visitor) (wire.RefuseCode, string) {
	h := v.hello
	worker := h.Role&wire.RoleWorker != 0
	ban, banned := m.banned[v.peer]
	if !banned {
		ban, banned = m.bans[v.peer]
	}
	switch {
	case h.Protocol != wire.Protocol:
		return wire.RefuseVersion, fmt.Sprintf("this run speaks protocol %d, you speak %d: install the release that the organiser names", wire.Protocol, h.Protocol)
	case h.Run != m.cfg.Run:
		return wire.RefuseRun, fmt.Sprintf("this is run %s, your invite names %s: ask for a new invite", m.cfg.Run.Short(), h.Run.Short())
	case banned:
		return wire.RefuseBanned, "you are banned from this run: " + ban
	case !m.wasIn[v.peer] && !m.settings.Admits(m.cfg.Spec, h.Secret): // who was in once stays until banned
		return wire.RefuseSecret, "the run is private and the invite's secret is not, or no longer, its own: ask the organiser for an invite"
	case v.fork:
		return wire.RefuseFork, fmt.Sprintf("your ledger and this coordinator's differ at height %d or below: keep your folder, start with an empty one and tell the organiser", h.Head)
	case h.Head > m.height && h.HeadTerm != m.reign.term:
		return wire.RefuseFork, fmt.Sprintf("your ledger reaches height %d, this coordinator's only %d: if it was restored from a backup, the organiser must restart it while you are connected", h.Head, m.height)
	case !worker:
		return 0, ""
	case worker && h.Stage >= uint64(m.cfg.Spec.StageCount()):
		return wire.RefuseRun, fmt.Sprintf("this run has %d stages, you serve stage %d: start with an empty folder", m.cfg.Spec.StageCount(), h.Stage+1)
	case h.Slot != 0 && (m.members[h.Slot] == nil || m.members[h.Slot].peer != v.peer || m.members[h.Slot].leaving != ""):
		return wire.RefuseSlot, fmt.Sprintf("slot %d has ended: ask for a new one", h.Slot)
	case h.Slot == 0 && m.Phase() == wire.PhaseEnded:
		return wire.RefuseEnded, "the run has ended: " + m.settings.Reason
	case h.Slot == 0 && m.taken(v.peer) >= m.most():
		return wire.RefuseFull, fmt.Sprintf("the run takes %d workers and has them: try again later", m.most())
	}
	return 0, ""
}

// taken counts the slots that others have or are being given.
func (m *Machine) taken(peer wire.PeerID) int {
	n := 0
	for _, b := range m.members {
		if b.peer != peer && b.leaving == "" {
			n++
		}
	}
	for _, v := range m.peers {
		if v.wants && v.peer != peer {
			n++
		}
	}
	return n
}

func (m *Machine) disconnected(e Disconnected) {
	delete(m.peers, e.Peer)
	m.reign.forget(e.Peer)
	for _, slot := range m.live {
		b := m.members[slot]
		if b.peer != e.Peer {
			continue
		}
		delete(m.asks, slot)
		if b.away == "" {
			b.away = "connection lost: " + e.Reason
			b.leaveAt = m.now.Add(milliseconds(m.deadlines().Leave))
		}
	}
}

// heartbeat takes in a sign of life and reports whether it is news, which most are
// not: then nothing but the time changes that its slot would end by.
func (m *Machine) heartbeat(e HeartbeatFrom) (news bool) {
	h := e.Heartbeat
	v := m.visit(e.Peer)
	news = h.State != v.beat.State || h.Holds != v.beat.Holds
	v.beat = h
	if h.Height > v.height {
		v.height, v.moved = h.Height, m.now
	}
	if h.Slot == 0 {
		return news
	}
	b := m.members[h.Slot]
	if b == nil || b.peer != e.Peer {
		// One that has another slot, or is being given one, has not read of it
		// yet: a refusal would come behind the welcome and cost it that slot.
		if m.reign.phase == leading && !v.wants && m.slotOf(e.Peer) == nil {
			m.do(Send{To: e.Peer, Message: &wire.Refuse{Code: wire.RefuseSlot, Reason: fmt.Sprintf("slot %d has ended: ask for a new one", h.Slot)}})
		}
		return true
	}
	news = news || h.State != b.beat.State || b.fresh || b.away != "" || m.silent(b)
	b.beat, b.seen, b.fresh = h, m.now, false
	b.away, b.leaveAt = "", time.Time{}
	// Members are told anew only when the step time has changed enough to matter.
	if h.StepTime > 0 && (h.StepTime > b.stepTime+b.stepTime/10 || h.StepTime < b.stepTime-b.stepTime/10) {
		b.stepTime, news = h.StepTime, true
	}
	m.leases.stepped(h.Slot, h.Step)
	return news
}

func (m *Machine) leaveFrom(e LeaveFrom) {
	if b := m.members[e.Leave.Slot]; b != nil && b.peer == e.Peer && b.leaving == "" {
		b.leaving = limit(LeftByItself + e.Leave.Reason)
	}
}

// memberLogged moves membership by one entry.
func (m *Machine) memberLogged(height uint64, e *wire.Member) {
	delete(m.proposed, memberProposal(e))
	switch e.Op {
	case wire.MemberAdmit:
		m.admitted(height, e)
	case wire.MemberBan:
		m.banned[e.Peer] = e.Reason
		m.ended(e)
		if m.peers[e.Peer] != nil && m.reign.phase == leading {
			m.do(Send{To: e.Peer, Message: &wire.Refuse{Code: wire.RefuseBanned, Reason: limit("you are banned from this run: " + e.Reason)}})
		}
	case wire.MemberLeave:
		m.ended(e)
	}
}

func (m *Machine) admitted(height uint64, e *wire.Member) {
	if e.Slot <= m.lastSlot {
		m.note("slot %d was given before; the entry at height %d is ignored", e.Slot, height)
		return
	}
	if e.Stage >= uint64(m.cfg.Spec.StageCount()) {
		m.note("slot %d is in stage %d of %d; the entry at height %d is ignored", e.Slot, e.Stage+1, m.cfg.Spec.StageCount(), height)
		return
	}
	m.lastSlot = e.Slot
	m.wasIn[e.Peer] = true
	if old := m.slotOf(e.Peer); old != nil && old.leaving == "" {
		old.leaving = fmt.Sprintf("the same peer has slot %d", e.Slot)
	}
	b := &member{slot: e.Slot, peer: e.Peer, addrs: e.Addrs, stage: e.Stage, joined: height, away: "not back since this coordinator started"}
	m.members[e.Slot] = b
	m.live = append(m.live, e.Slot) // slots only rise
	m.leases.begin(e.Slot)
	if m.reign.phase != leading {
		return
	}
	b.fresh, b.away, b.leaveAt = true, "it left before it was admitted", m.now.Add(milliseconds(m.deadlines().Leave))
	if v := m.peers[e.Peer]; v != nil && v.hello != nil {
		v.wants, v.offered = false, 0
		b.greet(v.hello, m.now)
		m.welcome(e.Peer, e.Slot)
	}
}

// ended takes a slot out of the run; its windows go back.
func (m *Machine) ended(e *wire.Member) {
	b := m.members[e.Slot]
	if b == nil {
		return
	}
	delete(m.members, e.Slot)
	m.live = slices.DeleteFunc(m.live, func(s wire.Slot) bool { return s == e.Slot })
	delete(m.asks, e.Slot)
	delete(m.proposed, proposal{kind: wire.KindLease, slot: e.Slot})
	m.leases.end(e.Slot)
}

// memberProposal names a membership entry: an admission by its peer, an end by
// its slot.
func memberProposal(e *wire.Member) proposal {
	if e.Op == wire.MemberAdmit {
		return proposal{kind: wire.KindMember, peer: e.Peer}
	}
	return proposal{kind: wire.KindMember, slot: e.Slot}
}

func (m *Machine) proposeBans() {
	for _, slot := range m.live {
		b := m.members[slot]
		if reason, ok := m.bans[b.peer]; ok {
			e := &wire.Member{Op: wire.MemberBan, Slot: slot, Peer: b.peer, Reason: reason}
			if m.append(memberProposal(e), e) {
				b.leaving = "banned: " + reason
			}
		}
	}
}

// proposeLeaves ends slots whose worker went, or is silent for too long.
func (m *Machine) proposeLeaves() {
	for _, slot := range m.live {
		b := m.members[slot]
		if b.leaving == "" && !m.overdue(b) {
			continue
		}
		reason := b.leaving
		switch {
		case reason != "":
		case b.away != "":
			reason = b.away
		default:
			reason = fmt.Sprintf("silent for %v", milliseconds(m.deadlines().Silence))
		}
		b.leaving = limit(reason)
		e := &wire.Member{Op: wire.MemberLeave, Slot: slot, Peer: b.peer, Reason: b.leaving}
		m.append(memberProposal(e), e)
	}
}

// overdue reports whether a slot's time is up; lapse is when that will be.
func (m *Machine) overdue(b *member) bool {
	at := b.leaveAt
	if b.away == "" {
		at = b.seen.Add(milliseconds(m.deadlines().Silence + m.deadlines().Leave))
	}
	return !m.now.Before(at)
}

// lapse returns when the standing of a slot changes by time alone.
func (m *Machine) lapse(b *member) time.Time {
	d := m.deadlines()
	switch {
	case b.leaving != "":
		return time.Time{} // its proposal has a deadline
	case b.away != "":
		return b.leaveAt
	case m.silent(b):
		return b.seen.Add(milliseconds(d.Silence + d.Leave))
	}
	return b.seen.Add(milliseconds(d.Silence))
}

func (m *Machine) silent(b *member) bool {
	return !m.now.Before(b.seen.Add(milliseconds(m.deadlines().Silence)))
}

// proposeAdmissions gives slots to those who want one, once their older slot
// has ended.
func (m *Machine) proposeAdmissions() {
	var asking []wire.PeerID
	for peer, v := range m.peers {
		if v.wants && m.slotOf(peer) == nil {
			asking = append(asking, peer)
		}
	}
	slices.SortFunc(asking, comparePeers)
	for _, peer := range asking {
		v := m.peers[peer]
		if _, under := m.proposed[proposal{kind: wire.KindMember, peer: peer}]; under {
			continue
		}
		// A slot that was proposed and lost is not proposed again: if it still
		// comes, it must not be somebody else's.
		v.offered = m.lastSlot + 1
		for _, other := range m.peers {
			if other != v {
				v.offered = max(v.offered, other.offered+1)
			}
		}
		e := &wire.Member{Op: wire.MemberAdmit, Slot: v.offered, Peer: peer, Reason: "it asked to join", Addrs: v.hello.Addrs, Stage: v.hello.Stage}
		m.append(memberProposal(e), e)
	}
}

// visitors returns the connected peers in order.
func (m *Machine) visitors() []wire.PeerID {
	out := make([]wire.PeerID, 0, len(m.peers))
	for p := range m.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, comparePeers)
	return out
}

func comparePeers(a, b wire.PeerID) int { return bytes.Compare(a[:], b[:]) }

// active reports whether rounds wait for a slot. One that had it before this reign
// trained through the coordinator's absence, until its first heartbeat says otherwise:
// were it not waited for, whoever is back first would make a round alone.
func (m *Machine) active(b *member) bool {
	if b.away != "" || b.leaving != "" || m.silent(b) {
		return false
	}
	return b.beat.State == wire.StateWarming || b.beat.State == wire.StateTraining || b.beat.State == 0 && b.returned
}

// tellMembers says who is in the run whenever that changes, and notes when it may
// change by time alone.
func (m *Machine) tellMembers() {
	if m.reign.phase != leading {
		return
	}
	m.lapses = time.Time{}
	list := make([]Member, 0, len(m.members))
	for _, slot := range m.live {
		b := m.members[slot]
		m.lapses = earlier(m.lapses, m.lapse(b))
		list = append(list, Member{
			Slot: slot, Peer: b.peer, Addrs: b.addrs, Stage: b.stage, Upload: b.upload, StepTime: b.stepTime, Joined: b.joined,
			Connected: b.away == "" && !m.silent(b), Active: m.active(b),
		})
	}
	same := func(a, b Member) bool {
		return a.Slot == b.Slot && a.Peer == b.Peer && slices.Equal(a.Addrs, b.Addrs) && a.Stage == b.Stage && a.Upload == b.Upload &&
			a.StepTime == b.StepTime && a.Joined == b.Joined && a.Connected == b.Connected && a.Active == b.Active
	}
	if m.listed == nil || !slices.EqualFunc(m.listed, list, same) {
		m.listed = list
		m.do(Members{List: slices.Clone(list)})
	}
}

// leaseAsked remembers what a worker asked for; a lease is proposed when none
// is under way.
func (m *Machine) leaseAsked(e LeaseAsked) {
	b := m.members[e.Request.Slot]
	if b == nil || b.peer != e.Peer || b.leaving != "" || m.Phase() == wire.PhaseEnded {
		m.note("no lease for slot %d of %s: the slot is not in the run, or the run has ended", e.Request.Slot, e.Peer.Short())
		return
	}
	m.asks[e.Request.Slot] = e.Request.Windows
}

func (m *Machine) proposeLeases() {
	if m.Phase() == wire.PhaseEnded {
		return
	}
	for _, slot := range sorted(m.asks) {
		key := proposal{kind: wire.KindLease, slot: slot}
		if _, under := m.proposed[key]; under || m.asks[slot] == 0 || m.members[slot].leaving != "" {
			continue
		}
		granted, err := m.leases.propose(slot, m.asks[slot])
		if err != nil {
			delete(m.asks, slot)
			m.note("no lease for slot %d: %v", slot, err)
			continue
		}
		m.append(key, &wire.Lease{Slot: slot, Ranges: granted})
	}
}
