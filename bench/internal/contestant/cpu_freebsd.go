package contestant

import (
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the processor time of this process. getrusage(2) has only parts of it, which need not
// add up to it: see trial.Result.
func CPU() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

// Spins returns how often Spin goes round in a time. It goes by the clock of the process,
// because the writer of the load may take the processor meanwhile.
func Spins(t time.Duration) int {
	if t == 0 {
		return 0
	}
	best := time.Hour
	const n = 200_000
	for range 5 {
		begin := CPU()
		Spin(n)
		best = min(best, CPU()-begin)
	}
	return int(n * t / best)
}
