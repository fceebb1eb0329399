package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Offsets in struct kinfo_proc of 64-bit FreeBSD (sys/user.h).
const (
	offThreadName = 394
	offThread     = 600
	sizeofKinfo   = 1088
)

// separate gives the last processor to the thread that carries the storm, and the others to all processes; the
// function returned undoes the latter.
//
// That thread is never idle and goes before almost everything else. On the first processor it would stop the
// thread that runs the timeouts of the whole system, TCP's and the read timeouts of bpf among them; and a
// process that the scheduler leaves on the same processor does not run at all.
func separate() (undo func() error, err error) {
	last := runtime.NumCPU() - 1
	if last == 0 {
		return func() error { return nil }, nil
	}
	tid, err := netisr()
	if err != nil {
		return nil, err
	}
	all := make([]byte, 128)
	for cpu := range last {
		all[cpu/8] |= 1 << (cpu % 8)
	}
	one := make([]byte, len(all))
	one[last/8] |= 1 << (last % 8)
	if err := setAffinity(levelWhich, whichThread, tid, one); err != nil {
		return nil, err
	}
	if err := setAffinity(levelSet, whichSet, defaultSet, all); err != nil {
		return nil, err
	}
	return func() error {
		all[last/8] |= 1 << (last % 8)
		return setAffinity(levelSet, whichSet, defaultSet, all)
	}, nil
}

// netisr returns the thread that takes packets off the queues of interfaces like epair.
func netisr() (int32, error) {
	b, err := unix.SysctlRaw("kern.proc.proc_td")
	if err != nil {
		return 0, err
	}
	for len(b) >= sizeofKinfo {
		if size := binary.NativeEndian.Uint32(b); size != sizeofKinfo {
			return 0, fmt.Errorf("struct kinfo_proc has %d bytes, not %d", size, sizeofKinfo)
		}
		if bytes.HasPrefix(b[offThreadName:], []byte("swi1: netisr 0")) {
			return int32(binary.NativeEndian.Uint32(b[offThread:])), nil
		}
		b = b[sizeofKinfo:]
	}
	return 0, errors.New("there is no thread swi1: netisr 0")
}
