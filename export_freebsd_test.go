package zbuf

import (
	"errors"

	"golang.org/x/sys/unix"
)

// FailWatch makes the process's watch fail, as if the kernel had ended it.
func FailWatch() { theWatch.w.file.Close() }

// WriteToWatch tries to ask something of the kernel through the process's watch.
func WriteToWatch() error {
	conn, err := theWatch.w.file.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	err = conn.Control(func(fd uintptr) { _, refused = unix.Write(int(fd), make([]byte, 16)) })
	return errors.Join(err, refused)
}
