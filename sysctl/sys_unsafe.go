//go:build freebsd

package sysctl

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSysctl is __sysctl(2). x/sys exports only the reading by name. The call itself converts the
// pointers, so the memory stays in place during the call. A nil slice becomes a null pointer. An
// empty new that is not nil does not, so a caller can set a string to "".
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
