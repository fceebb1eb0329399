//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// fileID is the inode number: a file that was replaced has another one.
func fileID(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
