//go:build unix

// Package kernelset extracts kernels and their modules from FreeBSD's kernel.txz sets. It also
// fetches such sets, and unpacks disk images.
package kernelset

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ulikunitz/xz"

	"github.com/zbuf-go/zbuf/vmtest/internal/flock"
)

// ErrSet is in the error of a set or an image that is broken, or that is not one.
var ErrSet = errors.New("not a usable file of a FreeBSD release")

// SetName is the name of the set that holds the kernel.
const SetName = "kernel.txz"

// IsSet reports whether a file is a set and not a kernel, by its name.
func IsSet(path string) bool {
	return strings.HasSuffix(path, ".txz") || strings.HasSuffix(path, ".tar.xz")
}

// Open returns the kernel of the set at path. It extracts the kernel and the modules into the
// folder cache. If the set's folder has a MANIFEST, that must have the set's checksum.
func Open(path, cache string) (kernel string, err error) {
	dir, err := cached(cache, "set", path)
	if err != nil {
		return "", err
	}
	return once(dir, func() error {
		if err := verifyBy("MANIFEST", checksum, path); err != nil {
			return err
		}
		return extract(path, dir)
	})
}

// cached returns the name that the cache folder uses for the contents of the file at path. Files
// with the same name, size and time count as the same file: a checksum for each run would cost half
// a second.
func cached(cache, kind, path string) (string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", abs, fi.Size(), fi.ModTime().UnixNano()))
	return filepath.Join(cache, kind+"-"+hex.EncodeToString(sum[:8])), nil
}

// once returns the kernel in the folder dir. If the folder does not exist, it runs fill first.
func once(dir string, fill func() error) (string, error) {
	kernel := filepath.Join(dir, "kernel")
	return kernel, makeOnce(kernel, dir+".lock", fill)
}

// makeOnce runs fill unless the file target exists. Other processes that need the same file wait.
func makeOnce(target, lock string, fill func() error) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(lock), 0o700); err != nil {
		return err
	}
	unlock, err := flock.Lock(lock)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	return fill()
}

var manifestSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// checksum finds the SHA-256 of a set in a MANIFEST. Each line has a name, a sum, a number of files
// and more, with tabs between.
func checksum(manifest []byte, name string) (string, error) {
	for line := range strings.Lines(string(manifest)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == name && manifestSum.MatchString(f[1]) {
			return f[1], nil
		}
	}
	return "", fmt.Errorf("%w: its MANIFEST has no checksum for %s", ErrSet, name)
}

// verifyBy compares the checksum of a file with the one in the file list beside it. find finds that
// checksum in the list. Without a list, verifyBy checks nothing.
func verifyBy(list string, find func(list []byte, name string) (string, error), path string) error {
	sums, err := os.ReadFile(filepath.Join(filepath.Dir(path), list))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	want, err := find(sums, filepath.Base(path))
	if err != nil {
		return err
	}
	return verify(path, want)
}

func verify(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%w: %s is corrupt: its SHA-256 is %s, it should be %s", ErrSet,
			filepath.Base(path), got, want)
	}
	return nil
}

// compressed is an open .xz file.
type compressed struct {
	io.Reader
	f *os.File
}

func openXZ(path string) (*compressed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	c := &compressed{f: f}
	if c.Reader, err = xz.NewReader(f); err != nil {
		f.Close()
		return nil, c.broken(err)
	}
	return c, nil
}

func (c *compressed) Close() error { return c.f.Close() }

func (c *compressed) broken(err error) error {
	return fmt.Errorf("%w: %s is cut short or broken: %v", ErrSet, filepath.Base(c.f.Name()), err)
}

var kernelFile = regexp.MustCompile(`^(\./)?/?boot/kernel/(kernel|\w+\.ko)$`)

// extract writes the kernel and the modules of a set into the folder dir. The folder appears when
// all files are in it.
func extract(set, dir string) (err error) {
	x, err := openXZ(set)
	if err != nil {
		return err
	}
	defer x.Close()
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "set-*.tmp")
	if err != nil {
		return fmt.Errorf("extract %s: %w", filepath.Base(set), err)
	}
	defer os.RemoveAll(tmp)
	var perr *os.PathError
	switch err := extractTo(tmp, x); {
	case errors.As(err, &perr), errors.Is(err, errNoKernel):
		return fmt.Errorf("extract %s: %w", filepath.Base(set), err)
	case err != nil:
		return x.broken(err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

var errNoKernel = fmt.Errorf("%w: there is no boot/kernel/kernel in it", ErrSet)

// extractTo writes the kernel and the modules of a tar file into the folder dir.
func extractTo(dir string, set io.Reader) error {
	found := false
	for r := tar.NewReader(set); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !kernelFile.MatchString(h.Name) {
			continue
		}
		name := path.Base(h.Name)
		found = found || name == "kernel"
		w, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	if !found {
		return errNoKernel
	}
	return nil
}
