package main

import (
	"bytes"
	"fmt"
	"syscall"
	"unsafe"
)

// fileStat is struct kld_file_stat of sys/linker.h.
type fileStat struct {
	version  int32
	name     [1024]byte
	refs, id int32
	address  uintptr
	size     uintptr
	path     [1024]byte
}

// modules lists the kernel's files in the order in which it has loaded them.
func modules() (names []string, err error) {
	for id := uintptr(0); ; {
		next, _, errno := syscall.Syscall(syscall.SYS_KLDNEXT, id, 0, 0)
		if errno != 0 {
			return nil, fmt.Errorf("kldnext: %w", errno)
		}
		if id = next; id == 0 {
			return names, nil
		}
		st := new(fileStat)
		st.version = int32(unsafe.Sizeof(*st))
		_, _, errno = syscall.Syscall(syscall.SYS_KLDSTAT, id, uintptr(unsafe.Pointer(st)), 0)
		if errno != 0 {
			return nil, fmt.Errorf("kldstat: %w", errno)
		}
		name, _, _ := bytes.Cut(st.name[:], []byte{0})
		names = append(names, string(name))
	}
}
