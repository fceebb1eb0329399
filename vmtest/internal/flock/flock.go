//go:build unix

// Package flock locks between processes by a file.
package flock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Lock waits for the lock file at path, which it makes if need be. The lock is
// free again after unlock or at the end of the process.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
