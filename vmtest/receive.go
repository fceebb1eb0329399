//go:build unix

package vmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// maxFiles is the number of files that a program may leave behind.
const maxFiles = 10_000

// receiver writes the files that come from the guest. A guest runs unknown code. That code names
// the files, gives them modes and decides how many there are. So the receiver writes only regular
// files at places that the run has asked for. It writes no file that somebody on the host would
// run.
type receiver struct {
	places []place
	limit  int64 // bytes in all
	notice func(format string, a ...any)

	bytes int64
	files int
	open  *incoming
}

// file takes the announcement of a file. If the guest asks for a place that it must not have, file
// returns an error. If the file stays in the guest to protect the host, file prints a notice.
func (r *receiver) file(header []byte) error {
	if r.open != nil {
		return fmt.Errorf("%w: a file in the midst of another", wire.ErrFrame)
	}
	var h wire.FileHeader
	if err := json.Unmarshal(header, &h); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrFrame, err)
	}
	if h.Size < 0 {
		return fmt.Errorf("%w: a file of %d bytes", wire.ErrFrame, h.Size)
	}
	dir, name, named, ok := r.locate(h.Path)
	if !ok {
		return fmt.Errorf("the guest names the file %q, which nobody asked for", h.Path)
	}
	if r.files++; r.files > maxFiles {
		return fmt.Errorf("the program left more than %d files behind", maxFiles)
	}
	if h.Size > r.limit-r.bytes {
		return fmt.Errorf("the files that the program left behind are more than %d MiB (raise "+
			"--files-limit)", r.limit>>20)
	}
	r.bytes += h.Size
	w := &incoming{left: h.Size}
	if why := keptBack(name); why != "" && !named {
		r.notice("the file %q stays in the guest: %s", name, why)
	} else if err := w.create(dir, name, fs.FileMode(h.Mode), named); err != nil {
		var stays *staysError
		if !errors.As(err, &stays) {
			return fmt.Errorf("file from the guest: %w", err)
		}
		r.notice("the file %q stays in the guest: %s", name, stays.why)
	}
	r.open = w
	return r.whole()
}

// data takes the next bytes of the open file.
func (r *receiver) data(b []byte) error {
	if r.open == nil || int64(len(b)) > r.open.left {
		return fmt.Errorf("%w: bytes that belong to no file", wire.ErrFrame)
	}
	r.open.left -= int64(len(b))
	if r.open.tmp != nil {
		if _, err := r.open.tmp.Write(b); err != nil {
			return fmt.Errorf("file from the guest: %w", err)
		}
	}
	return r.whole()
}

// whole gives the open file its name if it has all of its bytes.
func (r *receiver) whole() error {
	if r.open.left > 0 {
		return nil
	}
	w := r.open
	r.open = nil
	if err := w.finish(); err != nil {
		return fmt.Errorf("file from the guest: %w", err)
	}
	return nil
}

// drop removes the part that has come of a file that will not be whole.
func (r *receiver) drop() {
	if r.open != nil {
		r.open.drop()
		r.open = nil
	}
}

// locate finds the place that path belongs to: the folder that may be written
// to, and the name below it. named says that the host named this very file.
func (r *receiver) locate(path string) (dir, name string, named, ok bool) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return "", "", false, false
	}
	if slices.Contains(r.places, place{path: path}) {
		return filepath.Dir(path), filepath.Base(path), true, true
	}
	for _, p := range r.places {
		if name, below := strings.CutPrefix(path, strings.TrimSuffix(p.path, "/")+"/"); p.folder &&
			below && name != "" {
			return p.path, name, false, true
		}
	}
	return "", "", false, false
}

// obeyed are names of files, in lower case, from which tools take instructions.
var obeyed = []string{"makefile", "gnumakefile", "bsdmakefile", "go.mod", "go.sum", "go.work",
	"go.work.sum"}

// compiled has the extensions, in lower case, of files that the go command compiles or links, and
// of scripts.
var compiled = []string{
	".go", ".s", ".sx", ".c", ".cc", ".cpp", ".cxx", ".m", ".h", ".hh", ".hpp", ".hxx", ".f", ".for",
	".f90",
	".swig", ".swigcxx", ".syso", ".o", ".a", ".so", ".mk", ".sh",
}

// keptBack returns the reason why a file of that name below a folder stays in the guest. A hostile
// program must not be able to leave a file that the next go test, git or make of the host would
// run.
func keptBack(name string) (why string) {
	lower := strings.ToLower(name)
	elements := strings.Split(lower, "/")
	base := elements[len(elements)-1]
	switch {
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "its name holds control characters"
	case slices.ContainsFunc(elements, func(e string) bool { return strings.HasPrefix(e, ".") }):
		return "its path has a name that begins with a dot"
	case slices.Contains(obeyed, base), slices.Contains(compiled, filepath.Ext(base)):
		return "the host's tools would run it"
	}
	return ""
}

// staysError has the reason why a file is not written. That is no failure.
type staysError struct{ why string }

func (e *staysError) Error() string { return e.why }

// incoming is a file on its way from the guest. It appears under its name when it is whole. Without
// tmp the receiver reads its bytes and drops them.
type incoming struct {
	root       *os.Root
	tmp        *os.File
	part, name string // below root
	left       int64
}

// create opens a temporary file beside name, which lies below the folder dir.
func (w *incoming) create(dir, name string, mode fs.FileMode, named bool) (err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	if err := makeFolders(root, filepath.Dir(name)); err != nil {
		return err
	}
	// The guest decides who may read and write the file. Nobody may run it. The umask applies as for
	// any new file.
	mode &= 0o666
	old, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case old.Mode()&fs.ModeSymlink != 0:
		return &staysError{name + " is a symbolic link"}
	case !old.Mode().IsRegular():
		return &staysError{name + " is no regular file"}
	case old.Mode().Perm()&0o111 != 0 && !named:
		return &staysError{name + " is a program"}
	}
	part := filepath.Join(filepath.Dir(name), fmt.Sprintf(".vmtest-%016x", rand.Uint64()))
	tmp, err := root.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	w.root, w.tmp, w.part, w.name = root, tmp, part, name
	return nil
}

// makeFolders makes the folder dir below root with all above it, and follows no link.
func makeFolders(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeFolders(root, filepath.Dir(dir)); err != nil {
		return err
	}
	fi, err := root.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return root.Mkdir(dir, 0o777)
	case err != nil:
		return err
	case fi.Mode()&fs.ModeSymlink != 0:
		return &staysError{dir + " is a symbolic link"}
	case !fi.IsDir():
		return &staysError{dir + " is no folder"}
	}
	return nil
}

func (w *incoming) drop() {
	if w.tmp == nil {
		return
	}
	w.tmp.Close()
	_ = w.root.Remove(w.part) // it is gone, or the folder is
	w.root.Close()
}

func (w *incoming) finish() error {
	if w.tmp == nil {
		return nil
	}
	defer w.root.Close()
	err := w.tmp.Close()
	if err == nil {
		err = w.root.Rename(w.part, w.name)
	}
	if err != nil {
		err = errors.Join(err, w.root.Remove(w.part))
	}
	return err
}
