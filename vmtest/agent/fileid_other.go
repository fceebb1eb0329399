//go:build !unix

package main

import "io/fs"

// fileID returns 0, because there are no inodes.
func fileID(fs.FileInfo) uint64 { return 0 }
