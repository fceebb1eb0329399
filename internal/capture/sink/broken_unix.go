//go:build unix

package sink

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// unread reports whether nobody can read from a pipe or a socket any more.
func unread(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var gone bool
	raw.Control(func(fd uintptr) {
		state := []unix.PollFd{{Fd: int32(fd)}} // what has gone is told unasked
		for {
			_, err = unix.Poll(state, 0)
			if err != syscall.EINTR {
				break
			}
		}
		gone = err == nil && state[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	return gone
}
