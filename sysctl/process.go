package sysctl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// kinfoProcLayouts has the offsets of two fields of struct kinfo_proc (sys/sys/user.h) by the size
// of the struct. The struct begins with its size. Each sys/ARCH/include/proc.h has that size
// (KINFO_PROC_SIZE), and the kernel asserts that the two agree. New members take spare room behind
// ki_comm. A 64-bit kernel converts the struct for 32-bit processes (freebsd32_kinfo_proc_out).
//
// amd64 and i386 differ by the width of pointers and longs. i386 and arm differ by time_t in struct
// timeval, which has 64 bits on arm.
var kinfoProcLayouts = map[uint32]struct{ pid, comm int }{
	1088: {72, 447}, // amd64, arm64, riscv64
	768:  {40, 367}, // i386
	816:  {40, 383}, // arm
}

// commLen is COMMLEN.
const commLen = 19

// ProcessName returns the name of a process's program (kern.proc.pid, ki_comm): up to 19 bytes, no
// path. The name is empty if the process does not exist, or if this process may not see it.
//
// Errors:
//   - [ErrRange]: pid does not fit into 32 bits.
//   - [ErrType]: this package does not know the kernel's struct kinfo_proc.
func (t Tree) ProcessName(pid int) (string, error) {
	const name = "kern.proc.pid"
	if pid != int(int32(pid)) {
		return "", opError("get", name, fmt.Errorf("%w: the process id %d does not fit into 32 bits",
			ErrRange, pid))
	}
	b, err := t.Raw(name, int32(pid))
	if errors.Is(err, syscall.ESRCH) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	got, comm, err := parseKinfoProc(b)
	if err == nil && got != int32(pid) {
		err = fmt.Errorf("%w: the kernel returned process %[3]d instead of %[2]d", ErrType, pid, got)
	}
	if err != nil {
		return "", opError("get", name, err)
	}
	return comm, nil
}

// parseKinfoProc returns ki_pid and ki_comm. It does not trust b.
func parseKinfoProc(b []byte) (pid int32, comm string, err error) {
	if len(b) < 4 {
		return 0, "", fmt.Errorf("%w: the kernel returned %d bytes, too few for a struct kinfo_proc",
			ErrType, len(b))
	}
	size := binary.NativeEndian.Uint32(b)
	l, known := kinfoProcLayouts[size]
	if !known || int(size) > len(b) {
		return 0, "", fmt.Errorf("%w: the kernel returned %d bytes with a struct kinfo_proc of %d; "+
			"1088, 816 and 768 are known", ErrType, len(b), size)
	}
	text, _, _ := bytes.Cut(b[l.comm:][:commLen+1], []byte{0})
	return int32(binary.NativeEndian.Uint32(b[l.pid:])), string(text), nil
}
