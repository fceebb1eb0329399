//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// fileID returns the inode number. A file that replaced another one has another number.
func fileID(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
