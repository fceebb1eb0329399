//go:build unix

// Package kernelset takes kernels with their modules out of FreeBSD's kernel.txz
// sets, fetches such sets, and unpacks disk images.
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

// ErrSet is wrapped by errors about a set or image that is broken or is none.
var ErrSet = errors.New("not a usable file of a FreeBSD release")

// SetName is the name of the set that holds the kernel.
const SetName = "kernel.txz"

// IsSet tells a set from a kernel file, by its name.
func IsSet(path string) bool {
	return strings.HasSuffix(path, ".txz") || strings.HasSuffix(path, ".tar.xz")
}

// Open returns the kernel of the set at path, extracted into the folder cache
// with the modules beside it. A MANIFEST in the set's folder must have its
// checksum.
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

// cached names what is made of the file at path in the folder cache. Equal name, size and
// time is the same file: a checksum for each run would cost half a second.
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

// once returns the kernel in the folder dir, and runs fill first if it is not
// there.
func once(dir string, fill func() error) (string, error) {
	kernel := filepath.Join(dir, "kernel")
	return kernel, makeOnce(kernel, dir+".lock", fill)
}

// makeOnce runs fill unless the file target is there. Others that want the same one
// wait.
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

// checksum finds the SHA-256 of a set in a MANIFEST: lines of name, sum, number of
// files and more, with tabs between.
func checksum(manifest []byte, name string) (string, error) {
	for line := range strings.Lines(string(manifest)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == name && manifestSum.MatchString(f[1]) {
			return f[1], nil
		}
	}
	return "", fmt.Errorf("%w: its MANIFEST has no checksum for %s", ErrSet, name)
}

// verifyBy compares a file with the checksum that find sees for it in the file list beside it.
// Without that file there is nothing to compare with.
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

// extract writes the kernel and the modules of a set into the folder dir, which
// appears when all are there.
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
