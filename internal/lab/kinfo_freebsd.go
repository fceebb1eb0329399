package lab

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Kinfo is struct kinfo_proc (sys/user.h) of 64-bit FreeBSD: a process, or a thread.
type Kinfo [1088]byte

// Processes returns the structs that a sysctl below kern.proc returns.
func Processes(name string, args ...int) (list []Kinfo, err error) {
	b, err := unix.SysctlRaw(name, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for ; len(b) >= len(Kinfo{}); b = b[len(Kinfo{}):] {
		if size := binary.NativeEndian.Uint32(b); int(size) != len(Kinfo{}) {
			return nil, fmt.Errorf("%s: struct kinfo_proc has %d bytes, not %d", name, size, len(Kinfo{}))
		}
		list = append(list, Kinfo(b))
	}
	return list, nil
}

// PID returns the process' number.
func (k *Kinfo) PID() int { return int(binary.NativeEndian.Uint32(k[72:])) }

// Thread returns the thread's number.
func (k *Kinfo) Thread() int { return int(binary.NativeEndian.Uint32(k[600:])) }

// ThreadName returns the thread's name, cut to 16 bytes.
func (k *Kinfo) ThreadName() string { return unix.ByteSliceToString(k[394:][:17]) }

// WaitMessage returns what the thread sleeps for in the kernel, cut to 8 bytes.
func (k *Kinfo) WaitMessage() string { return unix.ByteSliceToString(k[411:][:9]) }

// Threads returns how many threads the process has.
func (k *Kinfo) Threads() int { return int(binary.NativeEndian.Uint32(k[596:])) }

// Command returns the process' name, cut to 19 bytes.
func (k *Kinfo) Command() string { return unix.ByteSliceToString(k[447:][:20]) }

// Resident returns the bytes of memory that the process has resident.
func (k *Kinfo) Resident() int64 {
	return int64(binary.NativeEndian.Uint64(k[264:])) * int64(unix.Getpagesize())
}

// Runtime returns the processor time that it has used.
func (k *Kinfo) Runtime() time.Duration {
	return time.Duration(binary.NativeEndian.Uint64(k[328:])) * time.Microsecond
}

// CapabilityMode reports whether the process is in capability mode (KI_CRF_CAPABILITY_MODE).
func (k *Kinfo) CapabilityMode() bool { return binary.NativeEndian.Uint32(k[588:])&1 != 0 }
