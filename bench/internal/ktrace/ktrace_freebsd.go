package ktrace

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	opSet        = 0      // KTROP_SET
	opClear      = 1      // KTROP_CLEAR
	facilityCall = 1 << 1 // KTRFAC_SYSCALL
)

// Count traces the process while f runs. It does not count the call that ends the trace, nor a call
// that a thread had begun before. Count fails if the trace does not show the call that ended it.
func Count(f func() error) (Calls, error) {
	calls, err := trace(os.Getpid(), f)
	if err != nil {
		return nil, err
	}
	return calls.withoutEnd(unix.SYS_KTRACE)
}

// CountOf traces another process while f runs. f must have that process make a call of the number
// end. CountOf does not count those, and fails if the trace does not show one.
func CountOf(pid, end int, f func() error) (Calls, error) {
	calls, err := trace(pid, f)
	if err != nil {
		return nil, err
	}
	return calls.withoutEnd(end)
}

func trace(pid int, f func() error) (Calls, error) {
	file, err := os.CreateTemp("", "ktrace")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := ktrace(file.Name(), opSet, facilityCall, pid); err != nil {
		return nil, err
	}
	err = errors.Join(f(), ktrace(file.Name(), opClear, facilityCall, pid))
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, err
	}
	return parse(b)
}
