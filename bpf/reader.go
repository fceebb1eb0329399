package bpf

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf"
)

// A Reader captures from one interface.
//
// One goroutine at a time reads: Lease, ReadPacket, ReadInto and ZeroCopyReadPacketData. All other
// methods, and Lease.Release, may be called from any goroutine at any time.
type Reader struct {
	dev     *zbuf.Device
	src     source
	iface   string
	ifindex int
	mode    Mode
	reason  error // why not zero-copy
	size    int
	snap    Config // only what later filter changes need
	stamp   stamp
	dlt     uint32
	guard   bool

	// state is what makes one goroutine the reader: stateIdle, stateBusy, statePacket, or the
	// number of the lease that is out. Whoever moves it to stateBusy owns the fields below it.
	state   atomic.Uint64
	leases  uint64        // numbers given out
	current held          // the lease that is out, or the one behind ReadPacket and its like
	cursor  Cursor        // of the latter
	seenSeq uint64        // flushes when that was taken
	walked  atomic.Uint64 // how far the last iteration over the lease went

	wait     waiter
	closed   atomic.Bool
	deadline atomic.Pointer[time.Time]

	control sync.Mutex    // one change to the descriptor at a time, and none during an in-place read
	flushes atomic.Uint64 // odd while a reset is under way
	sandbox atomic.Bool

	stats counters
	lost  kernelCounters
}

const (
	stateIdle   = iota
	stateBusy   // a reading method is at work
	statePacket // ZeroCopyReadPacketData has a lease of its own, and the caller a packet in it
	stateCopied // ReadPacket or ReadInto has, but nobody looks at it
	stateReset  // whoever resets gives back what was pending; Reader.control is held
	firstLease
)

// source is where buffers come from: the lent ones or read(2). Its methods are called by
// the reading goroutine only.
type source interface {
	// take returns records that are there already, without a system call.
	take() (held, bool)
	// awaited says that what take returned last came while the reader slept, so that it is not behind.
	awaited()
	// harvest makes the system calls that turn up whatever the kernel has. readable is whether it has just said that it has something.
	harvest(readable bool) (held, bool, error)
	// empty says, after a system call on the descriptor, that the kernel had nothing then, if that can be seen in memory.
	empty() bool
	// release gives back what take or harvest returned.
	release(held)
	// guarded returns the whole mapping that it is in, and where in it.
	guarded(held) (mapping, buf []byte)
	// rearm says how to wait: whether readiness must be looked at afresh.
	rearm() bool
	// behind says that more is likely to be there, so that harvest is worth it before waiting.
	behind() bool
	// reset is told, by any goroutine, that the kernel has thrown away what was pending.
	// Reader.control is held.
	reset()
	// catchUp drops what was taken over before the last reset. Reader.control is held.
	catchUp()
}

// held is a run of records in the reader's hands.
//
// No more than four words, so that it stays in registers.
type held struct {
	buf []byte
	gen uint32 // with lent: what to acknowledge
	idx int8   // which lent buffer, or own
}

// own is the process' own memory: nothing to acknowledge.
const own = -1

// Open opens a descriptor and captures from the named interface from then on.
//
// Errors: ErrConfig; ErrZeroCopyRefused; ErrLinkType; those of the ioctls as [zbuf.Error], such as
// fs.ErrPermission for /dev/bpf and syscall.ENXIO for an unknown interface;
// errors.ErrUnsupported on other systems.
func Open(iface string, cfg Config) (*Reader, error) {
	dev := cfg.Device
	fail := func(err error) (*Reader, error) {
		if dev != nil {
			dev.Close()
		}
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return fail(err)
	}
	if dev == nil {
		sys := cfg.System
		if sys == nil {
			sys = zbuf.Host()
		}
		var err error
		if dev, err = zbuf.OpenOn(sys); err != nil {
			return nil, err
		}
	}
	r := &Reader{dev: dev, iface: iface, guard: cfg.Guard, snap: Config{SnapLen: cfg.SnapLen}}
	if err := r.setUp(&cfg); err != nil {
		return fail(err)
	}
	return r, nil
}

// setUp brings the descriptor from open to attached, in the one order that is safe and
// lets no packet pass unfiltered: mode, buffers, filter, interface.
func (r *Reader) setUp(cfg *Config) error {
	bufs, err := r.settleMode(cfg)
	if err != nil {
		return err
	}
	kernelStamp, s := cfg.timestamp(zbuf.WordSize)
	r.stamp = s
	prog := cfg.program(cfg.Filter)
	timeout := cfg.ReadTimeout
	switch {
	case cfg.Immediate || timeout == NoTimeout:
		timeout = 0
	case timeout == 0:
		timeout = DefaultReadTimeout
	}
	dir := map[Direction]uint32{InOut: zbuf.BPF_D_INOUT, In: zbuf.BPF_D_IN, Out: zbuf.BPF_D_OUT}[cfg.Direction]
	dev := r.dev
	steps := []func() error{
		func() error { return dev.SetTimestampType(kernelStamp) },
		func() error { return dev.SetDirection(dir) },
		func() error { return dev.SetReadTimeout(timeout) },
		func() error { return dev.SetFilter(prog) },
		func() error { return dev.SetInterface(r.iface) },
	}
	if cfg.Immediate {
		steps = append(steps, func() error { return dev.SetImmediate(true) })
	}
	if cfg.HeaderComplete {
		steps = append(steps, func() error { return dev.SetHeaderComplete(true) })
	}
	if len(cfg.WriteFilter) > 0 {
		steps = append(steps, func() error { return dev.SetWriteFilter(cfg.WriteFilter) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if r.mode == ZeroCopy {
		r.src, err = newLentSource(r, bufs, cfg.Immediate)
	} else {
		r.src, err = newReadSource(r)
	}
	if err != nil {
		return err
	}
	if err := r.chooseLinkType(cfg.LinkTypes); err != nil {
		return err
	}
	if cfg.Promiscuous {
		if err := dev.SetPromiscuous(); err != nil {
			return err
		}
	}
	// With net.bpf.optimize_writers a descriptor sleeps until a filter is set after attaching.
	if err := dev.SetFilterNoReset(prog); err != nil {
		return err
	}
	if r.ifindex, err = dev.InterfaceIndex(); err != nil {
		return err
	}
	r.wait.init(r, timeout, cfg.Immediate)
	return nil
}

// settleMode asks for zero-copy unless told otherwise. A refusal of zero-copy is an error, or the reason for read(2).
func (r *Reader) settleMode(cfg *Config) (*zbuf.Buffers, error) {
	size := cfg.BufferSize
	if size == 0 {
		size = DefaultBufferSize
	}
	if cfg.Mode != Buffered {
		bufs, refused, err := lendBuffers(r.dev, size, cfg.BufferSize == 0, cfg.Guard)
		if err != nil {
			return nil, err
		}
		if refused == nil {
			r.mode, r.size = ZeroCopy, bufs.Size()
			return bufs, nil
		}
		refused = fmt.Errorf("%w: %w", ErrZeroCopyRefused, refused)
		if cfg.Mode == ZeroCopy {
			return nil, refused
		}
		r.reason = refused
		if err := r.dev.SetBufferMode(zbuf.BPF_BUFMODE_BUFFER); err != nil && !errors.Is(err, syscall.EBUSY) {
			return nil, err
		}
	} else {
		r.reason = errBufferedAsked
	}
	r.mode = Buffered
	if _, err := r.dev.SetBufferLen(uint32(size)); err != nil {
		return nil, err
	}
	return nil, nil
}

var errBufferedAsked = errors.New("bpf: buffered mode was asked for")

// lendBuffers tells a refusal, which Auto can live with, from an error.
func lendBuffers(dev *zbuf.Device, size int, shrink, guard bool) (bufs *zbuf.Buffers, refused, err error) {
	refusal := func(err error) bool {
		for _, e := range []syscall.Errno{syscall.EINVAL, syscall.EBUSY, syscall.EOPNOTSUPP, syscall.EFAULT} {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	if err := dev.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF); err != nil {
		if refusal(err) {
			return nil, err, nil
		}
		return nil, nil, err
	}
	most, err := dev.MaxBufferSize()
	if err != nil {
		if refusal(err) {
			return nil, fmt.Errorf("a 32-bit program can't lend buffers to a 64-bit kernel: %w", err), nil
		}
		return nil, nil, err
	}
	if size > most {
		if !shrink {
			return nil, nil, fmt.Errorf("%w: BufferSize %d: the kernel takes at most %d bytes", ErrConfig, size, most)
		}
		size = most
	}
	set := dev.SetBuffers
	if guard {
		set = dev.SetGuardedBuffers
	}
	bufs, err = set(size)
	if err != nil {
		if refusal(err) {
			return nil, err, nil
		}
		return nil, nil, err
	}
	return bufs, nil, nil
}

func (r *Reader) chooseLinkType(want []uint32) error {
	if len(want) > 0 {
		have, err := r.dev.LinkTypes()
		if err != nil {
			return err
		}
		dlt, ok := firstOf(want, have)
		if !ok {
			return fmt.Errorf("%w: %s offers %v, not %v", ErrLinkType, r.iface, have, want)
		}
		if err := r.reset(func() error { return r.dev.SetLinkType(dlt) }); err != nil {
			return err
		}
	}
	dlt, err := r.dev.LinkType()
	r.dlt = dlt
	return err
}

func firstOf(want, have []uint32) (uint32, bool) {
	for _, w := range want {
		for _, h := range have {
			if w == h {
				return w, true
			}
		}
	}
	return 0, false
}

// Mode returns ZeroCopy or Buffered and, if it is Buffered, why: ErrZeroCopyRefused and what the
// kernel said, or that it was asked for.
func (r *Reader) Mode() (Mode, error) { return r.mode, r.reason }

// BufferSize returns the bytes of each buffer in force.
func (r *Reader) BufferSize() int { return r.size }

// LinkType returns the DLT_ number of the packets.
func (r *Reader) LinkType() uint32 { return r.dlt }

// LinkTypes returns the DLT_ numbers that the interface offers.
func (r *Reader) LinkTypes() ([]uint32, error) { return r.dev.LinkTypes() }

// Interface returns the name the Reader was opened with.
func (r *Reader) Interface() string { return r.iface }

// A Lease is a run of captured packets in memory that is the caller's until Release: usually one of
// the buffers lent to the kernel. While it is out the kernel has only the other buffer to fill, so keep it
// short, or copy. The zero Lease is released.
type Lease struct {
	r   *Reader
	id  uint64
	buf []byte

	stamp stamp
}

// Lease waits until there are packets and returns them, oldest first. At most one lease is out at
// a time.
//
// Errors: ErrLeaseOut; context.Cause of ctx when it is done; os.ErrDeadlineExceeded after
// SetReadDeadline; os.ErrClosed; ErrInterfaceGone; what the kernel says. Packets that are
// there already come before any of the errors but ErrLeaseOut and os.ErrClosed.
func (r *Reader) Lease(ctx context.Context) (Lease, error) {
	was, err := r.begin()
	if err != nil {
		return Lease{}, err
	}
	if was == statePacket {
		if rest := r.cursor.rest(); len(rest) > 0 && r.flushes.Load() == r.seenSeq {
			return r.lend(rest), nil // what ReadPacket has not got to yet
		}
		r.release(r.current)
	}
	if r.current, err = r.next(ctx); err != nil {
		r.end()
		return Lease{}, err
	}
	return r.lend(r.current.buf), nil
}

// lend makes buf, a part of r.current, the lease that is out.
func (r *Reader) lend(buf []byte) Lease {
	r.walked.Store(uint64(len(buf)))
	id := firstLease + r.leases
	r.leases++
	r.state.Store(id)
	return Lease{r: r, id: id, buf: buf, stamp: r.stamp}
}

// next returns the next run of records, waiting for it if need be.
func (r *Reader) next(ctx context.Context) (held, error) {
	h, ok := r.src.take()
	if !ok {
		var err error
		if h, err = r.wait.next(ctx); err != nil {
			return held{}, err
		}
	}
	if h.idx != own {
		r.stats.lent.Add(1)
	}
	if r.guard {
		if err := r.expose(&h); err != nil {
			r.src.release(h)
			return held{}, err
		}
	}
	return h, nil
}

// expose makes h accessible, at the address where release protects it.
func (r *Reader) expose(h *held) error {
	mapping, buf := r.src.guarded(*h)
	h.buf = buf
	return r.dev.Protect(mapping, true)
}

// release gives h back. With Config.Guard nobody can look at it any more.
func (r *Reader) release(h held) {
	if r.guard {
		mapping, _ := r.src.guarded(h)
		r.dev.Protect(mapping, false) // it can fail for want of kernel memory only, and guards nothing then
	}
	r.src.release(h)
}

// memory returns what packets are copied into.
func (r *Reader) memory(size int) ([]byte, error) {
	if r.guard {
		return r.dev.GuardedMemory(size)
	}
	return make([]byte, size), nil
}

// writable makes that memory so.
func (r *Reader) writable(mem []byte) error {
	if r.guard {
		return r.dev.Protect(mem, true)
	}
	return nil
}

// begin makes the caller the reader, and keeps the lent memory from being unmapped. It returns the state
// that was before: stateIdle, or statePacket if there is a lease already.
func (r *Reader) begin() (was uint64, err error) {
	if r.state.CompareAndSwap(statePacket, stateBusy) || r.state.CompareAndSwap(stateCopied, stateBusy) {
		if r.closed.Load() {
			r.release(r.current)
			r.end()
			return 0, errClosed
		}
		return statePacket, nil
	}
	if r.closed.Load() {
		return 0, errClosed
	}
	for !r.state.CompareAndSwap(stateIdle, stateBusy) {
		switch r.state.Load() {
		case stateIdle: // since
		case stateReset:
			r.control.Lock() // until it is through
			r.control.Unlock()
		default:
			return 0, ErrLeaseOut
		}
	}
	if !r.dev.Pin() {
		r.state.Store(stateIdle)
		return 0, errClosed
	}
	return stateIdle, nil
}

func (r *Reader) end() {
	r.state.Store(stateIdle)
	r.dev.Unpin()
}

// Release gives the memory back. Everything got from the lease is invalid from then on. The second
// Release returns ErrReleased.
func (l Lease) Release() error {
	if l.r == nil || !l.r.state.CompareAndSwap(l.id, stateBusy) {
		return ErrReleased
	}
	l.r.release(l.r.current)
	l.r.end()
	return nil
}

// Len returns the bytes of records in the lease, headers included.
func (l Lease) Len() int { return len(l.buf) }

// Packets iterates over the packets. If it ends early because the buffer is corrupt, Err says so.
func (l Lease) Packets() iter.Seq[Packet] {
	// The compiler inlines all of this, and the loop's body into it: no call for each packet.
	return func(yield func(Packet) bool) {
		var w passed
		var at uint
		buf, s := l.buf, l.stamp
		// Every record is taken as if it were padded, for which the last one may have no room.
		const padding = zbuf.Alignment - 1
		end := uint(len(buf)) + padding
	walk:
		for at+minHdrlen+padding <= end {
			_, hdrlen := lengths(buf, at)
			if hdrlen < minHdrlen {
				break
			}
			// The kernel gives all records of a descriptor the same header length. That it does not change in
			// the inner loop takes a load and an addition out of the chain from record to record, which is what
			// the speed hangs on; of 32 bits is the sum lest the compiler put the addition back.
			padded := uint(uint32(hdrlen) + padding)
			for at+minHdrlen+padding <= end {
				if !hasHdrlen(buf, at, uint16(hdrlen)) {
					continue walk
				}
				caplen, _ := lengths(buf, at)
				next := at + padded + caplen
				if next > end || zbuf.WordSize == 4 && (padded+caplen < caplen || next < at) {
					break walk
				}
				p := packetAt(buf, at, caplen, hdrlen, s)
				w.n++
				w.bytes += uint64(caplen)
				at = next &^ padding
				if !yield(p) {
					break walk
				}
			}
		}
		l.walked(&w, at)
	}
}

// passed is what an iteration counts. It is in memory lest it take two registers, which a call in the loop's body would save.
type passed struct{ n, bytes uint64 }

// walked notes how far an iteration went.
//
//go:noinline
func (l Lease) walked(w *passed, at uint) {
	if l.r != nil {
		l.r.stats.packets.Add(w.n)
		l.r.stats.bytes.Add(w.bytes)
		l.r.walked.Store(uint64(at))
	}
}

// Cursor returns a cursor in front of the first packet. Packets got through it are not in Stats until
// Reader.Count is given the cursor.
func (l Lease) Cursor() Cursor {
	return newCursor(l.buf, l.stamp)
}

// Err returns, after an iteration over Packets, nil or the ErrCorrupt that ended it early.
func (l Lease) Err() error {
	if l.r == nil {
		return nil
	}
	if e := bad(l.buf, uint(l.r.walked.Load())); e != nil {
		return e
	}
	return nil
}

// Count adds the packets that the cursor has passed to Stats.
func (r *Reader) Count(c *Cursor) {
	r.stats.packets.Add(c.n)
	r.stats.bytes.Add(c.bytes)
	c.n, c.bytes = 0, 0
}

// ZeroCopyReadPacketData waits for the next packet and returns it without copying: data is valid until the
// next call of any reading method. Errors: those of Lease, and ErrCorrupt, after which reading goes on
// with the next buffer. It waits as long as it takes: see SetReadDeadline and Close.
func (r *Reader) ZeroCopyReadPacketData() (data []byte, info Info, err error) {
	p, err := r.nextPacket(context.Background())
	if err != nil {
		return nil, Info{}, err
	}
	data, info = p.Data(), p.info(r.ifindex)
	r.state.Store(statePacket)
	return data, info, nil
}

// ReadPacket waits for the next packet and returns a copy of it. Errors: see
// ZeroCopyReadPacketData.
func (r *Reader) ReadPacket(ctx context.Context) ([]byte, Info, error) {
	p, err := r.nextPacket(ctx)
	if err != nil {
		return nil, Info{}, err
	}
	data, info := append([]byte(nil), p.Data()...), p.info(r.ifindex)
	r.copied()
	return data, info, nil
}

// ReadInto waits for the next packet and copies it into buf. If buf is shorter than the packet, the rest
// is dropped: info.CaptureLength tells, and n is len(buf). Errors: see ZeroCopyReadPacketData.
func (r *Reader) ReadInto(ctx context.Context, buf []byte) (n int, info Info, err error) {
	p, err := r.nextPacket(ctx)
	if err != nil {
		return 0, Info{}, err
	}
	n, info = copy(buf, p.Data()), p.info(r.ifindex)
	r.copied()
	return n, info, nil
}

// copied ends a reading method when the packet has been copied: from then on whoever resets or closes may
// release what it was in.
func (r *Reader) copied() {
	r.state.Store(stateCopied)
	if r.closed.Load() {
		r.releaseCopied()
	}
}

// releaseCopied releases, for good, the lease behind ReadPacket at which nobody looks.
func (r *Reader) releaseCopied() {
	if r.state.CompareAndSwap(stateCopied, stateBusy) {
		r.release(r.current)
		r.end()
	}
}

// nextPacket advances the cursor in the reader's own lease, taking the next one when it is through. Without an
// error it leaves the reader busy.
func (r *Reader) nextPacket(ctx context.Context) (Packet, error) {
	was, err := r.begin()
	if err != nil {
		return Packet{}, err
	}
	for {
		if was == statePacket {
			var err error
			if r.flushes.Load() == r.seenSeq {
				if r.cursor.Next() {
					r.Count(&r.cursor)
					return r.cursor.Packet(), nil
				}
				err = r.cursor.Err()
			}
			r.release(r.current)
			if err != nil {
				r.end()
				return Packet{}, err
			}
		}
		seq := r.flushes.Load()
		if r.current, err = r.next(ctx); err != nil {
			r.end()
			return Packet{}, err
		}
		r.cursor, r.seenSeq, was = newCursor(r.current.buf, r.stamp), seq, statePacket
	}
}

// SetReadDeadline makes reading fail with os.ErrDeadlineExceeded from t on, once everything that
// is there has been delivered. The zero Time is no deadline. It applies to a read under way too.
func (r *Reader) SetReadDeadline(t time.Time) error {
	if r.closed.Load() {
		return errClosed
	}
	if t.IsZero() {
		r.deadline.Store(nil)
	} else {
		r.deadline.Store(&t)
	}
	return r.dev.Wake()
}

// Close wakes a read under way, which returns os.ErrClosed, and closes the descriptor. Lent memory is
// unmapped when the lease that is out, if any, is released. The second Close returns nil.
func (r *Reader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.releaseCopied()
	return r.dev.Close()
}
