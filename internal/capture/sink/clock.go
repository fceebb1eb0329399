package sink

import "time"

// boundary returns the first moment after t at which the clock shows a multiple of every since
// midnight. every is whole seconds, and divides a day or is whole days.
//
// If the clock is put forward over such a moment, the boundary is when that happens.
func boundary(t time.Time, every time.Duration) time.Time {
	interval := int64(every / time.Second)
	now := shown(t)
	next := time.Unix(t.Unix()+interval-now%interval, 0).In(t.Location())
	_, change := t.ZoneBounds()
	if change.IsZero() || next.Before(change) {
		return next
	}
	then := shown(change)
	if then%interval == 0 || then/interval > now/interval {
		return change
	}
	return boundary(change, every)
}

// shown returns what the clock shows at t, in seconds since it showed the beginning of 1970.
func shown(t time.Time) int64 {
	_, offset := t.Zone()
	return t.Unix() + int64(offset)
}
