package lab

import (
	"time"

	"golang.org/x/sys/unix"
)

// Realtime returns the time of day. If tick is true, it returns that of the last clock tick that
// the kernel has handled.
func Realtime(tick bool) time.Time {
	return clock(tick, unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_FAST)
}

// Uptime returns the time since boot. If tick is true, it returns that of the last clock tick that
// the kernel has handled.
func Uptime(tick bool) time.Duration {
	return clock(tick, unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_FAST).Sub(time.Unix(0, 0))
}

func clock(tick bool, precise, fast int32) time.Time {
	id := precise
	if tick {
		id = fast
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(err)
	}
	return time.Unix(ts.Unix())
}
