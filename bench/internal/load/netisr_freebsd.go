package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// Offsets in struct kinfo_proc of 64-bit FreeBSD (sys/user.h).
const (
	offPID        = 72
	offRuntime    = 328 // ki_runtime, microseconds
	offThreadName = 394
	offCommand    = 447
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
	all := make([]int, last, last+1)
	for cpu := range all {
		all[cpu] = cpu
	}
	if err := lab.SetAffinity(lab.LevelWhich, lab.WhichThread, tid, last); err != nil {
		return nil, fmt.Errorf("bind netisr: %w", err)
	}
	const everybody = 1 // the set of all processes that are in no other
	keep := func(cpus ...int) error {
		if err := lab.SetAffinity(lab.LevelCPUSet, lab.WhichCPUSet, everybody, cpus...); err != nil {
			return fmt.Errorf("bind all processes: %w", err)
		}
		return nil
	}
	return func() error { return keep(append(all, last)...) }, keep(all...)
}

// interrupts is the number of the kernel's process of interrupt threads, netisr's among them.
var interrupts = sync.OnceValues(func() (int, error) {
	b, err := unix.SysctlRaw("kern.proc.proc")
	if err != nil {
		return 0, err
	}
	p, err := find(b, offCommand, "intr\x00")
	return int(binary.NativeEndian.Uint32(p[offPID:])), err
})

// carriers returns the processor time of who carries a Writer's packets: this process, which writes them, and the kernel's interrupt threads.
func carriers() (time.Duration, error) {
	pid, err := interrupts()
	if err != nil {
		return 0, err
	}
	var own unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &own); err != nil {
		return 0, err
	}
	b, err := unix.SysctlRaw("kern.proc.pid", pid)
	if err != nil {
		return 0, err
	}
	p, err := find(b, offCommand, "intr\x00")
	micro := binary.NativeEndian.Uint64(p[offRuntime:])
	return time.Duration(own.Nano()) + time.Duration(micro)*time.Microsecond, err
}

// netisr returns the thread that takes packets off the queues of interfaces like epair.
func netisr() (int, error) {
	b, err := unix.SysctlRaw("kern.proc.proc_td")
	if err != nil {
		return 0, err
	}
	p, err := find(b, offThreadName, "swi1: netisr 0")
	return int(binary.NativeEndian.Uint32(p[offThread:])), err
}

// find returns the first of the structs kinfo_proc in b that has a name there.
func find(b []byte, at int, name string) (kinfo [sizeofKinfo]byte, err error) {
	for ; len(b) >= sizeofKinfo; b = b[sizeofKinfo:] {
		if size := binary.NativeEndian.Uint32(b); size != sizeofKinfo {
			return kinfo, fmt.Errorf("struct kinfo_proc has %d bytes, not %d", size, sizeofKinfo)
		}
		if bytes.HasPrefix(b[at:], []byte(name)) {
			return [sizeofKinfo]byte(b[:sizeofKinfo]), nil
		}
	}
	return kinfo, fmt.Errorf("there is no %s", name)
}
