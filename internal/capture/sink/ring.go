package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// folder is where a rotation has its files.
type folder interface {
	// create makes a file and returns a sink that writes it. It fails with fs.ErrExist if there is a
	// file of that name. Messages use the other name.
	create(name, shown string, spec Spec) (*Sink, error)

	remove(name string) error
	list() ([]fs.DirEntry, error)
}

// rootFolder is a folder of the file system.
type rootFolder struct{ *os.Root }

func (r rootFolder) create(name, shown string, spec Spec) (*Sink, error) {
	f, err := r.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return To(spec, f, shown), nil
}

func (r rootFolder) remove(name string) error     { return r.Remove(name) }
func (r rootFolder) list() ([]fs.DirEntry, error) { return fs.ReadDir(r.FS(), ".") }

// ring has the finished files of a rotation.
type ring struct {
	folder folder
	shown  string // the folder's name
	files  []kept // the oldest first
	bytes  int64  // of all of them
}

type kept struct {
	name  string
	size  int64
	place place
}

// adopt looks for files that an earlier rotation has made. It tells the namer of them.
// If keep is true, the files become part of the ring.
func (r *ring) adopt(n *namer, keep bool) error {
	all, err := r.folder.list()
	if err != nil {
		return fmt.Errorf("can't list the folder %s: %w", r.shown, err)
	}
	for _, entry := range all {
		at, ok := n.place(entry.Name())
		if !ok || !entry.Type().IsRegular() {
			continue
		}
		n.knows(at)
		if info, err := entry.Info(); keep && err == nil { // with an error it has just gone
			r.files = append(r.files, kept{entry.Name(), info.Size(), at})
			r.bytes += info.Size()
		}
	}
	slices.SortFunc(r.files, func(a, b kept) int { return a.place.compare(b.place) })
	return nil
}

// add adds a finished file.
func (r *ring) add(name string, size int64) {
	r.files = append(r.files, kept{name: name, size: size})
	r.bytes += size
}

// drop removes the oldest file.
func (r *ring) drop() error {
	oldest := r.files[0]
	if err := r.folder.remove(oldest.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("can't remove the oldest file: %w", r.errorOf(oldest.name, err))
	}
	r.files, r.bytes = r.files[1:], r.bytes-oldest.size
	return nil
}

// path returns a file's name with the folder.
func (r *ring) path(name string) string { return filepath.Join(r.shown, name) }

// errorOf puts the whole name of a file into an error of an os.Root, which has the last part alone.
func (r *ring) errorOf(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: r.path(name), Err: pe.Err}
	}
	return err
}
