package bpftest

import (
	"sync"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf"
)

// writersFilters is the number of snaplen-like filters that a descriptor among the writers needs
// before it becomes a reader (bd_writer).
const writersFilters = 2

const (
	sigio = 23
	nsig  = 32
)

// A Descriptor is one open bpf descriptor (struct bpf_d). It implements [zbuf.Backend], which
// documents the methods. They return the errno that the kernel would return, or an error that wraps
// [ErrPanic].
type Descriptor struct {
	k                 *Kernel
	canRead, canWrite bool
	sleep             chan struct{} // capacity 1: wakes the goroutine in Wait

	mu       sync.Mutex
	closed   bool
	nonblock bool
	tap      *tap // bd_bif

	model             bufferModel
	bufmode           uint32
	store, hold, free *buffer
	slen, hlen        int // bytes in store and hold
	bufsize           int // usable bytes of each buffer

	rfilter, wfilter *filter
	layouts          *layouts
	promisc          bool
	immediate        uint8
	writer           int
	hdrcmplt         bool
	direction        uint32
	tstamp           uint32
	feedback         uint32
	async            int32
	sig              uint32
	owner            int32 // bd_sigio
	locked           bool
	pid              int
	limit            map[zbuf.Request]bool // nil: no Capsicum limit
	mayWrite         bool                  // with a limit

	rtout   int64 // ticks
	state   timeoutState
	timer   *time.Timer
	timerID uint64 // which timer is the current one

	flights flights
	watches bool // interfaces

	kq     kqueue
	queues []*Queue
	awake  chan struct{} // closed by wakeup, for Poll and Read; nil when nobody sleeps there

	rcount, dcount, fcount, wcount, wfcount, wdcount, zcopy uint64
}

var _ zbuf.Backend = (*Descriptor)(nil)

// A sighting is a packet at a tap.
type sighting struct {
	k       *Kernel
	data    []byte
	wirelen int
	out     bool
	quality int
	time    int64 // ns since the epoch
}

func newSighting(k *Kernel, p *Packet) sighting {
	s := sighting{k: k, data: p.Data, wirelen: max(p.Wirelen, len(p.Data)), out: p.Out}
	if !p.Time.IsZero() {
		s.quality, s.time = stampExtern, p.Time.UnixNano()
	}
	return s
}

// stamp gives the packet a time good enough for the listener (bpf_gettime).
func (s *sighting) stamp(tstamp uint32) {
	quality := stampQuality(tstamp)
	if s.quality >= quality {
		return
	}
	s.quality = quality
	now := s.k.now()
	if quality == stampFast {
		tick := time.Second / time.Duration(s.k.hz)
		now = s.k.boot.Add(now.Sub(s.k.boot) / tick * tick)
	}
	s.time = now.UnixNano()
}

// wants reports whether the direction lets the packet through.
func (d *Descriptor) wants(s *sighting) bool {
	return d.direction == zbuf.BPF_D_INOUT || s.out == (d.direction == zbuf.BPF_D_OUT)
}

// see is the body of bpf_mtap's loop. d.mu is held.
func (d *Descriptor) see(t *tap, s *sighting) {
	if snaplen := d.look(t, s); snaplen != 0 {
		d.depart(s, snaplen)
	}
}

// look does the half of see that the kernel does without the descriptor's lock. It returns the
// number of bytes of the packet that pass, or 0.
func (d *Descriptor) look(t *tap, s *sighting) uint32 {
	if d.tap != t || !d.wants(s) {
		return 0
	}
	d.rcount++
	return d.rfilter.match(s.data, s.wirelen, !d.k.plainMemory)
}

// keep does the other half.
func (d *Descriptor) keep(s *sighting, snaplen uint32) {
	d.fcount++
	s.stamp(d.tstamp)
	if d.tap == nil { // detached while the packet was in flight
		d.dcount++
		return
	}
	d.catch(s, snaplen)
}

// header returns the layout of the next record's header.
func (d *Descriptor) header() *layout {
	if isOld(d.tstamp) {
		return &d.layouts.old
	}
	return &d.layouts.extended
}

// place returns the place of the packet in the store buffer, and the number of bytes of its record.
func (d *Descriptor) place(s *sighting, snaplen uint32, l *layout) (off, hdrlen, total int) {
	hdrlen = l.hdrlen(d.tap.hdrlen)
	total = hdrlen + int(min(uint64(snaplen), uint64(len(s.data))))
	return wordAlign(d.slen, l.align), hdrlen, min(total, d.bufsize)
}

// wouldDrop reports whether see would find no room for the packet. d.mu is held.
func (d *Descriptor) wouldDrop(t *tap, s *sighting) bool {
	if d.tap != t || d.free != nil || d.model.canFree(d.hold) || !d.wants(s) {
		return false
	}
	snaplen := d.rfilter.match(s.data, s.wirelen, !d.k.plainMemory)
	if snaplen == 0 {
		return false
	}
	off, _, total := d.place(s, snaplen, d.header())
	return off+total > d.bufsize || !d.model.canWrite(d.store)
}

// catch stores a packet that matched (catchpacket).
func (d *Descriptor) catch(s *sighting, snaplen uint32) {
	if d.free == nil && d.model.canFree(d.hold) {
		d.reclaim()
	}
	l := d.header()
	off, hdrlen, total := d.place(s, snaplen, l)
	wake := false
	switch {
	case off+total > d.bufsize || !d.model.canWrite(d.store):
		if d.free == nil {
			d.model.full(d.store, d.slen)
			d.dcount++
			return
		}
		d.rotate()
		off, wake = 0, true
	case d.k.features.PadZero && off > d.slen:
		clear(d.store.mem[d.slen:off])
		d.appended(1)
		fallthrough
	default:
		wake = d.immediate != 0 || d.state == timedOut
	}
	var header [headerSlack]byte
	putStamp(header[:], l, d.tstamp, s.time, d.k.boot.UnixNano())
	lent := d.bufmode == zbuf.BPF_BUFMODE_ZBUF
	putRecord(d.store.mem[off:], l, &header, hdrlen, s.wirelen, s.data[:total-hdrlen],
		lent && off == 0)
	d.appended(2)
	d.slen = off + total
	if wake {
		d.wakeup()
	}
}

// appended counts appends to lent memory.
func (d *Descriptor) appended(n uint64) {
	if d.bufmode == zbuf.BPF_BUFMODE_ZBUF {
		d.zcopy += n
	}
}

// rotate is ROTATE_BUFFERS.
func (d *Descriptor) rotate() {
	d.hold, d.hlen = d.store, d.slen
	d.store, d.slen = d.free, 0
	d.free = nil
	d.model.held(d.hold, d.hlen)
}

// reclaim moves the hold buffer to the free slot.
func (d *Descriptor) reclaim() {
	d.free, d.hold, d.hlen = d.hold, nil, 0
	d.model.reclaimed(d.free)
}

// reset is reset_d. It drops the packets in buffers that the process does not own, and zeroes the
// counters. resettable must have returned true.
func (d *Descriptor) reset() {
	if d.hold != nil && (d.bufmode != zbuf.BPF_BUFMODE_ZBUF || d.model.canFree(d.hold)) {
		d.reclaim()
	}
	if d.model.canWrite(d.store) {
		d.slen = 0
	}
	d.zeroCounters()
	d.wdcount = 0
}

// resettable is false where reset_d follows a pointer to a buffer that is not there.
func (d *Descriptor) resettable() bool {
	return d.bufmode != zbuf.BPF_BUFMODE_ZBUF || d.store != nil
}

func (d *Descriptor) zeroCounters() {
	d.rcount, d.dcount, d.fcount, d.wcount, d.wfcount, d.zcopy = 0, 0, 0, 0, 0, 0
}

// ready is bpf_ready.
func (d *Descriptor) ready() bool {
	return d.hlen != 0 && !d.model.canFree(d.hold) ||
		(d.immediate != 0 || d.state == timedOut) && d.slen != 0
}

// attach is bpf_attachd. Kernel.mu is held.
func (k *Kernel) attach(d *Descriptor, t *tap) {
	d.mu.Lock()
	writer := k.optimizeWriters.Load() != 0 || d.writer != 0
	d.mu.Unlock()
	k.detach(d, false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tap = t
	if writer {
		t.addWriter(d)
		d.writer = writersFilters
	} else {
		t.addReader(d)
	}
	k.attached++
	if k.features.AttachWakes {
		d.reset()
		d.wakeup()
	}
}

// detach is bpf_detachd_locked. gone says that the interface goes. Kernel.mu is held.
func (k *Kernel) detach(d *Descriptor, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tap == nil {
		return
	}
	d.overtake(!k.features.FilterInFlight)
	d.tap.remove(d)
	k.attached--
	if d.promisc && !(gone && k.features.StalePromisc) {
		d.promisc = false
		k.dropPromisc(d.tap.iface)
	}
	d.tap = nil
}

// dropPromisc is ifpromisc(ifp, 0). Kernel.mu is held.
func (k *Kernel) dropPromisc(i *Interface) {
	if i.promisc == 0 {
		k.dying = i.name + ": a descriptor that does not hold it in promiscuous mode lets it go"
		return
	}
	i.promisc--
}

// Read reads the packets of one buffer, as read(2) does (bpfread). It takes the whole buffer, so p
// must be as long as BIOCGBLEN says.
//
// Read blocks on a descriptor that was opened without O_NONBLOCK. It then waits until a buffer is
// full, the read timeout is over or, in immediate mode, a packet is there. If the timeout is over
// and there is nothing, it returns 0 bytes.
//
// Errors:
//   - EINVAL: p has another length.
//   - EOPNOTSUPP: the descriptor is in zero-copy mode.
//   - ENXIO: no interface is attached, and there is nothing to read.
//   - EAGAIN: there is nothing to read.
//   - EBADF: the descriptor is closed, or was opened for writing only.
func (d *Descriptor) Read(p []byte) (int, error) {
	if err := d.k.enter("read"); err != nil {
		return 0, err
	}
	n, err := d.read(p)
	d.k.roomChanged()
	return n, err
}

func (d *Descriptor) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed || !d.canRead:
		return 0, syscall.EBADF
	case len(p) == 0:
		return 0, nil
	case len(p) != d.bufsize:
		return 0, syscall.EINVAL
	}
	d.pid = d.k.pid
	if d.bufmode != zbuf.BPF_BUFMODE_BUFFER {
		return 0, syscall.EOPNOTSUPP
	}
	nonblock, hadTimedOut := d.nonblock, d.state == timedOut
	d.stopTimeout()
	for d.hold == nil {
		if d.slen != 0 && (d.immediate != 0 || nonblock || hadTimedOut) {
			d.rotate()
			break
		}
		if d.tap == nil {
			return 0, syscall.ENXIO
		}
		if nonblock {
			return 0, syscall.EAGAIN
		}
		expired := d.msleep()
		if err := d.usable(); err != nil {
			return 0, err
		}
		if expired && d.hold == nil {
			if d.slen == 0 {
				return 0, nil
			}
			d.rotate()
		}
	}
	n := copy(p, d.hold.mem[:d.hlen])
	d.reclaim()
	return n, nil
}

// msleep releases d.mu until wakeup is called or the read timeout, if any, is over.
func (d *Descriptor) msleep() (expired bool) {
	var timeout <-chan time.Time
	if d.rtout > 0 {
		timer := time.NewTimer(d.k.ticks(d.rtout))
		defer timer.Stop()
		timeout = timer.C
	}
	awake := d.awakened()
	d.mu.Unlock()
	defer d.mu.Lock()
	select {
	case <-awake:
		return false
	case <-timeout:
		return true
	}
}

// Map returns memory that BIOCSETZBUF accepts. It is ordinary Go heap, page-aligned.
//
// Errors:
//   - EINVAL: size is not a positive multiple of the page size.
func (d *Descriptor) Map(size int) ([]byte, error) {
	if err := d.k.enter("map"); err != nil {
		return nil, err
	}
	return d.k.mmap(size)
}

// Unmap gives memory back. The kernel goes on using memory that it was lent, as the real one does.
//
// Errors:
//   - EINVAL: mem is not a slice that [Descriptor.Map] returned.
func (d *Descriptor) Unmap(mem []byte) error {
	if err := d.k.enter("unmap"); err != nil {
		return err
	}
	return d.k.munmap(mem)
}

// PageSize returns the unit of lent memory in bytes.
func (d *Descriptor) PageSize() int { return d.k.pageSize }

// Limit takes rights away, as cap_rights_limit(2) and cap_ioctls_limit(2) do. Afterwards the
// process may read, wait, make the requests in allowed and, if write is true, write. Any other
// operation gives [ENOTCAPABLE]. A second Limit can only take more away.
//
// Errors:
//   - EBADF: the descriptor is closed.
//   - [ENOTCAPABLE]: an earlier Limit has taken away a right that this one asks for.
func (d *Descriptor) Limit(allowed []zbuf.Request, write bool) error {
	if err := d.k.enter("limit"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return syscall.EBADF
	}
	if d.limit != nil && write && !d.mayWrite {
		return ENOTCAPABLE
	}
	limit := make(map[zbuf.Request]bool, len(allowed))
	for _, r := range allowed {
		if d.limit != nil && !d.limit[r] {
			return ENOTCAPABLE
		}
		limit[r] = true
	}
	d.limit, d.mayWrite = limit, write
	return nil
}

// Close closes the descriptor for the last time (bpf_dtor).
//
// Errors:
//   - EBADF: the descriptor is closed already.
func (d *Descriptor) Close() error {
	if err := d.k.enter("close"); err != nil {
		return err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return syscall.EBADF
	}
	d.closed = true
	d.stopTimeout()
	d.mu.Unlock()
	d.k.mu.Lock()
	d.k.detach(d, false)
	delete(d.k.open, d)
	d.k.unlock()
	d.mu.Lock()
	d.store, d.hold, d.free = nil, nil, nil
	d.slen, d.hlen = 0, 0
	d.flights.forget()
	d.interrupt()
	d.mu.Unlock()
	d.k.roomChanged()
	return d.k.Panicked()
}
