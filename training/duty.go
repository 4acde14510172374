package training

import (
	"fmt"
	"time"
)

// Duty is the share of its time that a machine trains: above 0 to 1, or 0 for
// all of it. Whatever is left it rests after each step.
type Duty float64

// leastDuty keeps a rest below some hundred steps.
const leastDuty = 0.01

// Validate reports a share outside of its range.
func (d Duty) Validate() error {
	if d != 0 && !(d >= leastDuty && d <= 1) {
		return fmt.Errorf("duty %v: allowed are %v to 1, and 0 for all the time", float64(d), leastDuty)
	}
	return nil
}

// Rest returns how long to rest after a step.
func (d Duty) Rest(step time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	return time.Duration(float64(step) * (1/float64(d) - 1))
}
