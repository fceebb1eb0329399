package zbuf

import (
	"structs"
	"sync/atomic"
)

// ZbufHeader is struct bpf_zbuf_header, at the start of each lent buffer. The kernel adds 1 to the
// kernel generation when it assigns the buffer to the process. The process owns the buffer until it
// has stored the same number as the user generation (bpf(4), "Zero-copy buffer mode").
type ZbufHeader struct {
	_         structs.HostLayout
	kernelGen atomic.Uint32
	kernelLen uint32
	userGen   atomic.Uint32
	_         [5]uint32
}

// Generation returns the kernel generation, and whether the process owns the buffer: the generation
// then differs from the acknowledged one. Generation has the acquire barrier that must come before
// the process reads the buffer.
func (h *ZbufHeader) Generation() (gen uint32, owned bool) {
	gen = h.kernelGen.Load()
	return gen, gen != h.userGen.Load()
}

// Len returns the bytes of records that the kernel says are in the buffer. Call it once, after
// [ZbufHeader.Generation] returned owned. Do not trust it beyond the end of the buffer.
func (h *ZbufHeader) Len() uint32 { return h.kernelLen }

// Acknowledge gives the buffer back to the kernel. gen comes from [ZbufHeader.Generation].
// Acknowledge has the release barrier that must come after the process has read the buffer.
func (h *ZbufHeader) Acknowledge(gen uint32) { h.userGen.Store(gen) }

// A Buffer is one of the two buffers lent to the kernel: the header, and the room for records
// behind it.
type Buffer struct {
	hdr  *ZbufHeader
	data []byte
	view []byte // the same memory at another address, if guarded
}

func newBuffer(mem, view []byte) Buffer {
	return Buffer{hdr: headerOf(mem), data: mem[SizeofZbufHeader:], view: view}
}

// Header returns the shared header.
func (b *Buffer) Header() *ZbufHeader { return b.hdr }

// Data returns all the room for records. Read it only while the process owns the buffer, or where
// you know that the kernel has stored records and does not discard them meanwhile.
func (b *Buffer) Data() []byte { return b.data }

// View returns the whole buffer, header included, at the address that [Device.Protect] works on. It
// returns nil if the buffer is not guarded.
func (b *Buffer) View() []byte { return b.view }

// Records returns the records in a buffer that the process owns, and the generation to give to
// [ZbufHeader.Acknowledge]. ok is false while the kernel owns the buffer. records lies in the lent
// memory. It is valid until Acknowledge.
func (b *Buffer) Records() (records []byte, gen uint32, ok bool) {
	gen, ok = b.hdr.Generation()
	if !ok {
		return nil, gen, false
	}
	return b.data[:min(uint(b.hdr.Len()), uint(len(b.data)))], gen, true
}

// Older returns the one of two buffers that the kernel assigned first. The process must own both.
// The kernel fills them in turn and begins with a, so their generations tell.
func Older(a, b *Buffer) *Buffer {
	if a.hdr.kernelGen.Load() == b.hdr.kernelGen.Load() {
		return a
	}
	return b
}
