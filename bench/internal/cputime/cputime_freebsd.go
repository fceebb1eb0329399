package cputime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Process returns the processor time of this process. getrusage(2) has only parts of it, which need
// not add up to it: see trial.Result.
func Process() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}
