package main

import (
	"fmt"
	"syscall"
)

// mountTmpfs mounts a file system of the given size.
func mountTmpfs(dir string, bytes int) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}
