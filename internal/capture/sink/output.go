package sink

import (
	"bufio"
	"errors"
	"fmt"
	"sort"
	"sync"
	"syscall"

	"github.com/zbuf-go/zbuf/internal/compression"
)

// output buffers the bytes of a format and writes them to a target. It knows the end of each unit,
// such as a block of pcapng or a line of text. So a failed write leaves whole units only, and the
// output knows how many packets have arrived.
//
// A compressed output compresses whole units together, as a block that can be read by itself. A
// failed write leaves whole blocks only.
type output struct {
	buf  *bufio.Writer // formats write into it
	to   target
	name string
	full func(progress bool) bool // makes room on a full disk; may be nil

	encode compression.Encoder // nil if nothing is compressed
	raw    []byte              // left buf, and is not compressed yet
	block  []byte              // the last block of compressed data
	blocks int64               // bytes of all blocks

	out   int64  // bytes of the format that have arrived
	ends  []mark // of the units that end behind out
	last  mark   // of the latest unit
	whole mark   // of the last unit that has arrived whole
	err   error  // of a block: the output ends there
}

// mark is the end of a unit.
type mark struct {
	end            int64  // its place in the output
	packets, bytes uint64 // up to there
}

const (
	outputBuffer = 1 << 20
	// blockSize is the number of bytes that a block of compressed data has before it is compressed. It
	// ends with the unit that has this byte. In longer blocks hardly more repeats.
	blockSize = 256 << 10
)

// buffers are those of outputs that are closed. A rotation has many outputs, one after another.
var buffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, outputBuffer) }}

func newOutput(to target, name string, kind compression.Kind) *output {
	o := &output{to: to, name: name, encode: compression.NewEncoder(kind),
		buf: buffers.Get().(*bufio.Writer)}
	if o.encode == nil {
		o.buf.Reset(arrival{o})
	} else {
		o.buf.Reset(gathering{o})
	}
	return o
}

// unit notes that the format has written a unit. The unit has the given number of packets and of
// their captured bytes.
func (o *output) unit(packets, bytes int) error {
	kept := int64(o.buf.Buffered() + len(o.raw))
	o.last.end = o.out + kept
	o.last.packets += uint64(packets)
	o.last.bytes += uint64(bytes)
	if kept == 0 {
		o.whole = o.last
		return nil
	}
	o.ends = append(o.ends, o.last)
	if o.encode != nil && kept >= blockSize {
		return o.flush()
	}
	return nil
}

// flush writes out everything that the output keeps. It ends with a whole unit.
func (o *output) flush() error {
	if err := o.buf.Flush(); err != nil || len(o.raw) == 0 {
		return err
	}
	if o.err != nil {
		return o.err
	}
	// On a full disk, smaller and smaller blocks are tried.
	var first error
	for size := len(o.raw); len(o.raw) > 0; {
		if n := o.unitsWithin(size); n > 0 {
			whole, err := o.writeBlock(n)
			if err == nil {
				continue
			}
			if first == nil {
				first = err
			}
			if !whole {
				break
			}
		}
		if size /= 2; size < smallestPiece {
			break
		}
	}
	if len(o.raw) > 0 {
		o.err = first
	}
	return o.err
}

// unitsWithin returns the number of bytes of raw that whole units of at most size bytes have.
func (o *output) unitsWithin(size int) int {
	n := sort.Search(len(o.ends), func(i int) bool { return o.ends[i].end > o.out+int64(size) })
	if n == 0 {
		return 0
	}
	return int(o.ends[n-1].end - o.out)
}

// writeBlock compresses and writes n bytes of raw. whole reports whether the target has only whole
// blocks.
func (o *output) writeBlock(n int) (whole bool, err error) {
	o.block = o.encode(o.block[:0], o.raw[:n])
	wrote, err := o.write(o.block)
	if err != nil && o.to.cut(o.blocks) {
		return true, err
	}
	o.blocks += int64(wrote)
	if err != nil {
		return false, err
	}
	o.arrived(n)
	o.raw = o.raw[:copy(o.raw, o.raw[n:])]
	return true, nil
}

// size returns the number of bytes that the target has, or will have if nothing is compressed.
func (o *output) size() int64 {
	if o.encode != nil {
		return o.blocks
	}
	return o.out + int64(o.buf.Buffered())
}

// write writes to the target, and has room made for it if the disk is full.
func (o *output) write(p []byte) (n int, err error) {
	for {
		m, err := o.to.write(p[n:])
		n += m
		if err == nil || o.full == nil || !isFull(err) || !o.full(m > 0) {
			return n, err
		}
	}
}

// isFull reports whether an error says that there is no room on the disk, or none for the user.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// arrived notes that n more bytes of the format have arrived.
func (o *output) arrived(n int) {
	o.out += int64(n)
	passed := sort.Search(len(o.ends), func(i int) bool { return o.ends[i].end > o.out })
	if passed > 0 {
		o.whole = o.ends[passed-1]
		o.ends = o.ends[:copy(o.ends, o.ends[passed:])]
	}
}

// arrival writes the bytes that leave an output's buffer.
type arrival struct{ o *output }

func (a arrival) Write(p []byte) (int, error) {
	o := a.o
	n, err := o.write(p)
	o.arrived(n)
	if err != nil && o.to.cut(o.whole.end) {
		o.out = o.whole.end
	}
	return n, err
}

// gathering keeps the bytes that leave an output's buffer until they are compressed.
type gathering struct{ o *output }

func (g gathering) Write(p []byte) (int, error) {
	g.o.raw = append(g.o.raw, p...)
	return len(p), nil
}

// close closes the target. Nobody may write any more.
func (o *output) close() error {
	o.buf.Reset(nil)
	buffers.Put(o.buf)
	o.buf = bufio.NewWriterSize(nil, 0)
	return o.to.close()
}

// explain adds to the error of a write the name of the target, and how the target ends now.
func (o *output) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case o.to.keeps():
		return fmt.Errorf("can't write, %s ends with the last packet that is complete: %w", o.name, err)
	}
	return fmt.Errorf("can't write to %s: %w", o.name, err)
}
