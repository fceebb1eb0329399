//go:build freebsd

package sender

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl makes a request whose argument is in memory that lives as long as the call.
func ioctl(fd int, request uintptr, arg []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request,
		uintptr(unsafe.Pointer(&arg[0]))); errno != 0 {
		return errno
	}
	return nil
}
