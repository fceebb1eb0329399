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

// CacheDir is where kernels and the compiled agent are kept: vmtest in the user's
// cache folder. A user without one has a folder of his own in the temporary one.
func CacheDir() string {
	d, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "vmtest-cache-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(d, "vmtest")
}

// safeCache makes the cache folder unless it is there, and refuses one that
// another user could have filled: what lies in it is compiled, booted and
// believed.
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

// ownFolder reports why dir is not this user's alone to write to. A link to
// elsewhere must be this user's own too.
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
