//go:build unix && !solaris && !illumos && !aix

package main

import (
	"os"
	"syscall"
)

// openNext opens the file that will replace another, for this process alone. It waits for other
// processes that have it open. An interrupted run may have left contents in it.
func openNext(name string) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: name, Err: err}
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if is, err := os.Lstat(name); err == nil && os.SameFile(mine, is) {
			return f, nil
		}
		f.Close() // the process that had it open has renamed or removed it
	}
}

// dressLike gives f the owner, group and permissions of another file. If there is no other file, f
// gets those of a new system file.
func dressLike(f *os.File, old os.FileInfo) error {
	if old == nil {
		return f.Chmod(0o644)
	}
	if st, ok := old.Sys().(*syscall.Stat_t); ok {
		is, err := f.Stat()
		if err != nil {
			return err
		}
		if now, ok := is.Sys().(*syscall.Stat_t); !ok || now.Uid != st.Uid || now.Gid != st.Gid {
			if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
	}
	return f.Chmod(old.Mode() & (os.ModePerm | os.ModeSetuid | os.ModeSetgid | os.ModeSticky))
}

// syncDir makes a rename in a folder survive a crash.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
