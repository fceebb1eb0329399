//go:build freebsd

package main

import (
	"fmt"
	"strconv"
	"syscall"
	"unsafe"
)

// mountTmpfs mounts a file system of the given size. The pointers are to memory that lives as long
// as the call.
func mountTmpfs(dir string, bytes int) error {
	var iov []syscall.Iovec
	for _, s := range []string{"fstype", "tmpfs", "fspath", dir, "size", strconv.Itoa(bytes)} {
		b, err := syscall.BytePtrFromString(s)
		if err != nil {
			return err
		}
		v := syscall.Iovec{Base: b}
		v.SetLen(len(s) + 1)
		iov = append(iov, v)
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_NMOUNT, uintptr(unsafe.Pointer(&iov[0])),
		uintptr(len(iov)), 0); errno != 0 {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, errno)
	}
	return nil
}
