package pcapio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/net/bpf"
)

var (
	// ErrFormat is in the error of NewReader and Next when the file is not a capture file,
	// or not a good one.
	ErrFormat = errors.New("broken capture file")

	// ErrTruncated is in the error of Next when the file ends within a packet. It is ErrFormat.
	ErrTruncated = fmt.Errorf("%w: it ends in the middle of a record", ErrFormat)
)

// Interface is what a capture file tells about where packets were captured.
type Interface struct {
	Name        string
	Description string
	Comment     string // several are joined by line feeds
	Filter      string // as its author typed it
	Program     []bpf.RawInstruction
	OS          string
	BigEndian   bool   // the order of what wrote the file; a file that is written is little-endian
	LinkType    uint16 // LINKTYPE_ number
	SnapLen     uint32 // bytes; 0 is not limited
}

// Packet is one packet of a capture file.
type Packet struct {
	Interface int       // index into Reader.Interfaces
	Time      time.Time // 1970 where the file does not tell
	Data      []byte    // valid until the next call of Next
	WireLen   int       // bytes on the wire, from len(Data) to math.MaxInt32
	Out       bool      // sent by the host that captured it, as far as the file tells
	Comments  []string
}

// Reader reads the packets of a capture file, in the file's order. It reads no further than the
// file has bytes at hand, so a packet that has come through a pipe does not wait for the next one.
type Reader struct {
	src    io.Reader
	buf    []byte // buf[from:to] was read and is not used up
	from   int
	to     int
	srcErr error // src returned it after the bytes in buf
	off    int64 // where buf[from] is in the file
	start  int64 // where the record at hand begins
	used   int   // bytes of the record that Next returned last

	next   func() (Packet, error)
	order  order
	ifaces []Interface
	count  int   // packets read
	failed error // of the file's contents: nothing can be read any more
	noted  [noteKinds]note

	pcap pcapFile
	ng   ngFile
}

const (
	firstBuffer = 256 << 10
	// maxRecord is the longest packet, or block with a packet, that is read. D-Bus has the
	// longest packets of all link types, 128 MiB.
	maxRecord = 128<<20 + 64<<10
	// emptyReads is how often a source may return neither bytes nor an error.
	emptyReads = 100
)

// NewReader reads the head of a capture file. Errors: ErrFormat, those of r.
func NewReader(r io.Reader) (*Reader, error) {
	rd := &Reader{src: r, buf: make([]byte, firstBuffer)}
	head, err := rd.peek(4)
	switch {
	case err == io.EOF:
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	case errors.Is(err, ErrTruncated):
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, rd.to)
	case err != nil:
		return nil, err
	case binary.BigEndian.Uint32(head) == blockSection:
		err = rd.openPcapng()
	default:
		err = rd.openPcap()
	}
	if err == io.EOF {
		err = ErrTruncated
	}
	if err != nil {
		return nil, err
	}
	return rd, nil
}

// Interfaces returns the interfaces that the file has described up to the packet read last. An
// interface keeps its index. Those of later sections follow.
func (r *Reader) Interfaces() []Interface { return r.ifaces }

// Next returns the next packet, or io.EOF at the end.
//
// Errors: ErrFormat, and those of the file. They say which packet could not be read, and at which
// byte of the file it, or the block before it, begins. After ErrFormat nothing can be read any
// more. After an error of the file Next can be called again, and goes on where it was. So the
// deadline of a file ends a call that waits, and so does closing the file.
func (r *Reader) Next() (Packet, error) {
	if r.failed != nil {
		return Packet{}, r.failed
	}
	r.consume(r.used)
	r.used = 0
	p, err := r.next()
	if err == io.EOF {
		return Packet{}, err
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", r.place(), err)
		if errors.Is(err, ErrFormat) {
			r.failed = err
		}
		return Packet{}, err
	}
	r.count++
	return p, nil
}

// place is where the packet that is read begins, or the block before it.
func (r *Reader) place() string { return fmt.Sprintf("packet %d, at byte %d", r.count+1, r.start) }

// peek returns the next n bytes without using them up. It returns io.EOF where there are none,
// and ErrTruncated where there are some. Other errors of the file can pass: all bytes are kept.
func (r *Reader) peek(n int) ([]byte, error) {
	for empty := 0; r.to-r.from < n; {
		if err := r.srcErr; err != nil {
			if r.srcErr = nil; err != io.EOF {
				return nil, err
			}
			if r.to > r.from {
				return nil, ErrTruncated
			}
			return nil, io.EOF
		}
		r.makeRoom(n)
		m, err := r.src.Read(r.buf[r.to:])
		r.to += m
		r.srcErr = err
		if m > 0 || err != nil {
			empty = 0
		} else if empty++; empty == emptyReads {
			return nil, io.ErrNoProgress
		}
	}
	return r.buf[r.from : r.from+n : r.from+n], nil
}

// makeRoom makes room for some of n bytes. What a length in the file says does not cost memory:
// the buffer is at most twice as large as what was read into it.
func (r *Reader) makeRoom(n int) {
	if r.from > 0 {
		r.to = copy(r.buf, r.buf[r.from:r.to])
		r.from = 0
	}
	if r.to == len(r.buf) {
		larger := make([]byte, min(2*len(r.buf), n))
		copy(larger, r.buf)
		r.buf = larger
	}
}

// consume uses up n bytes that peek has returned.
func (r *Reader) consume(n int) {
	r.from += n
	r.off += int64(n)
}

// lengths completes a packet: n bytes were captured of one that had wire bytes.
func (r *Reader) lengths(p *Packet, wire uint32) {
	n := len(p.Data)
	switch {
	case uint64(n) > uint64(wire):
		r.note(noteCaptured, "%s: %d bytes were captured of a packet of %d: it is read as one of %d",
			r.place(), n, wire, n)
		p.WireLen = n
	case wire > math.MaxInt32:
		r.note(noteWire, "%s: a packet of %d bytes: it is read as one of %d",
			r.place(), wire, math.MaxInt32)
		p.WireLen = math.MaxInt32
	default:
		p.WireLen = int(wire)
	}
}

// order is the byte order of a file, or of a section.
type order struct{ big bool }

func (o order) u16(b []byte) uint16 {
	if o.big {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

func (o order) u32(b []byte) uint32 {
	if o.big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

func (o order) u64(b []byte) uint64 {
	if o.big {
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}
