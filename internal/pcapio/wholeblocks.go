package pcapio

import (
	"encoding/binary"
	"os"
)

// WholeBlocks writes pcapng to a file. When that fails, on a full disk for instance, it cuts the
// file after the last block that is whole, so that all of it can be read.
type WholeBlocks struct {
	f       *os.File
	written int64  // bytes in the file
	end     int64  // of the last whole block
	head    []byte // of the block that is not whole yet
	left    int64  // bytes of it to come, once the head is known
}

// NewWholeBlocks returns a writer to f, which is empty.
func NewWholeBlocks(f *os.File) *WholeBlocks { return &WholeBlocks{f: f} }

func (w *WholeBlocks) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
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
