package mailbox

import "time"

// Arm sets a timer to a deadline; the zero time means none.
func Arm(timer *time.Timer, deadline time.Time) {
	if deadline.IsZero() {
		timer.Reset(time.Hour)
		return
	}
	timer.Reset(max(0, time.Until(deadline)))
}
