//go:build unix

// Package flock has locks between processes. Each lock is a file.
package flock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Lock waits for the lock file at path. It makes the file if there is none. The caller holds the
// lock until it calls unlock, or until the process ends.
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
