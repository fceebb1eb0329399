package load

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// interrupts is the number of the kernel's process that has the interrupt threads, also those of
// netisr.
var interrupts = sync.OnceValues(func() (int, error) {
	list, err := lab.Processes("kern.proc.proc")
	if err != nil {
		return 0, err
	}
	for _, p := range list {
		if p.Command() == "intr" {
			return p.PID(), nil
		}
	}
	return 0, errors.New("there is no process intr")
})

// runtime returns the processor time of a process, with that of all its threads.
func runtime(pid int) (time.Duration, error) {
	list, err := lab.Processes("kern.proc.pid", pid)
	if err != nil {
		return 0, err
	}
	if len(list) != 1 {
		return 0, fmt.Errorf("process %d is there %d times", pid, len(list))
	}
	return list[0].Runtime(), nil
}

// carriers returns the processor time of everything that carries a Writer's packets: this process,
// which writes them, the kernel's interrupt threads, and the kernel's own process. 14 has epair's
// taskqueue there, and 12 gives the packets to netisr. The kernel's other threads do little, and to
// ask for all of them each time would take longer than they do.
func carriers() (time.Duration, error) {
	const kernel = 0
	pid, err := interrupts()
	if err != nil {
		return 0, err
	}
	var own unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &own); err != nil {
		return 0, err
	}
	sum := time.Duration(own.Nano())
	for _, pid := range []int{pid, kernel} {
		used, err := runtime(pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}
