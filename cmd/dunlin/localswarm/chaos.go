package localswarm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"dunlin/round"
	"dunlin/status"
)

// Chaos at full length: a kill about every fifteen seconds, a replacement two seconds later.
const (
	killEvery   = 15 * time.Second
	reviveAfter = 2 * time.Second
	huntWithin  = 15 * time.Second        // for an owner in mid-round; then whoever comes
	frozenFor   = 1500 * time.Millisecond // at most, below what makes the others give a silent peer up
	snapshotLag = 50 * time.Millisecond   // between what a worker did and what the coordinator knows of it
	leadSpared  = 7 * time.Second         // after a death in a stage, so that its slot has ended: a coordinator that starts waits long for those that the log names
	huntedFirst = 0.2                     // share of the run at which the first worker is killed, if that is earlier
	leadKilled  = 0.45                    // share at which the coordinator is
	calmAfter   = 0.7                     // share after which nobody is
)

// Chaos kills and replaces processes of a local swarm while it trains: workers at random times, at least one of them
// while it owes slabs of a round, one that comes back to its own folder, and the coordinator once.
type Chaos struct {
	swarm *Swarm
	rng   *rand.Rand

	start     time.Time
	length    time.Duration
	next      time.Time // kill of a worker
	every     time.Duration
	Hunting   bool // the next victim is to be an owner in mid-round
	huntUntil time.Time
	frozen    *Worker // by the hunt, until it owes slabs
	frozenAt  time.Time
	killedAt  time.Time // the newest death of a worker
	lead      bool      // the coordinator has had its turn
	fallen    *Seat     // the coordinator that is dead
	Down      bool      // and with it the only one
	leadBack  time.Time
	returns   []comeback

	killed, owners, returned, restarts int
	stages                             []int // killed in each, of a run with stages
}

// comeback is a worker to start again, in its own folder or in a fresh one.
type comeback struct {
	at     time.Time
	worker *Worker // nil for a new one
}

// NewChaos begins with a swarm that is to train for so long, in so many stages.
func NewChaos(s *Swarm, rng *rand.Rand, start time.Time, length time.Duration, stages int) *Chaos {
	c := &Chaos{swarm: s, rng: rng, start: start, length: length, every: min(killEvery, length/4)}
	if stages > 1 {
		c.stages = make([]int, stages)
		c.every = min(c.every, time.Duration(float64(length)*calmAfter/float64(stages+2))) // each is to be struck
	}
	c.next = start.Add(c.every)
	return c
}

// share is how much of the run is over, by its time or by its budget.
func (c *Chaos) share(now time.Time, shot *status.Snapshot) float64 {
	return max(float64(now.Sub(c.start))/float64(c.length), float64(shot.Run.Tokens)/float64(max(1, shot.Run.TokenBudget)))
}

// Act does what is due. shot is the newest snapshot, or nil.
func (c *Chaos) Act(ctx context.Context, shot *status.Snapshot) error {
	now := time.Now()
	if err := c.revive(ctx, now); err != nil {
		return err
	}
	if c.Down || shot == nil || shot.Run.Phase != "training" {
		c.EndHunt()
		return nil
	}
	share := c.share(now, shot)
	leadDue := !c.lead && share > leadKilled
	if c.stages != nil && leadDue {
		if leadDue = !slices.Contains(c.stages, 0) || share > calmAfter; leadDue && now.Before(c.killedAt.Add(leadSpared)) {
			return nil
		}
	}
	if leadDue && len(c.returns) == 0 && !c.Hunting {
		c.fallen = c.swarm.Coordinator
		c.fallen.killed = true
		c.fallen.kill()
		c.lead, c.Down, c.leadBack = true, len(c.swarm.seats) == 1, now.Add(c.absence())
		return nil
	}
	// A replacement needs a while to join, and to have a part in the end.
	if share > calmAfter {
		c.EndHunt()
		return nil
	}
	early := c.killed == 0 && share > huntedFirst
	if now.Before(c.next) && !early || len(c.returns) > 0 || shot.Health.Training < min(3, len(c.alive())) {
		return nil
	}
	// A hunt takes time that, once one was in vain, is for the stages that were not struck.
	if c.owners == 0 && !c.Hunting && (c.killed == 0 || !slices.Contains(c.stages, 0)) {
		c.Hunting, c.huntUntil = true, now.Add(min(huntWithin, c.every))
	}
	victim := c.victim(shot, now)
	if victim == nil {
		return nil
	}
	victim.Killed = true
	victim.kill()
	if c.Hunting && c.owed(ctx, victim, shot) {
		c.owners++
	}
	c.EndHunt()
	c.killedAt = now
	c.killed++
	if c.stages != nil {
		c.stages[victim.Tally.Last.Stage]++
	}
	c.next = now.Add(c.every*3/4 + time.Duration(c.rng.Int64N(int64(c.every/2))))
	back := comeback{at: now.Add(reviveAfter)}
	if c.killed == 2 {
		back.worker = victim
	}
	c.returns = append(c.returns, back)
	return nil
}

// absence is how long the coordinator stays away: of several, long enough that the others have to do without.
func (c *Chaos) absence() time.Duration {
	if len(c.swarm.seats) == 1 {
		return reviveAfter
	}
	return c.length / 8
}

// revive starts what was killed a while ago.
func (c *Chaos) revive(ctx context.Context, now time.Time) error {
	if c.fallen != nil && now.After(c.leadBack) {
		if err := c.swarm.startCoordinator(ctx, c.fallen); err != nil {
			return fmt.Errorf("restart the coordinator: %w", err)
		}
		c.fallen, c.Down = nil, false
		c.restarts++
	}
	if c.Down || len(c.returns) == 0 || now.Before(c.returns[0].at) {
		return nil
	}
	back := c.returns[0]
	c.returns = c.returns[1:]
	if back.worker == nil {
		return c.swarm.startWorker()
	}
	c.returned++
	return c.swarm.run(back.worker)
}

// alive returns the workers that run.
func (c *Chaos) alive() []*Worker {
	var out []*Worker
	for _, w := range c.swarm.Workers {
		if !w.Killed && w.Running() {
			out = append(out, w)
		}
	}
	return out
}

// victim chooses whom to kill: one that owes slabs of a round while hunting, else anyone.
func (c *Chaos) victim(shot *status.Snapshot, now time.Time) *Worker {
	if c.Hunting && now.Before(c.huntUntil) {
		return c.hunt(shot, now)
	}
	alive := c.alive()
	c.rng.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	if c.stages != nil { // one of the stage that was struck least
		slices.SortStableFunc(alive, func(a, b *Worker) int { return c.stages[a.Tally.Last.Stage] - c.stages[b.Tally.Last.Stage] })
	}
	return alive[0]
}

// hunt looks for a worker that owes slabs. Owners sum within milliseconds, and a snapshot is older than that, so a
// worker that has said Ready is frozen first: a round that opens with it stands still until it is killed.
func (c *Chaos) hunt(shot *status.Snapshot, now time.Time) *Worker {
	if c.frozen != nil {
		if owes(shot, c.frozen.ID) != "" && shot.At.Sub(c.frozenAt) > snapshotLag {
			return c.frozen
		}
		if now.Sub(c.frozenAt) > frozenFor {
			c.thaw()
		}
		return nil
	}
	for _, w := range c.alive() {
		owing := owes(shot, w.ID) != ""
		if !owing && !saidReady(shot, w.ID) {
			continue
		}
		if w.freeze() {
			c.frozen, c.frozenAt = w, now
			return nil
		}
		if owing { // a system without a way to freeze
			return w
		}
	}
	return nil
}

// EndHunt lets go of whom the hunt holds.
func (c *Chaos) EndHunt() {
	c.Hunting = false
	c.thaw()
}

func (c *Chaos) thaw() {
	if c.frozen != nil {
		c.frozen.thaw()
		c.frozen = nil
	}
}

// owed reports whether a killed worker died owing slabs: the round that it owed them to still waits for it.
func (c *Chaos) owed(ctx context.Context, w *Worker, before *status.Snapshot) bool {
	attempt := owes(before, w.ID)
	after, err := c.swarm.Look(ctx)
	if attempt == "" || err != nil {
		return false
	}
	for _, r := range after.Rounds {
		if r.Attempt == attempt {
			return r.Summed == nil || before.At.Equal(after.At) || *r.Summed > after.At.Sub(after.Run.Started).Seconds()
		}
	}
	return false
}

// owes returns the attempt that waits for slabs of a worker, or nothing.
func owes(shot *status.Snapshot, id string) string {
	for _, r := range shot.Rounds {
		if r.Phase != round.Summing.String() {
			continue
		}
		for i := range shot.Peers {
			if p := &shot.Peers[i]; p.ID == id && p.Alive && waitedFor(r.Waiting, p.Slot) {
				return r.Attempt
			}
		}
	}
	return ""
}

// saidReady reports whether a round that waits for others has this worker's contribution.
func saidReady(shot *status.Snapshot, id string) bool {
	for _, r := range shot.Rounds {
		if r.Phase != round.Collecting.String() || r.Closed != nil || r.Ready == nil || len(r.Waiting) == 0 {
			continue
		}
		for i := range shot.Peers {
			if p := &shot.Peers[i]; p.ID == id && p.Alive && p.State == "training" && !waitedFor(r.Waiting, p.Slot) {
				return true
			}
		}
	}
	return false
}

// waitedFor reports whether a slot is among those that a round waits for.
func waitedFor(waiting []string, slot uint64) bool {
	return slices.ContainsFunc(waiting, func(text string) bool { return strings.HasPrefix(text, fmt.Sprintf("slot %d: ", slot)) })
}

// String sums up what was done to the swarm.
func (c *Chaos) String() string {
	struck := ""
	if c.stages != nil {
		struck = fmt.Sprintf(" (in each stage: %s)", strings.Trim(fmt.Sprint(c.stages), "[]"))
	}
	return fmt.Sprintf("killed %d workers%s, %d of them while they summed a round; %d came back to its folder, the others were replaced; the coordinator was killed and restarted %d times",
		c.killed, struck, c.owners, c.returned, c.restarts)
}
