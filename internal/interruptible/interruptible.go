// Package interruptible reads files that can make a program wait: pipes, FIFOs and terminals.
// A context ends the wait.
package interruptible

import (
	"context"
	"io"
	"os"
	"sync"
	"syscall"
)

// Open opens a file, which must not be a folder. It returns the cause of ctx when ctx is done
// first: opening a FIFO waits until another program opens its other end.
func Open(ctx context.Context, name string, flag int, perm os.FileMode) (*os.File, error) {
	fi, err := os.Stat(name)
	switch {
	case err == nil && fi.IsDir():
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	case err != nil || fi.Mode()&os.ModeNamedPipe == 0:
		return os.OpenFile(name, flag, perm)
	}
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened, 1)
	go func() {
		f, err := os.OpenFile(name, flag, perm)
		done <- opened{f, err}
	}()
	select {
	case o := <-done:
		return o.f, o.err
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				o.f.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// Regular reports whether r is a regular file: reading it never waits, and it can be read
// again.
func Regular(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular()
}

const bufferSize = 256 << 10

// Reader reads from another reader, in a goroutine of its own, until a context is done.
type Reader struct {
	ctx   context.Context
	ended sync.Once
	want  chan struct{}
	got   chan result
	rest  []byte // read, not returned yet
	err   error  // comes after rest
}

type result struct {
	p   []byte
	err error
}

// NewReader returns a Reader of r. Close ends its goroutine, at the latest when the Read of r
// that is under way has returned.
func NewReader(ctx context.Context, r io.Reader) *Reader {
	i := &Reader{ctx: ctx, want: make(chan struct{}, 1), got: make(chan result, 1)}
	go func() {
		buf := make([]byte, bufferSize)
		for range i.want {
			n, err := r.Read(buf)
			i.got <- result{buf[:n], err}
		}
	}()
	return i
}

// Read returns what one Read of the other reader returned. When the context is done, Read
// returns its cause, and then always does.
func (i *Reader) Read(p []byte) (int, error) {
	if len(i.rest) == 0 && i.err == nil {
		i.want <- struct{}{}
		select {
		case r := <-i.got:
			i.rest, i.err = r.p, r.err
		case <-i.ctx.Done():
		}
	}
	if i.ctx.Err() != nil {
		i.rest, i.err = nil, context.Cause(i.ctx)
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	if len(i.rest) == 0 && n == 0 {
		return 0, i.err
	}
	return n, nil
}

// Close lets the goroutine end. It does not close the other reader.
func (i *Reader) Close() error {
	i.ended.Do(func() { close(i.want) })
	return nil
}
