package pcapio

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// framing passes pcapng blocks on, and fails where their lengths, which stand at both ends of a block, do not
// fit together: pcapgo believes the first and takes what follows for packets.
type framing struct {
	r     *bufio.Reader
	order binary.ByteOrder
	left  uint32 // bytes of the block not passed on, its trailing length not counted
	want  uint32 // its length
	off   int64  // where it begins
	pass  []byte // the trailing length
	err   error
}

const (
	minBlock       = 12
	maxBlock       = 1 << 30
	byteOrderMagic = uint32(0x1a2b3c4d)
)

func newFraming(r *bufio.Reader) *framing { return &framing{r: r, order: binary.LittleEndian} }

func (f *framing) Read(p []byte) (int, error) {
	for n := 0; ; {
		switch {
		case f.err != nil:
			return n, f.err
		case n == len(p) || n > 0 && f.left == 0 && len(f.pass) == 0:
			return n, nil
		case f.left > 0:
			m, err := f.r.Read(p[n:min(len(p), n+int(f.left))])
			n += m
			f.left -= uint32(m)
			if f.err = cut(err); f.left == 0 && f.err == nil {
				f.err = f.trailer()
			}
		case len(f.pass) > 0:
			m := copy(p[n:], f.pass)
			n += m
			f.pass = f.pass[m:]
		default:
			f.err = f.begin()
		}
	}
}

// cause returns what Read failed with, if it did, instead of what pcapgo made of it.
func (f *framing) cause(err error) error {
	if f.err != nil && f.err != io.EOF && err != io.EOF {
		return f.err
	}
	return err
}

func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// begin looks at the head of the next block.
func (f *framing) begin() error {
	f.off += int64(f.want)
	head, err := f.r.Peek(minBlock)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			return ErrTruncated
		}
		return err
	}
	if binary.BigEndian.Uint32(head) == magicSection {
		switch byteOrderMagic {
		case binary.LittleEndian.Uint32(head[8:]):
			f.order = binary.LittleEndian
		case binary.BigEndian.Uint32(head[8:]):
			f.order = binary.BigEndian
		default:
			return fmt.Errorf("%w: no byte order in the section header at byte %d", ErrFormat, f.off)
		}
	}
	f.want = f.order.Uint32(head[4:])
	if f.want < minBlock || f.want%4 != 0 || f.want > maxBlock {
		return fmt.Errorf("%w: the block at byte %d has a length of %d", ErrFormat, f.off, f.want)
	}
	f.left = f.want - 4
	return nil
}

// trailer compares the length at the end of the block.
func (f *framing) trailer() error {
	var b [4]byte
	if _, err := io.ReadFull(f.r, b[:]); err != nil {
		return cut(err)
	}
	if got := f.order.Uint32(b[:]); got != f.want {
		return fmt.Errorf("%w: the block at byte %d has a length of %d in front and %d behind", ErrFormat, f.off, f.want, got)
	}
	f.pass = append(f.pass[:0], b[:]...)
	return nil
}
