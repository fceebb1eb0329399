package sysctl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// Where struct kinfo_proc has what is needed of it, by its size, which it begins with. The struct is in
// sys/sys/user.h, its size in each sys/ARCH/include/proc.h (KINFO_PROC_SIZE), and the kernel asserts that they agree;
// new members take spare room behind ki_comm. A 64-bit kernel converts it for 32-bit processes
// (freebsd32_kinfo_proc_out). Pointers and longs account for the
// difference between the first two, the 64-bit time_t of struct timeval for that between the others.
var kinfoProcLayouts = map[uint32]struct{ pid, comm int }{
	1088: {72, 447}, // amd64, arm64, riscv64
	768:  {40, 367}, // i386
	816:  {40, 383}, // arm
}

// commLen is COMMLEN.
const commLen = 19

// ProcessName returns the name of a process's program (kern.proc.pid, ki_comm): up to 19 bytes, no path. It is
// empty when there is no such process, or none that this one may see.
func (t Tree) ProcessName(pid int) (string, error) {
	const name = "kern.proc.pid"
	if pid != int(int32(pid)) {
		return "", opError("get", name, fmt.Errorf("%w: process id %d", ErrRange, pid))
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
		err = fmt.Errorf("%w: asked for process %d, got %d", ErrType, pid, got)
	}
	if err != nil {
		return "", opError("get", name, err)
	}
	return comm, nil
}

// parseKinfoProc returns ki_pid and ki_comm. Nothing in b is trusted.
func parseKinfoProc(b []byte) (pid int32, comm string, err error) {
	if len(b) < 4 {
		return 0, "", fmt.Errorf("%w: %d bytes, no struct kinfo_proc", ErrType, len(b))
	}
	size := binary.NativeEndian.Uint32(b)
	l, known := kinfoProcLayouts[size]
	if !known || int(size) > len(b) {
		return 0, "", fmt.Errorf("%w: %d bytes with a struct kinfo_proc of %d, where 1088, 816 or 768 are known", ErrType, len(b), size)
	}
	text, _, _ := bytes.Cut(b[l.comm:][:commLen+1], []byte{0})
	return int32(binary.NativeEndian.Uint32(b[l.pid:])), string(text), nil
}
