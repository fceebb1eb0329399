package load

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of cpuset_setaffinity(2).
const (
	levelSet    = 2 // CPU_LEVEL_CPUSET
	levelWhich  = 3 // CPU_LEVEL_WHICH
	whichThread = 1 // CPU_WHICH_TID
	whichSet    = 3 // CPU_WHICH_CPUSET
	defaultSet  = 1 // of all processes that are in no other
)

// setAffinity binds something to the processors of a mask of 128 bytes.
func setAffinity(level, which uintptr, id int32, mask []byte) error {
	var e unix.Errno
	for _, size := range []uintptr{32, 128} { // of cpuset_t, before 14.0 and since
		_, _, e = unix.Syscall6(unix.SYS_CPUSET_SETAFFINITY, level, which, uintptr(id), size, uintptr(unsafe.Pointer(&mask[0])), 0)
		if e != unix.ERANGE {
			break
		}
	}
	if e != 0 {
		return fmt.Errorf("cpuset_setaffinity of %d: %w", id, e)
	}
	return nil
}
