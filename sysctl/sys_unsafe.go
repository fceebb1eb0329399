//go:build freebsd

package sysctl

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSysctl is __sysctl(2), which x/sys exports for reading by name alone. The
// pointers are converted in the call itself, so the memory stays in place for the length of it. nil
// slices become null pointers; an empty new that is not nil does not, so that a string can be emptied.
func rawSysctl(mib []int32, old, new []byte) (int, error) {
	n := uintptr(len(old))
	_, _, errno := unix.Syscall6(unix.SYS___SYSCTL,
		uintptr(unsafe.Pointer(unsafe.SliceData(mib))), uintptr(len(mib)),
		uintptr(unsafe.Pointer(unsafe.SliceData(old))), uintptr(unsafe.Pointer(&n)),
		uintptr(unsafe.Pointer(unsafe.SliceData(new))), uintptr(len(new)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
