package load

import (
	"errors"
	"fmt"
	"strings"
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

// tasks returns the processor time of the threads of epair's own taskqueue. 14 has it, in the
// kernel's process. 12 gives the packets to netisr.
func tasks() (sum time.Duration, err error) {
	const kernel = 0
	list, err := lab.Processes("kern.proc.pid_td", kernel)
	if err != nil {
		return 0, err
	}
	for _, thread := range list {
		if strings.HasPrefix(thread.ThreadName(), "epair_task") {
			sum += thread.Runtime()
		}
	}
	return sum, nil
}

// carriers returns the processor time of everything that carries a Writer's packets: this process,
// which writes them, the kernel's interrupt threads, and epair's taskqueue.
func carriers() (time.Duration, error) {
	pid, err := interrupts()
	if err != nil {
		return 0, err
	}
	var own unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &own); err != nil {
		return 0, err
	}
	list, err := lab.Processes("kern.proc.pid", pid)
	if err != nil {
		return 0, err
	}
	if len(list) != 1 {
		return 0, fmt.Errorf("process %d is there %d times", pid, len(list))
	}
	queued, err := tasks()
	if err != nil {
		return 0, err
	}
	return time.Duration(own.Nano()) + list[0].Runtime() + queued, nil
}
