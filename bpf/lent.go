package bpf

import "github.com/zbuf-go/zbuf"

// copySize is the size in bytes of the memory that small batches are copied to. A single longer
// record makes it grow. It is a variable because tests make pieces small with it.
var copySize = 32 << 10

// copyOut is the most bytes of a partly filled buffer that the engine copies out. The copy lets the
// engine acknowledge the buffer at once. Until it does, the next packet would stick. More bytes
// than this are hardly the last before a silence: the next packet frees what sticks.
const copyOut = 8 << 10

// lent is the engine for the two buffers that the process has lent to the kernel. docs/design.md,
// "The lent buffers", has the states and the reasons.
//
// Invariants:
//   - The kernel assigns the buffers in turn. next is the one that it assigns next, always.
//   - The engine acknowledges only buffers that it owns, oldest first.
//   - last[i] is how many bytes of records buffer i had when the engine took it last.
//   - read[i] counts only bytes of a store buffer. It is 0 once buffer i is acknowledged.
//   - The first record of an acknowledged buffer has bh_hdrlen 0 until the kernel writes there.
//   - seen is the epoch up to which the engine has caught up. A batch gets it as its epoch.
type lent struct {
	n    engineCounters
	dev  *zbuf.Device
	gate *gate
	mem  memory
	buf  [2]*zbuf.Buffer

	next   int       // the buffer that the kernel assigns next
	last   [2]uint32 // bytes of records at the last assignment
	read   [2]uint   // bytes of the store buffer that were read in place
	copies []byte    // where records are copied
	seen   uint64    // the gate's epoch when catchUp last ran

	immediate bool // the user wants BIOCIMMEDIATE
	kernelImm bool // BIOCIMMEDIATE is on
	sticky    bool // the kernel can't switch BIOCIMMEDIATE off again
	residue   bool // the store buffer has records, all read, and the kernel can't rotate it
	more      bool // the last read in place left records
	fast      bool // the last buffer was there without asking

	// discard writes these with the gate locked.
	pending bool
	drop    [2]uint32 // generations up to which a buffer holds packets that were thrown away
}

// newLent returns the engine for bufs. immediate says that the user wants BIOCIMMEDIATE. sticky
// says that the kernel can't switch it off again, so the engine must not use it for tails.
func newLent(
	dev *zbuf.Device, g *gate, mem memory, bufs *zbuf.Buffers, immediate, sticky bool,
) (*lent, error) {
	copies, err := mem.alloc(min(len(bufs.A.Data()), copySize))
	if err != nil {
		return nil, err
	}
	e := &lent{
		dev: dev, gate: g, mem: mem, buf: [2]*zbuf.Buffer{&bufs.A, &bufs.B},
		copies: copies, immediate: immediate, kernelImm: immediate, sticky: sticky,
	}
	if mem.guard {
		for _, b := range e.buf {
			if err := dev.Protect(b.View(), false); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

func (e *lent) take() (batch, bool) {
	b, ok := e.assigned()
	if ok {
		e.n.lent.Add(1)
	}
	return b, ok
}

// assigned returns the next buffer if the kernel has assigned it.
func (e *lent) assigned() (batch, bool) {
	for {
		i := e.next
		recs, gen, ok := e.buf[i].Records()
		if !ok {
			return batch{}, false
		}
		// The engine looks at the epoch after it has loaded the generation. If no reset has begun by
		// now, the kernel assigned the buffer before any, and what the engine knows of it holds.
		if e.gate.epoch.Load() != e.seen {
			e.gate.mu.Lock()
			e.catchUp()
			e.gate.mu.Unlock()
			continue
		}
		e.next ^= 1
		e.last[i] = uint32(len(recs))
		e.residue, e.more = false, false
		from := min(align(e.read[i]), uint(len(recs)))
		if from == uint(len(recs)) {
			e.acknowledge(i, gen)
			continue
		}
		e.fast = true
		return batch{buf: recs[from:], epoch: e.seen, gen: gen, idx: int8(i)}, true
	}
}

// acknowledge gives a buffer back. The mark in its first record tells later whether the kernel has
// begun to fill it again.
func (e *lent) acknowledge(i int, gen uint32) {
	firstHdrlen(e.buf[i].Data()).Store(0)
	e.read[i] = 0
	e.buf[i].Header().Acknowledge(gen)
}

func (e *lent) release(b batch) {
	if b.idx == copied {
		e.mem.shut(e.copies)
		return
	}
	e.mem.shut(e.buf[b.idx].View())
	e.acknowledge(int(b.idx), b.gen)
}

// expose turns b to the view of the buffer that can be protected.
func (e *lent) expose(b *batch) error {
	if b.idx == copied {
		return nil // it was opened for the copy
	}
	view := e.buf[b.idx].View()
	from := int(e.last[b.idx]) - len(b.buf) // b may begin behind what was read in place
	b.buf = view[zbuf.SizeofZbufHeader+from:][:len(b.buf)]
	return e.mem.open(view)
}

func (e *lent) behind() bool { return e.fast || e.more }

func (e *lent) awaited() { e.fast = false }

// rearm is false only where the kernel would answer "readable" at once, again and again: in
// immediate mode, while there is a residue.
func (e *lent) rearm() bool {
	if e.residue {
		return !e.kernelImm
	}
	if e.kernelImm && !e.immediate {
		e.n.syscalls.Add(1)
		if e.dev.SetImmediate(false) == nil {
			e.kernelImm = false
		}
	}
	return true
}

func (e *lent) counts() engineStats { return e.n.values() }

func (e *lent) forget() { e.buf, e.copies = [2]*zbuf.Buffer{}, nil }

func (e *lent) discard() {
	if e.buf[0] == nil {
		return // forgotten: nobody will take anything
	}
	for i := range e.buf {
		e.drop[i], _ = e.buf[i].Header().Generation()
	}
	e.pending = true
}

func (e *lent) catchUp() {
	e.seen = e.gate.epoch.Load()
	if !e.pending {
		return
	}
	e.pending = false
	e.residue, e.more = false, false
	for range e.buf {
		i := e.next
		recs, gen, ok := e.buf[i].Records()
		if !ok || int32(gen-e.drop[i]) > 0 {
			break
		}
		e.last[i] = uint32(len(recs))
		e.acknowledge(i, gen)
		e.next ^= 1
		e.n.flushed.Add(1)
	}
	e.read = [2]uint{}
}

func (e *lent) fetch(readable bool) (batch, bool, error) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.fast = false
	for range 4 { // one turn is enough, unless the kernel moves on meanwhile
		if e.gate.epoch.Load() != e.seen {
			e.catchUp()
		}
		rotated, err := e.rotate()
		if err != nil {
			return batch{}, false, err
		}
		if b, ok := e.takeRotated(); ok {
			return b, true, nil
		}
		if rotated {
			continue
		}
		// The kernel may say that there is something when memory shows nothing. Then both buffers
		// were full, and the engine has read and acknowledged both. The kernel finds that out with
		// the next packet. That is a residue too.
		if e.empty() && !readable {
			break
		}
		b, ok, again, err := e.readInPlace()
		if ok || err != nil || !again {
			return b, ok, err
		}
	}
	return batch{}, false, nil
}

// empty relies on the system call before it. That call took the descriptor's lock, under which the
// kernel writes, so memory shows everything that was stored before. Whatever is there shows as an
// owned buffer, as a mark in the store buffer, or as a known residue.
func (e *lent) empty() bool {
	return !e.residue && !e.anyOwned() &&
		firstHdrlen(e.buf[0].Data()).Load() == 0 && firstHdrlen(e.buf[1].Data()).Load() == 0
}

// takeRotated takes what the rotation has brought up. It copies a small fill out and acknowledges
// the buffer at once.
func (e *lent) takeRotated() (batch, bool) {
	b, ok := e.assigned()
	e.fast = false
	if !ok {
		return batch{}, false
	}
	if len(b.buf) > min(copyOut, len(e.copies)) || e.mem.open(e.copies) != nil {
		e.n.lent.Add(1)
		return b, true
	}
	n := copy(e.copies, b.buf)
	e.acknowledge(int(b.idx), b.gen)
	e.n.copiedOut.Add(1)
	return batch{buf: e.copies[:n], epoch: b.epoch, idx: copied}, true
}

func (e *lent) rotate() (bool, error) {
	e.n.syscalls.Add(1)
	rotated, err := e.dev.Rotate()
	if rotated {
		e.n.rotations.Add(1)
	}
	return rotated, err
}

// stored returns the bytes of records in store and hold buffer together.
func (e *lent) stored() (uint32, error) {
	e.n.syscalls.Add(1)
	n, err := e.dev.BytesReadable()
	return uint32(n), err
}

// readInPlace copies what sticks in the store buffer. The kernel can't assign those records because
// an acknowledged buffer is still in the hold slot, until the next packet. again reports that the
// kernel moved on meanwhile. The gate is locked, so no reset can come in between.
func (e *lent) readInPlace() (b batch, ok, again bool, err error) {
	e.residue, e.more = false, false
	n, err := e.stored()
	if err != nil || n == 0 || n == e.last[e.next^1] {
		return batch{}, false, false, err // nothing but, perhaps, the acknowledged hold buffer
	}
	if !e.kernelImm && !e.sticky {
		// From now on each packet is an edge to wait for. Otherwise the read timeout would end again
		// and again for records that are known.
		e.n.syscalls.Add(1)
		if err := e.dev.SetImmediate(true); err != nil {
			return batch{}, false, false, err
		}
		e.kernelImm = true
	}
	i, marked := e.storeBuffer()
	if n, err = e.stored(); err != nil {
		return batch{}, false, false, err
	}
	rotated, err := e.rotate()
	if err != nil {
		return batch{}, false, false, err
	}
	if rotated || e.anyOwned() {
		return batch{}, false, true, nil
	}
	// Nothing rotated, so the hold slot was taken when the kernel counted. It has the other buffer,
	// whose bytes the count includes.
	e.residue = true
	other := e.last[i^1]
	if !marked || n < other || uint(n-other) > uint(len(e.buf[i].Data())) {
		return batch{}, false, false, nil
	}
	stored, from := uint(n-other), align(e.read[i])
	if from >= stored {
		return batch{}, false, false, nil
	}
	recs := e.buf[i].Data()[from:stored]
	size, err := e.fit(recs)
	if size == 0 || err != nil {
		return batch{}, false, false, err // no record: somebody else has reset the descriptor
	}
	if err := e.mem.open(e.copies); err != nil {
		return batch{}, false, false, err
	}
	copy(e.copies, recs[:size])
	e.read[i] = from + size
	e.more = e.read[i] < stored
	e.n.readInPlace.Add(1)
	return batch{buf: e.copies[:size], epoch: e.seen, idx: copied, part: e.more}, true, false, nil
}

// storeBuffer returns the buffer that the kernel has written to since it was acknowledged, while
// the process owns neither. ok is false if the kernel has written to none. It is false, too, if
// both seem written: then somebody else has reset the descriptor.
func (e *lent) storeBuffer() (i int, ok bool) {
	a := firstHdrlen(e.buf[0].Data()).Load() != 0
	b := firstHdrlen(e.buf[1].Data()).Load() != 0
	if b {
		i = 1
	}
	return i, a != b
}

func (e *lent) anyOwned() bool {
	for i := range e.buf {
		if _, owned := e.buf[i].Header().Generation(); owned {
			return true
		}
	}
	return false
}

// fit returns how many bytes of whole records go into copies. copies grows for a single record that
// does not fit.
func (e *lent) fit(recs []byte) (size uint, err error) {
	for size+minHdrlen <= uint(len(recs)) {
		caplen, hdrlen, ok := record(recs, size)
		if !ok {
			break
		}
		end := size + hdrlen + caplen
		if end > uint(len(e.copies)) {
			if size > 0 {
				return size, nil
			}
			if e.copies, err = e.mem.alloc(int(align(end))); err != nil {
				return 0, err
			}
		}
		size = min(align(end), uint(len(recs)))
	}
	return size, nil
}
