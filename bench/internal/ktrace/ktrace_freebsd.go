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
	facilityCSW  = 1 << 6 // KTRFAC_CSW
)

// Count traces the process while f runs. It does not count the call that ends the trace, nor a call
// that a thread had begun before. Count fails if the trace does not show the call that ended it.
func Count(f func() error) (Calls, error) {
	t, err := trace(os.Getpid(), facilityCall, f)
	if err != nil {
		return nil, err
	}
	return t.Calls.withoutEnd(unix.SYS_KTRACE)
}

// CountSleeps is Count, and also counts how often threads go to sleep.
func CountSleeps(f func() error) (t Trace, err error) {
	if t, err = trace(os.Getpid(), facilityCall|facilityCSW, f); err != nil {
		return t, err
	}
	t.Calls, err = t.Calls.withoutEnd(unix.SYS_KTRACE)
	return t, err
}

// CountOf traces another process while f runs. f must have that process make a call of the number
// end. CountOf does not count those, and fails if the trace does not show one.
func CountOf(pid, end int, f func() error) (Calls, error) {
	t, err := trace(pid, facilityCall, f)
	if err != nil {
		return nil, err
	}
	return t.Calls.withoutEnd(end)
}

func trace(pid int, facilities uintptr, f func() error) (t Trace, err error) {
	file, err := os.CreateTemp("", "ktrace")
	if err != nil {
		return t, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := ktrace(file.Name(), opSet, facilities, pid); err != nil {
		return t, err
	}
	err = errors.Join(f(), ktrace(file.Name(), opClear, facilities, pid))
	if err != nil {
		return t, err
	}
	b, err := os.ReadFile(file.Name())
	if err != nil {
		return t, err
	}
	return parse(b)
}
