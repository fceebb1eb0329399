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
	facilityRet  = 1 << 2 // KTRFAC_SYSRET
	facilityCSW  = 1 << 6 // KTRFAC_CSW
)

// Count traces the process while f runs. It does not count the call that ends the trace, nor a call
// that a thread had begun before. Count fails if the trace does not show the call that ended it.
func Count(f func() error) (Calls, error) {
	t, err := count(os.Getpid(), facilityCall, f)
	if err != nil {
		return nil, err
	}
	return t.Calls.withoutEnd(unix.SYS_KTRACE)
}

// CountSleeps is Count, and also counts how often threads go to sleep.
func CountSleeps(f func() error) (t Trace, err error) {
	if t, err = count(os.Getpid(), facilityCall|facilityCSW, f); err != nil {
		return t, err
	}
	t.Calls, err = t.Calls.withoutEnd(unix.SYS_KTRACE)
	return t, err
}

// CountOf traces another process while f runs. f must have that process make a call of the number
// end. CountOf does not count those, and fails if the trace does not show one.
func CountOf(pid, end int, f func() error) (Calls, error) {
	t, err := count(pid, facilityCall, f)
	if err != nil {
		return nil, err
	}
	return t.Calls.withoutEnd(end)
}

// Wakes returns the wake-ups of all threads while f runs. It fails if the trace does not show the
// call that ended it.
func Wakes(f func() error) ([]Wake, error) {
	b, err := trace(os.Getpid(), facilityCall|facilityRet|facilityCSW, f)
	if err != nil {
		return nil, err
	}
	t, err := parse(b)
	if err != nil {
		return nil, err
	}
	if _, err := t.Calls.withoutEnd(unix.SYS_KTRACE); err != nil {
		return nil, err
	}
	return parseWakes(b)
}

func count(pid int, facilities uintptr, f func() error) (t Trace, err error) {
	b, err := trace(pid, facilities, f)
	if err != nil {
		return t, err
	}
	return parse(b)
}

// trace returns what the kernel has written while f ran.
func trace(pid int, facilities uintptr, f func() error) ([]byte, error) {
	file, err := os.CreateTemp("", "ktrace")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := ktrace(file.Name(), opSet, facilities, pid); err != nil {
		return nil, err
	}
	err = errors.Join(f(), ktrace(file.Name(), opClear, facilities, pid))
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file.Name())
}
