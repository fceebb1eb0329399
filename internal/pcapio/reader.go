package pcapio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/internal/compression"
)

var (
	// ErrFormat is in the error of [NewReader] and [Reader.Next] when the file is not a capture file,
	// or is damaged.
	ErrFormat = errors.New("broken capture file")

	// ErrTruncated is in the error of [NewReader] and [Reader.Next] when the file ends within its head
	// or within a packet. errors.Is finds [ErrFormat] in it.
	ErrTruncated = fmt.Errorf("%w: it ends in the middle of a record", ErrFormat)
)

// truncated is an error of a file whose compressed data ends too early. It is an ErrTruncated.
type truncated struct{ why error }

func (t truncated) Error() string        { return ErrFormat.Error() + ": " + t.why.Error() }
func (t truncated) Is(target error) bool { return target == ErrTruncated || target == ErrFormat }

// Interface describes an interface on which packets of a capture file were captured.
type Interface struct {
	Name        string
	Description string
	Comment     string // several are joined by line feeds
	Filter      string // as its author typed it
	Program     []bpf.RawInstruction
	OS          string
	BigEndian   bool   // the byte order of the file; the writers always write little-endian
	LinkType    uint16 // LINKTYPE_ number
	SnapLen     uint32 // bytes; 0 means no limit
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

// Reader reads the packets of a capture file, in the file's order. It returns a packet as soon as
// its bytes are there. So a packet that has come through a pipe does not wait for the next one.
//
// The file can be compressed by gzip or zstd. Then places in the file, in messages, are those in
// the decompressed data.
type Reader struct {
	src    io.Reader
	packed compression.Kind
	buf    []byte // buf[from:to] was read and is not used up
	from   int
	to     int
	srcErr error // src returned it after the bytes in buf
	off    int64 // place of buf[from] in the file
	start  int64 // place of the record that is read
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
	// maxRecord is the length of the longest packet, or block with a packet, that the reader reads.
	// D-Bus has the longest packets of all link types, 128 MiB.
	maxRecord = 128<<20 + 64<<10
	// emptyReads is the number of times that a source may return neither bytes nor an error.
	emptyReads = 100
)

// NewReader reads the head of a capture file.
//
// Errors:
//   - [ErrFormat]: the file is empty, is not a capture file, or has a damaged head.
//   - [ErrTruncated]: the file ends within its head.
//   - Those of r.
func NewReader(r io.Reader) (*Reader, error) {
	rd := &Reader{src: r, buf: make([]byte, firstBuffer)}
	head, err := rd.peek(4)
	if rd.packed = compression.OfContents(rd.buf[:rd.to]); rd.packed != compression.None {
		read := bytes.NewReader(bytes.Clone(rd.buf[:rd.to]))
		rd.src = compression.NewReader(rd.packed, io.MultiReader(read, pending{rd.srcErr}, r))
		rd.to, rd.srcErr = 0, nil
		head, err = rd.peek(4)
	}
	switch {
	case err == io.EOF:
		return nil, rd.within(broken("it is empty"))
	case err == ErrTruncated:
		return nil, rd.within(broken("it has %d bytes", rd.to))
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
		return nil, rd.within(err)
	}
	return rd, nil
}

// pending is a reader that only has an error. It is at its end if that is nil.
type pending struct{ err error }

func (p pending) Read([]byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	return 0, io.EOF
}

// within says of an error of the contents that they are compressed.
func (r *Reader) within(err error) error {
	if r.packed == compression.None || !errors.Is(err, ErrFormat) || errors.As(err, new(truncated)) {
		return err
	}
	return fmt.Errorf("%w (decompressed by %v)", err, r.packed)
}

// Interfaces returns the interfaces that the file has described up to the packet read last. An
// interface keeps its index. Those of later sections follow.
func (r *Reader) Interfaces() []Interface { return r.ifaces }

// Next returns the next packet.
//
// Errors:
//   - [io.EOF]: there are no more packets.
//   - [ErrFormat]: the packet, or a block before it, is damaged. Every later call returns the same
//     error.
//   - [ErrTruncated]: the file ends within the packet. Every later call returns the same error.
//   - Those of the file. The next call goes on at the same place. So the deadline of a file ends a
//     call that waits, and so does closing the file. If the file is compressed, the next call
//     returns the same error.
//
// Every error but io.EOF names the number of the packet. It also names the byte of the file where
// the packet, or the block before it, begins.
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

// place names the packet that is read, and the byte where it, or the block before it, begins.
func (r *Reader) place() string {
	place := fmt.Sprintf("packet %d, at byte %d", r.count+1, r.start)
	if r.packed != compression.None {
		place += " of the decompressed data"
	}
	return place
}

// peek returns the next n bytes and keeps them. If the file ends, it returns io.EOF if no byte is
// left, and ErrTruncated if some are. After another error of the file the caller may call peek
// again, because all bytes are kept.
func (r *Reader) peek(n int) ([]byte, error) {
	for empty := 0; r.to-r.from < n; {
		if err := r.srcErr; err != nil {
			if r.srcErr = nil; err != io.EOF {
				return nil, unpackError(err)
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

// unpackError makes an error of the contents of an error of decompressing.
func unpackError(err error) error {
	switch {
	case errors.Is(err, compression.ErrTruncated):
		return truncated{err}
	case errors.Is(err, compression.ErrDamaged):
		return broken("%w", err)
	}
	return err
}

// makeRoom makes room for some of n bytes. The buffer is at most twice as large as the bytes read
// into it. So a wrong length in the file costs no memory.
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

// consume drops n bytes that peek has returned.
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
