package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// rootDir is the mount point of the root file system of each program.
const rootDir = "/vm"

// stamp shows whether a program has written to a file.
type stamp struct {
	size int64
	time time.Time
	id   uint64
}

// scan stamps the regular files at and below the given paths of the program's root. It treats a
// missing path as an empty folder.
func scan(paths []string) (map[string]stamp, error) {
	return scanIn(rootDir, paths)
}

func scanIn(root string, paths []string) (map[string]stamp, error) {
	found := map[string]stamp{}
	for _, p := range paths {
		err := filepath.WalkDir(root+p, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if !d.Type().IsRegular() {
				return nil
			}
			fi, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			found[path[len(root):]] = stamp{size: fi.Size(), time: fi.ModTime(), id: fileID(fi)}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// changed returns the files of after that are new or differ, in order.
func changed(before, after map[string]stamp) []string {
	var out []string
	for p, s := range after {
		if old, ok := before[p]; !ok || old != s {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}
