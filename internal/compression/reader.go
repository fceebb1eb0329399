package compression

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var (
	// ErrTruncated is in the error of a reader when compressed data ends too early.
	ErrTruncated = errors.New("ends too early")

	// ErrDamaged is in the error of a reader when compressed data is damaged.
	ErrDamaged = errors.New("is damaged")
)

// largestWindow is the number of bytes that a frame of zstd may look back. `zstd --long` needs as
// many. More would let a small file take much memory.
const largestWindow = 128 << 20

// OfContents returns the kind of data that begins with the given bytes. Four are enough.
func OfContents(start []byte) Kind {
	switch {
	case bytes.HasPrefix(start, []byte("\x1f\x8b")):
		return Gzip
	case bytes.HasPrefix(start, []byte("\x28\xb5\x2f\xfd")):
		return Zstd
	case len(start) >= 4 && start[0]&0xf0 == 0x50 && string(start[1:4]) == "\x2a\x4d\x18":
		return Zstd // a frame to be skipped, as pzstd writes in front
	}
	return None
}

// NewReader returns a reader of what r has in compressed form. It returns bytes as soon as what has
// come of r determines them. It reads all members of gzip, or frames of zstd. After an error it
// returns the same error again.
//
// Errors of the reader:
//   - [io.EOF]: the data ends with a whole member or frame.
//   - [ErrTruncated]: it ends within one.
//   - [ErrDamaged]: it can't be decompressed, or something else follows.
//   - Those of r.
func NewReader(k Kind, r io.Reader) io.Reader {
	src := &source{r: r}
	switch k {
	case Gzip:
		return &reader{kind: k, src: src, r: &members{src: bufio.NewReaderSize(src, sourceBuffer)}}
	case Zstd:
		// With a concurrency of 1, it needs no goroutine, so nobody must close it.
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(largestWindow))
		if err != nil {
			panic(err) // the options are ones that the library has
		}
		return &reader{kind: k, src: src, r: z}
	}
	return r
}

const sourceBuffer = 64 << 10

// source remembers why no more came.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// reader explains the errors of a library.
type reader struct {
	kind Kind
	src  *source
	r    io.Reader
	err  error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	switch {
	case err == nil || err == io.EOF:
		r.err = err
	case r.src.err != nil && r.src.err != io.EOF:
		r.err = r.src.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		r.err = fmt.Errorf("its %v data %w", r.kind, ErrTruncated)
	default:
		r.err = fmt.Errorf("its %v data %w: %w", r.kind, ErrDamaged, err)
	}
	return n, r.err
}

// members reads the members of gzip one by one. The library's reader of many waits for the next one
// before it returns the last bytes of one.
type members struct {
	src    *bufio.Reader
	z      *gzip.Reader
	within bool // in a member
}

func (m *members) Read(p []byte) (int, error) {
	for {
		if !m.within {
			if err := m.begin(); err != nil {
				return 0, err
			}
		}
		n, err := m.z.Read(p)
		if err != io.EOF {
			return n, err
		}
		if m.within = false; n > 0 {
			return n, nil
		}
	}
}

// begin reads the head of the next member.
func (m *members) begin() (err error) {
	if _, err := m.src.Peek(1); err != nil {
		return err // io.EOF behind a whole member
	}
	if m.z == nil {
		m.z, err = gzip.NewReader(m.src)
	} else {
		err = m.z.Reset(m.src)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	m.within = true
	m.z.Multistream(false)
	return nil
}
