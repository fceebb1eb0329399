package sink

import (
	"io"
	"os"
	"syscall"
)

// target is a file, a pipe or a device.
type target interface {
	// write writes p behind everything that has arrived so far. It returns the number of bytes of p
	// that have arrived.
	write(p []byte) (int, error)

	// cut removes all but the first n bytes. It reports whether it could.
	cut(n int64) bool

	// keeps reports whether cut is possible.
	keeps() bool

	// broken returns the error of the next write, if the target knows it. can is false if a target of
	// this kind never knows.
	broken() (can bool, err error)

	close() error
}

// file has the methods that regular needs of an *os.File.
type file interface {
	io.WriterAt
	io.Closer
	io.Seeker
	Truncate(size int64) error
}

// regular is a regular file. It never relies on the file's offset: a write that fails may or may
// not have moved it. (tmpfs of FreeBSD 14 moves it, tmpfs of 12.1 does not.)
type regular struct {
	f     file
	base  int64 // where the output begins
	end   int64 // where it ends
	owned bool  // close closes it
}

// smallestPiece is the length of the shortest piece that write tries on a full disk, in bytes.
const smallestPiece = 512

func (r *regular) write(p []byte) (n int, err error) {
	n, err = r.f.WriteAt(p, r.end)
	// A file system undoes a write that does not fit as a whole. So write tries smaller and smaller
	// pieces, until the disk is full.
	for piece := (len(p) - n) / 2; err != nil && piece >= smallestPiece; piece /= 2 {
		for len(p)-n >= piece {
			m, perr := r.f.WriteAt(p[n:n+piece], r.end+int64(n))
			n += m
			if perr != nil {
				break
			}
		}
	}
	r.end += int64(n)
	return n, err
}

func (r *regular) cut(n int64) bool {
	if r.f.Truncate(r.base+n) != nil {
		return false
	}
	r.end = r.base + n
	return true
}

func (r *regular) keeps() bool           { return true }
func (r *regular) broken() (bool, error) { return false, nil }

// close closes the file. If it is standard output, other programs write behind its end.
func (r *regular) close() error {
	if r.owned {
		return r.f.Close()
	}
	_, err := r.f.Seek(r.end, io.SeekStart)
	return err
}

// stream is a pipe, a device or a terminal. It can't take back bytes that have arrived.
type stream struct {
	w    io.Writer
	c    io.Closer // nil for standard output
	pipe *os.File  // a pipe or socket; nil for others
}

func (s *stream) write(p []byte) (int, error) { return s.w.Write(p) }
func (s *stream) cut(int64) bool              { return false }
func (s *stream) keeps() bool                 { return false }

func (s *stream) broken() (can bool, err error) {
	if s.pipe != nil && unread(s.pipe) {
		err = &os.PathError{Op: "write", Path: s.pipe.Name(), Err: syscall.EPIPE}
	}
	return s.pipe != nil, err
}

func (s *stream) close() error {
	if s.c == nil {
		return nil
	}
	return s.c.Close()
}

// targetOf returns the target for a writer. If owner is true, the target closes the file.
func targetOf(w io.Writer, owner bool) target {
	f, ok := w.(*os.File)
	if !ok {
		return &stream{w: w}
	}
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
		at, err := f.Seek(0, io.SeekCurrent)
		// A file that is open for appending can't be written at a position: WriteAt refuses.
		if _, werr := f.WriteAt(nil, at); err == nil && werr == nil {
			return &regular{f: f, base: at, end: at, owned: owner}
		}
	}
	s := &stream{w: f}
	if fi, err := f.Stat(); err == nil && fi.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		s.pipe = f
	}
	if owner {
		s.c = f
	}
	return s
}
