package main

import (
	"syscall"
	"unsafe"
)

// createInterface clones an interface of the given kind. The request is memory
// that the kernel writes the name into.
func createInterface(kind string) error {
	const siocIfCreate2 = 0xc020697c // SIOCIFCREATE2, sys/sockio.h
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var req [32]byte
	copy(req[:], kind)
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), siocIfCreate2, uintptr(unsafe.Pointer(&req))); e != 0 {
		return e
	}
	return nil
}
