//go:build unix

package main

import (
	"io"
	"syscall"
)

// writeNow writes as much of b as the pipe has room for. It returns how much that is.
func writeNow(pipe io.Writer, b []byte) (n int) {
	file, ok := pipe.(syscall.Conn)
	if !ok {
		return 0
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return 0
	}
	// With an error nothing was written, and the Write that follows has it too.
	_ = conn.Write(func(fd uintptr) bool {
		for {
			var err error
			if n, err = syscall.Write(int(fd), b); err != syscall.EINTR {
				return true
			}
		}
	})
	return max(n, 0)
}
