package bpftest

import (
	"encoding/binary"

	"github.com/zbuf-go/zbuf"
)

// A buffer is one of the two packet buffers of a descriptor. It sits in one of the three
// slots: store, hold or free.
type buffer struct {
	mem  []byte // room for records, from the first header on
	hdr  []byte // shared header, nil when the kernel keeps the buffer to itself
	user *byte  // where the process lent it
	// assigned is set when the buffer was given to the process (ZBUF_FLAG_ASSIGNED). It may
	// then still be in the store slot.
	assigned bool
}

// A bufferModel has the methods in which the two buffer modes differ (the switches on bd_bufmode at
// the top of sys/net/bpf.c).
type bufferModel interface {
	// canFree reports whether the hold buffer can become the free one without a read.
	canFree(hold *buffer) bool
	// canWrite reports whether the store buffer takes more records.
	canWrite(store *buffer) bool
	// full is told that a packet found no room in the store buffer, n bytes full.
	full(store *buffer, n int)
	// held is told that a buffer moved to the hold slot with n bytes.
	held(hold *buffer, n int)
	// reclaimed is told that a buffer moved to the free slot.
	reclaimed(free *buffer)
}

// kernelBuffers is BPF_BUFMODE_BUFFER: read(2) empties the hold buffer.
type kernelBuffers struct{}

func (kernelBuffers) canFree(*buffer) bool  { return false }
func (kernelBuffers) canWrite(*buffer) bool { return true }
func (kernelBuffers) full(*buffer, int)     {}
func (kernelBuffers) held(*buffer, int)     {}
func (kernelBuffers) reclaimed(*buffer)     {}

// headerSlack is how far behind the end of a kernel buffer the header struct of a record may
// reach, which is longer than the bytes in front of the packet. malloc(9) rounds up.
const headerSlack = 32

func newKernelBuffer(size int) *buffer {
	return &buffer{mem: make([]byte, size+headerSlack)}
}

// lentBuffers is BPF_BUFMODE_ZBUF: memory of the process with a shared header in front.
type lentBuffers struct{}

// Offsets in struct bpf_zbuf_header.
const (
	kernelGen = 0
	kernelLen = 4
	userGen   = 8
)

// newLentBuffer is zbuf_setup. It wipes the header.
func newLentBuffer(mem []byte, user *byte) *buffer {
	b := &buffer{hdr: mem[:zbuf.SizeofZbufHeader], mem: mem[zbuf.SizeofZbufHeader:], user: user}
	wordAt(b.hdr, kernelGen).Store(0)
	binary.NativeEndian.PutUint32(b.hdr[kernelLen:], 0)
	wordAt(b.hdr, userGen).Store(0)
	clear(b.hdr[userGen+4:])
	return b
}

func (lentBuffers) canFree(hold *buffer) bool {
	return hold != nil && wordAt(hold.hdr, kernelGen).Load() == wordAt(hold.hdr, userGen).Load()
}

func (lentBuffers) canWrite(store *buffer) bool { return !store.assigned }

func (m lentBuffers) full(store *buffer, n int) { m.assign(store, n) }
func (m lentBuffers) held(hold *buffer, n int)  { m.assign(hold, n) }

// assign gives the buffer to the process, once for each fill.
func (lentBuffers) assign(b *buffer, n int) {
	if b.assigned {
		return
	}
	b.assigned = true
	binary.NativeEndian.PutUint32(b.hdr[kernelLen:], uint32(n))
	wordAt(b.hdr, kernelGen).Add(1)
}

func (lentBuffers) reclaimed(free *buffer) { free.assigned = false }
