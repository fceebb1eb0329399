package bpf

import (
	"github.com/zbuf-go/zbuf"
)

const (
	// ownSize is the most bytes of memory that packets are copied to, except for a single larger one. It takes all that
	// copyOut allows: a smaller buffer has no more.
	ownSize = 32 << 10

	// copyOut is the most bytes of a partly filled buffer that are copied out, so that the buffer
	// can be acknowledged at once: a packet that arrives while it is not would stick. More packets than
	// that are hardly the last before a silence: the next one frees what sticks, and copying would cost more than all else.
	copyOut = 8 << 10
)

// lentSource takes the two lent buffers in turn. docs/design.md, "The lent buffers", has the states
// and why each step is right.
type lentSource struct {
	r         *Reader
	dev       *zbuf.Device
	buf       [2]*zbuf.Buffer
	next      int       // the one that the kernel assigns next
	last      [2]uint32 // bytes of records at the last assignment
	read      [2]uint   // bytes of the store buffer read in place, to be skipped when it is assigned
	own       []byte    // what is copied out or read in place goes here
	immediate bool      // BIOCIMMEDIATE is what the user wants
	kernelImm bool      // BIOCIMMEDIATE is set
	residue   bool      // the store buffer has records, all read, and can't be rotated
	more      bool      // the last read in place left records
	fast      bool      // the last buffer was there without asking
	seen      uint64    // Reader.flushes when catchUp last ran

	// Written by whoever resets, under Reader.control.
	pending bool
	drop    [2]uint32 // generations up to which a buffer holds what was thrown away
}

func newLentSource(r *Reader, bufs *zbuf.Buffers, immediate bool) (*lentSource, error) {
	own, err := r.memory(min(len(bufs.A.Data()), ownSize))
	if err != nil {
		return nil, err
	}
	s := &lentSource{
		r: r, dev: r.dev, buf: [2]*zbuf.Buffer{&bufs.A, &bufs.B},
		own: own, immediate: immediate, kernelImm: immediate,
	}
	if r.guard {
		for _, b := range s.buf {
			if err := r.dev.Protect(b.View(), false); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *lentSource) take() (held, bool) {
	for {
		i := s.next
		recs, gen, ok := s.buf[i].Records()
		if !ok {
			return held{}, false
		}
		// Looked at after the generation: if no reset has begun by now, the buffer was
		// assigned before any, and what is known of it holds.
		if s.r.flushes.Load() != s.seen {
			s.r.control.Lock()
			s.catchUp()
			s.r.control.Unlock()
			continue
		}
		s.next ^= 1
		s.last[i] = uint32(len(recs))
		s.residue, s.more = false, false
		from := min(align(s.read[i]), uint(len(recs)))
		if from == uint(len(recs)) {
			s.acknowledge(i, gen)
			continue
		}
		s.fast = true
		return held{buf: recs[from:], gen: gen, idx: int8(i)}, true
	}
}

// acknowledge gives a buffer back. The mark in its first record tells later whether the kernel has
// begun to fill it again.
func (s *lentSource) acknowledge(i int, gen uint32) {
	firstHdrlen(s.buf[i].Data()).Store(0)
	s.read[i] = 0
	s.buf[i].Header().Acknowledge(gen)
}

func (s *lentSource) release(h held) {
	if h.idx != own {
		s.acknowledge(int(h.idx), h.gen)
	}
}

func (s *lentSource) guarded(h held) (mapping, buf []byte) {
	if h.idx == own {
		return s.own, h.buf
	}
	v := s.buf[h.idx].View()
	from := int(s.last[h.idx]) - len(h.buf) // it may begin behind what was read in place
	return v, v[zbuf.SizeofZbufHeader+from:][:len(h.buf)]
}

func (s *lentSource) behind() bool { return s.fast || s.more }

func (s *lentSource) awaited() { s.fast = false }

func (s *lentSource) rearm() bool {
	if !s.residue && s.kernelImm && !s.immediate {
		s.r.stats.syscalls.Add(1)
		if s.dev.SetImmediate(false) == nil {
			s.kernelImm = false
		}
	}
	return !s.residue
}

// reset is called with Reader.control held, after the kernel was reset.
func (s *lentSource) reset() {
	for i := range s.buf {
		s.drop[i], _ = s.buf[i].Header().Generation()
	}
	s.pending = true
}

// catchUp acts on resets: what was assigned before them is dropped, what was read in place is
// no longer there. Reader.control is held.
func (s *lentSource) catchUp() {
	s.seen = s.r.flushes.Load()
	if !s.pending {
		return
	}
	s.pending = false
	s.residue, s.more = false, false
	for range s.buf {
		i := s.next
		recs, gen, ok := s.buf[i].Records()
		if !ok || int32(gen-s.drop[i]) > 0 {
			break
		}
		s.last[i] = uint32(len(recs))
		s.acknowledge(i, gen)
		s.next ^= 1
		s.r.stats.flushed.Add(1)
	}
	s.read = [2]uint{}
}

func (s *lentSource) harvest(readable bool) (held, bool, error) {
	s.r.control.Lock()
	defer s.r.control.Unlock()
	s.fast = false
	for range 4 { // each turn the kernel moved on meanwhile; else one is enough
		if s.r.flushes.Load() != s.seen {
			s.catchUp()
		}
		rotated, err := s.rotate()
		if err != nil {
			return held{}, false, err
		}
		if h, ok := s.takeRotated(); ok {
			return h, true, nil
		}
		if rotated {
			continue
		}
		// If the kernel says that there is something, but memory does not, both buffers were full and have been read and
		// acknowledged, which the kernel finds out with the next packet: a residue.
		if s.empty() && !readable {
			break
		}
		h, ok, again, err := s.readInPlace()
		if ok || err != nil || !again {
			return h, ok, err
		}
	}
	return held{}, false, nil
}

// empty: anything that there is shows as a buffer that is owned, a mark in the store buffer, or a known residue. The system call
// took the descriptor's lock, under which the kernel writes: what was stored before is seen after.
func (s *lentSource) empty() bool {
	return !s.residue && !s.anyOwned() &&
		firstHdrlen(s.buf[0].Data()).Load() == 0 && firstHdrlen(s.buf[1].Data()).Load() == 0
}

// takeRotated takes what rotation has turned up. A small fill is copied out and acknowledged at once.
func (s *lentSource) takeRotated() (held, bool) {
	h, ok := s.take()
	s.fast = false
	if ok && len(h.buf) <= copyOut && s.r.writable(s.own) == nil {
		n := copy(s.own, h.buf)
		s.release(h)
		s.r.stats.copiedOut.Add(1)
		return held{buf: s.own[:n], idx: own}, true
	}
	return h, ok
}

func (s *lentSource) rotate() (bool, error) {
	s.r.stats.syscalls.Add(1)
	rotated, err := s.dev.Rotate()
	if rotated {
		s.r.stats.rotations.Add(1)
	}
	return rotated, err
}

func (s *lentSource) buffered() (uint32, error) {
	s.r.stats.syscalls.Add(1)
	n, err := s.dev.BytesReadable()
	return uint32(n), err
}

// readInPlace copies what sticks in the store buffer: records that the kernel can't assign because an
// acknowledged buffer still is in the hold slot, until the next packet. again says that the
// kernel moved on meanwhile. Reader.control is held, so nobody of ours resets.
func (s *lentSource) readInPlace() (h held, ok, again bool, err error) {
	s.residue, s.more = false, false
	n, err := s.buffered()
	if err != nil || n == 0 || n == s.last[s.next^1] {
		return held{}, false, false, err // nothing but, perhaps, the acknowledged hold buffer
	}
	if !s.kernelImm {
		// From now on each packet is an edge to wait for; the read timeout would end again and
		// again, for records that are known.
		s.r.stats.syscalls.Add(1)
		if err := s.dev.SetImmediate(true); err != nil {
			return held{}, false, false, err
		}
		s.kernelImm = true
	}
	i, marked := s.storeBuffer()
	if n, err = s.buffered(); err != nil {
		return held{}, false, false, err
	}
	rotated, err := s.rotate()
	if err != nil {
		return held{}, false, false, err
	}
	if rotated || s.anyOwned() {
		return held{}, false, true, nil
	}
	// Nothing rotated, so the hold slot was not empty at the count either: it has the other
	// buffer, and what that held counts too.
	s.residue = true
	stored := uint(n) - uint(s.last[i^1])
	if !marked || n < s.last[i^1] || stored > uint(len(s.buf[i].Data())) || stored <= s.read[i] {
		return held{}, false, false, nil
	}
	from := align(s.read[i])
	if from >= stored {
		return held{}, false, false, nil
	}
	recs := s.buf[i].Data()[from:stored]
	size, err := s.fit(recs)
	if size == 0 || err != nil {
		return held{}, false, false, err // no record: somebody else has reset the descriptor
	}
	if err := s.r.writable(s.own); err != nil {
		return held{}, false, false, err
	}
	copy(s.own, recs[:size])
	s.read[i] = from + size
	s.more = s.read[i] < stored
	s.r.stats.readInPlace.Add(1)
	return held{buf: s.own[:size], idx: own}, true, false, nil
}

// storeBuffer returns the buffer that the kernel has written to since it was acknowledged, while
// neither is owned. It is not known when nothing was written, or by somebody else's doing.
func (s *lentSource) storeBuffer() (i int, ok bool) {
	a := firstHdrlen(s.buf[0].Data()).Load() != 0
	b := firstHdrlen(s.buf[1].Data()).Load() != 0
	if b {
		i = 1
	}
	return i, a != b
}

func (s *lentSource) anyOwned() bool {
	for i := range s.buf {
		if _, owned := s.buf[i].Header().Generation(); owned {
			return true
		}
	}
	return false
}

// fit returns how many bytes of whole records go into s.own, which grows for a single one that does not.
func (s *lentSource) fit(recs []byte) (size uint, err error) {
	for size+minHdrlen <= uint(len(recs)) {
		caplen, hdrlen, ok := record(recs, size)
		if !ok {
			break
		}
		end := size + hdrlen + caplen
		if end > uint(len(s.own)) {
			if size > 0 {
				return size, nil
			}
			if s.own, err = s.r.memory(int(align(end))); err != nil {
				return 0, err
			}
		}
		size = min(align(end), uint(len(recs)))
	}
	return size, nil
}
