//go:build freebsd

package main

import (
	"syscall"
	"unsafe"
)

// Package syscall has no function for these system calls. Each call passes pointers to memory. The
// Go runtime keeps that memory alive and in place for the length of the call, as rule 4 of
// unsafe.Pointer demands.

func ioctl(fd int, req uintptr, arg []byte) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), req,
		uintptr(unsafe.Pointer(&arg[0])))
	return errnoErr(errno)
}

// rawSysctl calls __sysctl(2). If old is nil, it returns only the length.
func rawSysctl(mib []int32, old []byte, new []byte) (int, error) {
	var oldp, newp unsafe.Pointer
	n := uintptr(len(old))
	if len(old) > 0 {
		oldp = unsafe.Pointer(&old[0])
	}
	lenp := &n
	if len(new) > 0 {
		newp = unsafe.Pointer(&new[0])
		if old == nil {
			lenp = nil
		}
	}
	_, _, errno := syscall.Syscall6(syscall.SYS___SYSCTL, uintptr(unsafe.Pointer(&mib[0])),
		uintptr(len(mib)),
		uintptr(oldp), uintptr(unsafe.Pointer(lenp)), uintptr(newp), uintptr(len(new)))
	return int(n), errnoErr(errno)
}

func iovec(b []byte) (v syscall.Iovec) {
	if len(b) > 0 {
		v.Base = &b[0]
		setLen(&v.Len, len(b))
	}
	return v
}

// setLen sets a length that has the size of a pointer.
func setLen[T uint32 | uint64](field *T, n int) { *field = T(n) }

// iovCall calls nmount(2) or jail_set(2). Their parameters are pairs of a name and a value. A nil
// value is a flag.
func iovCall(trap uintptr, flags int, params []param) (int, error) {
	iov := make([]syscall.Iovec, 0, 2*len(params))
	for _, p := range params {
		name := append([]byte(p.name), 0)
		iov = append(iov, iovec(name), iovec(p.value))
	}
	r, _, errno := syscall.Syscall(trap, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)),
		uintptr(flags))
	return int(r), errnoErr(errno)
}

// pathCall makes a system call whose first argument is a path.
func pathCall(trap uintptr, path string, arg uintptr) (int, error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return 0, err
	}
	r, _, errno := syscall.Syscall(trap, uintptr(unsafe.Pointer(p)), arg, 0)
	return int(r), errnoErr(errno)
}

// reaperControl calls procctl(2) on this process.
func reaperControl(command uintptr, arg []uint32) error {
	const sysProcctl, pPID = 544, 0 // SYS_procctl, P_PID
	var argp unsafe.Pointer
	if len(arg) > 0 {
		argp = unsafe.Pointer(&arg[0])
	}
	_, _, errno := syscall.Syscall6(sysProcctl, pPID, uintptr(syscall.Getpid()), command,
		uintptr(argp), 0, 0)
	return errnoErr(errno)
}

func settimeofday(tv syscall.Timeval) error {
	_, _, errno := syscall.Syscall(syscall.SYS_SETTIMEOFDAY, uintptr(unsafe.Pointer(&tv)), 0, 0)
	return errnoErr(errno)
}

func errnoErr(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
