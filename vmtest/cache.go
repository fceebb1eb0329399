//go:build unix

package vmtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// CacheDir returns the folder for kernels and for the compiled agent: vmtest in the user's cache
// folder. If the user has no cache folder, CacheDir returns one in the temporary folder.
func CacheDir() string {
	d, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "vmtest-cache-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(d, "vmtest")
}

// safeCache makes the cache folder unless it exists. It refuses a folder that another user could
// have filled, because the runner compiles, boots and trusts the files in it.
func safeCache() (string, error) {
	dir := CacheDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cache folder: %w", err)
	}
	if err := ownFolder(dir); err != nil {
		return "", fmt.Errorf("cache folder %s: %w", dir, err)
	}
	return dir, nil
}

// ownFolder returns an error if anybody but this user can write to dir. If dir is a link, the link
// must belong to this user too.
func ownFolder(dir string) error {
	link, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	for _, f := range []fs.FileInfo{link, fi} {
		st, ok := f.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("the system does not tell whose it is")
		}
		if int(st.Uid) != os.Getuid() {
			return fmt.Errorf("it belongs to user %d, not to %d: name a folder of your own by "+
				"XDG_CACHE_HOME", st.Uid, os.Getuid())
		}
	}
	if mode := fi.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("others may write to it (mode %#o): look at what is in it, then chmod go-w",
			mode)
	}
	return nil
}
