package pcapio

import (
	"encoding/binary"
	"io"
)

// File is what WholeBlocks writes to: an *os.File.
type File interface {
	io.Writer
	Truncate(size int64) error
}

// WholeBlocks writes pcapng to a file. When that fails, on a full disk for instance, it writes as much as
// there is room for and cuts the file after the last block that is whole, so that all of it can
// be read.
type WholeBlocks struct {
	f       File
	written int64  // bytes in the file
	end     int64  // of the last whole block
	head    []byte // of the block that is not whole yet
	left    int64  // bytes of it to come, once the head is known
}

// smallestPiece is what a full disk is asked for at least, in bytes.
const smallestPiece = 512

// NewWholeBlocks returns a writer to f, which is empty.
func NewWholeBlocks(f File) *WholeBlocks { return &WholeBlocks{f: f} }

func (w *WholeBlocks) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	// File systems undo a write that does not fit as a whole.
	for piece := (len(p) - n) / 2; err != nil && piece >= smallestPiece; piece /= 2 {
		for len(p)-n >= piece {
			m, perr := w.f.Write(p[n : n+piece])
			n += m
			if perr != nil {
				break
			}
		}
	}
	w.account(p[:n])
	if err != nil && w.written > w.end && w.f.Truncate(w.end) == nil {
		w.written = w.end
	}
	return n, err
}

// account follows the blocks in what was written.
func (w *WholeBlocks) account(p []byte) {
	for len(p) > 0 {
		if w.left == 0 {
			n := min(8-len(w.head), len(p))
			w.head = append(w.head, p[:n]...)
			p = p[n:]
			w.written += int64(n)
			if len(w.head) < 8 {
				return
			}
			w.left = int64(binary.LittleEndian.Uint32(w.head[4:])) - 8
			w.head = w.head[:0]
		}
		n := min(w.left, int64(len(p)))
		p = p[n:]
		w.written += n
		if w.left -= n; w.left == 0 {
			w.end = w.written
		}
	}
}
