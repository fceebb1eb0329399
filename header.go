package zbuf

import (
	"structs"
	"sync/atomic"
)

// ZbufHeader is struct bpf_zbuf_header, at the start of each lent buffer. The
// kernel counts KernelGen up when it assigns the buffer to the process; the process
// owns it until UserGen equals KernelGen again (bpf(4), "Zero-copy buffer mode").
type ZbufHeader struct {
	_         structs.HostLayout
	kernelGen atomic.Uint32
	kernelLen uint32
	userGen   atomic.Uint32
	_         [5]uint32
}

// Generation returns the kernel's generation with the acquire barrier that goes before any
// look at the buffer, and whether it differs from the acknowledged one: then
// the process owns the buffer.
func (h *ZbufHeader) Generation() (gen uint32, owned bool) {
	gen = h.kernelGen.Load()
	return gen, gen != h.userGen.Load()
}

// Len returns the bytes of records that the kernel says are in the buffer. Call it
// once, after [ZbufHeader.Generation] said owned, and never trust it beyond the buffer.
func (h *ZbufHeader) Len() uint32 { return h.kernelLen }

// Acknowledge gives the buffer back to the kernel, with the release barrier that
// goes after the last look at it. gen is what [ZbufHeader.Generation] returned.
func (h *ZbufHeader) Acknowledge(gen uint32) { h.userGen.Store(gen) }

// A Buffer is one of the two buffers lent to the kernel: the header and, behind
// it, the room for records.
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

// Data returns all the room for records. Only what the kernel has assigned, or
// what is known to be stored and not to be flushed, may be looked at.
func (b *Buffer) Data() []byte { return b.data }

// View returns the whole buffer, header included, at the address that [Device.Protect] works on; nil
// unless it is guarded.
func (b *Buffer) View() []byte { return b.view }

// Records returns the records in a buffer that the process owns, and the generation
// to acknowledge. ok is false while the kernel owns it.
func (b *Buffer) Records() (records []byte, gen uint32, ok bool) {
	gen, ok = b.hdr.Generation()
	if !ok {
		return nil, gen, false
	}
	return b.data[:min(uint(b.hdr.Len()), uint(len(b.data)))], gen, true
}

// Older reports which of two buffers that are both owned was assigned first. The
// kernel fills them in turn, beginning with a, so their generations tell.
func Older(a, b *Buffer) *Buffer {
	if a.hdr.kernelGen.Load() == b.hdr.kernelGen.Load() {
		return a
	}
	return b
}
