//go:build freebsd

package load

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rtprio is struct rtprio.
type rtprio struct{ kind, prio uint16 }

// realTime lets the threads of this process run before all that have no real-time priority; r is read during the call.
func realTime() error {
	const set, realtime = 1, 2 // RTP_SET, RTP_PRIO_REALTIME
	r := rtprio{kind: realtime}
	if _, _, e := unix.Syscall(unix.SYS_RTPRIO, set, 0, uintptr(unsafe.Pointer(&r))); e != 0 {
		return e
	}
	return nil
}
