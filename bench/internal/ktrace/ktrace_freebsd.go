package ktrace

import (
	"errors"
	"maps"
	"os"

	"golang.org/x/sys/unix"
)

const (
	opSet        = 0      // KTROP_SET
	opClear      = 1      // KTROP_CLEAR
	facilityCall = 1 << 1 // KTRFAC_SYSCALL
)

// Count traces the process while f runs. The call that ends the trace is not counted, nor is one that a thread
// was in already.
func Count(f func() error) (Calls, error) {
	file, err := os.CreateTemp("", "ktrace")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	pid, self := os.Getpid(), Thread()
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
	release, err := unix.SysctlUint32("kern.osreldate")
	if err != nil {
		return nil, err
	}
	size := sizeofHeader
	if release >= 1400000 {
		size = sizeofHeader1
	}
	calls, err := parse(b, size)
	if err == nil {
		maps.DeleteFunc(calls, func(c Call, _ uint64) bool { return c.Thread == self && c.Number == unix.SYS_KTRACE })
	}
	return calls, err
}
