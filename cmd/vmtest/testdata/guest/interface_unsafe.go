package main

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"unsafe"
)

// createInterface clones an interface of the given kind and returns its name.
func createInterface(kind string) (string, error) {
	const siocIfCreate2 = 0xc020697c // SIOCIFCREATE2, sys/sockio.h
	req, err := request(siocIfCreate2, kind, 0)
	name, _, _ := bytes.Cut(req[:16], []byte{0})
	return string(name), err
}

func interfaceUp(name string) error {
	const siocSetFlags = 0x80206910 // SIOCSIFFLAGS
	_, err := request(siocSetFlags, name, syscall.IFF_UP)
	return err
}

// request makes an interface ioctl: struct ifreq is 16 bytes of name and 16 of union, memory that the kernel may write to.
func request(number uintptr, name string, value uint32) (req [32]byte, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return req, err
	}
	defer syscall.Close(fd)
	copy(req[:15], name)
	binary.NativeEndian.PutUint32(req[16:], value)
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), number, uintptr(unsafe.Pointer(&req))); e != 0 {
		return req, e
	}
	return req, nil
}
