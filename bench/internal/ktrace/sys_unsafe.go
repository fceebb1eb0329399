//go:build freebsd

package ktrace

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ktrace calls ktrace(2).
func ktrace(file string, op, facilities uintptr, pid int) error {
	name, err := unix.BytePtrFromString(file)
	if err != nil {
		return err
	}
	_, _, e := unix.RawSyscall6(unix.SYS_KTRACE, uintptr(unsafe.Pointer(name)), op, facilities,
		uintptr(pid), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// Thread returns the number of the calling thread, as the records have it.
func Thread() int64 {
	var id int64
	unix.RawSyscall(unix.SYS_THR_SELF, uintptr(unsafe.Pointer(&id)), 0, 0)
	return id
}
