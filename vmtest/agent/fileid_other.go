//go:build !unix

package main

import "io/fs"

// fileID has nothing to tell where there are no inodes.
func fileID(fs.FileInfo) uint64 { return 0 }
