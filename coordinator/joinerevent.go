package coordinator

import (
	"fmt"
	"time"

	"dunlin/wire"
)

// JoinerEvent is something that happened to a worker's membership. Logged and
// Tick are shared with the coordinator's side.
//
//sumtype:decl
type JoinerEvent interface {
	joinerEvent()
	String() string
}

// Reached says that the control connection to the coordinator stands.
type Reached struct{}

// Lost says that there is no control connection: a dial failed or one broke.
type Lost struct{ Reason string }

// Welcomed is the coordinator's yes.
type Welcomed struct{ Welcome wire.Welcome }

// Refused is the coordinator's no.
type Refused struct{ Refuse wire.Refuse }

// CaughtUp says that the replica has reached the head and the data are here.
type CaughtUp struct{ Height uint64 }

// Warmed says that the first steps are timed.
type Warmed struct{ StepTime uint64 } // µs

// WindowsLeft reports leased windows not yet trained on. The driver reports
// after every step and every lease.
type WindowsLeft struct{ Windows uint64 }

// Drained asks the worker to leave in good order.
type Drained struct {
	Reason string
	AtOnce bool // it cannot finish its rounds any more: it says goodbye without
}

// HandedOver says that nothing of this worker's is undecided and its replica
// stands at the head.
type HandedOver struct{}

// Diverged says that the replica is being repaired: no training until CaughtUp.
type Diverged struct{ Reason string }

// DeviceLost says that there is nothing to train on: no training until CaughtUp.
type DeviceLost struct{ Reason string }

func (Reached) joinerEvent()     {}
func (Lost) joinerEvent()        {}
func (Welcomed) joinerEvent()    {}
func (Refused) joinerEvent()     {}
func (CaughtUp) joinerEvent()    {}
func (Warmed) joinerEvent()      {}
func (WindowsLeft) joinerEvent() {}
func (Drained) joinerEvent()     {}
func (HandedOver) joinerEvent()  {}
func (Diverged) joinerEvent()    {}
func (DeviceLost) joinerEvent()  {}
func (Logged) joinerEvent()      {}
func (Tick) joinerEvent()        {}

func (Reached) String() string { return "coordinator reached" }
func (e Lost) String() string  { return "coordinator lost: " + e.Reason }
func (e Welcomed) String() string {
	return fmt.Sprintf("welcomed: slot %d, head %d", e.Welcome.Slot, e.Welcome.Head)
}

func (e Refused) String() string {
	return fmt.Sprintf("refused (%d): %s", e.Refuse.Code, e.Refuse.Reason)
}
func (e CaughtUp) String() string    { return fmt.Sprintf("caught up at height %d", e.Height) }
func (e Warmed) String() string      { return fmt.Sprintf("warmed: %d µs a step", e.StepTime) }
func (e WindowsLeft) String() string { return fmt.Sprintf("%d windows left", e.Windows) }
func (e Drained) String() string {
	return "drain" + map[bool]string{true: " at once"}[e.AtOnce] + ": " + e.Reason
}
func (HandedOver) String() string   { return "handed over" }
func (e Diverged) String() string   { return "diverged: " + e.Reason }
func (e DeviceLost) String() string { return "device lost: " + e.Reason }

// JoinerEffect is something that a worker's membership wants done. Note is
// shared with the coordinator's side.
//
//sumtype:decl
type JoinerEffect interface {
	joinerEffect()
	String() string
}

// Dial asks for a control connection; the answer is Reached or Lost.
type Dial struct{ Attempt int }

// SendHello says hello. The driver fills in the ledger's head, the addresses
// and what is measured.
type SendHello struct{ Slot wire.Slot }

// TakeSlot gives the worker its slot: inner steps and leases count from 0.
type TakeSlot struct{ Slot wire.Slot }

// SetState tells the state and why, for people.
type SetState struct {
	State  wire.WorkerState
	Reason string
}

// StartSync asks for the replica and the data to reach the head.
type StartSync struct{ Head uint64 }

// StartTraining lets the inner loop run.
type StartTraining struct{}

// StopTraining halts the inner loop after the running step.
type StopTraining struct{ Reason string }

// SendHeartbeat tells the coordinator how the worker does. The driver fills in
// the figures.
type SendHeartbeat struct {
	Slot   wire.Slot
	State  wire.WorkerState
	Reason string
}

// RequestLease asks the coordinator for windows.
type RequestLease struct {
	Slot    wire.Slot
	Windows uint64
}

// HandOver asks that running rounds be finished or given up; HandedOver is the
// answer.
type HandOver struct{ Within time.Duration }

// SendLeave says goodbye.
type SendLeave struct {
	Slot   wire.Slot
	Reason string
}

// Finished ends the worker. Code is zero unless the coordinator refused it.
type Finished struct {
	Code   wire.RefuseCode
	Reason string
}

func (Dial) joinerEffect()          {}
func (SendHello) joinerEffect()     {}
func (TakeSlot) joinerEffect()      {}
func (SetState) joinerEffect()      {}
func (StartSync) joinerEffect()     {}
func (StartTraining) joinerEffect() {}
func (StopTraining) joinerEffect()  {}
func (SendHeartbeat) joinerEffect() {}
func (RequestLease) joinerEffect()  {}
func (HandOver) joinerEffect()      {}
func (SendLeave) joinerEffect()     {}
func (Finished) joinerEffect()      {}
func (Note) joinerEffect()          {}

func (e Dial) String() string         { return fmt.Sprintf("dial, attempt %d", e.Attempt) }
func (e SendHello) String() string    { return fmt.Sprintf("hello with slot %d", e.Slot) }
func (e TakeSlot) String() string     { return fmt.Sprintf("take slot %d", e.Slot) }
func (e SetState) String() string     { return fmt.Sprintf("state %s: %s", e.State, e.Reason) }
func (e StartSync) String() string    { return fmt.Sprintf("sync to height %d", e.Head) }
func (StartTraining) String() string  { return "start training" }
func (e StopTraining) String() string { return "stop training: " + e.Reason }
func (e SendHeartbeat) String() string {
	return fmt.Sprintf("heartbeat: slot %d, %s", e.Slot, e.State)
}

func (e RequestLease) String() string {
	return fmt.Sprintf("request %d windows for slot %d", e.Windows, e.Slot)
}
func (e HandOver) String() string  { return fmt.Sprintf("hand over within %v", e.Within) }
func (e SendLeave) String() string { return fmt.Sprintf("leave slot %d: %s", e.Slot, e.Reason) }
func (e Finished) String() string  { return fmt.Sprintf("finished (%d): %s", e.Code, e.Reason) }
