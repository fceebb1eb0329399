//go:build freebsd

package load

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rtprio is struct rtprio.
type rtprio struct{ kind, prio uint16 }

// realTime lets the threads of this process run before all threads that have no real-time priority.
// The kernel reads r during the call.
func realTime() error {
	const set, realtime = 1, 2 // RTP_SET, RTP_PRIO_REALTIME
	r := rtprio{kind: realtime}
	if _, _, e := unix.Syscall(unix.SYS_RTPRIO, set, 0, uintptr(unsafe.Pointer(&r))); e != 0 {
		return e
	}
	return nil
}

// send calls write(2), and pause calls nanosleep(2). They do not tell Go's scheduler. The kernel
// reads the memory that the arguments point to during the call.
func send(fd int, frame []byte) error {
	_, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&frame[0])),
		uintptr(len(frame)))
	if e != 0 {
		return e
	}
	return nil
}

func pause(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}
