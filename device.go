package zbuf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Device is one open bpf descriptor with a typed method for every request that
// bpf(4) answers.
//
// All methods may be called from any goroutine; Wait by one at a time. Requests are
// made one after the other. After Close every method returns an error that
// is os.ErrClosed. Any request may also give EPERM on a descriptor that was locked (Lock)
// unless its documentation says otherwise, and ENOTCAPABLE after Limit.
//
// "Attached" means that SetInterface has been called. Each request is in every
// FreeBSD release since 9.0 unless its documentation names another.
type Device struct {
	res *resources

	life sync.RWMutex // read-held by every call, so that Close has the descriptor to itself
	shut atomic.Bool

	mu      sync.Mutex // one request at a time; guards what follows
	mode    uint32
	bufs    *Buffers
	alien   bool // buffers of somebody else
	iface   string
	promisc bool  // the attached interface is promiscuous for this descriptor, or may be
	noIndex bool  // the attached tap is not a network interface
	rot     Zbuf  // scratch of Rotate, which is called often
	nread   int32 // scratch of BytesReadable, likewise

	leak runtime.Cleanup
}

// resources is what must be given back: the descriptor, and the lent memory once the
// descriptor is closed and nobody pins it.
type resources struct {
	b      Backend
	closed bool
	mem    [][]byte
	pins   atomic.Int64 // one for the open descriptor, one for each Pin
	keep   atomic.Bool  // somebody whom the garbage collector can't see uses the memory
}

func (r *resources) close() error {
	r.closed = true
	return r.b.Close()
}

func (r *resources) unmap() error {
	var errs []error
	for _, m := range r.mem {
		errs = append(errs, opError("munmap", "", r.b.Unmap(m)))
	}
	r.mem = nil
	return errors.Join(errs...)
}

// unpin drops one reference. The last one unmaps, and then gone is true.
func (r *resources) unpin() (gone bool, err error) {
	if r.pins.Add(-1) != 0 {
		return false, nil
	}
	return true, r.unmap()
}

// abandon gives back what is left when the Device is garbage: nobody can use or unpin it any more. It
// leaves memory mapped that KeepMapped protects, and so trades a leak for a fault.
func (r *resources) abandon() {
	if !r.closed {
		r.close()
	}
	if !r.keep.Load() {
		r.unmap()
	}
}

// Open opens a descriptor of the running kernel. Errors: EACCES, ENOENT,
// EMFILE; ErrForeignOS (errors.ErrUnsupported) anywhere but on FreeBSD.
func Open() (*Device, error) { return OpenOn(Host()) }

// OpenOn opens a descriptor of the given system.
func OpenOn(s System) (*Device, error) {
	b, err := s.Open()
	if err != nil {
		return nil, opError("open /dev/bpf", "", err)
	}
	return newDevice(b), nil
}

// Adopt takes over a descriptor that somebody else opened, through its backend (on
// FreeBSD, [NewHostBackend] makes one of a file descriptor). The Device owns it
// from then on; on error it is left open. A descriptor in zero-copy mode can be adopted
// for everything but its packets, since its memory stays with who lent it; and while the sysctl
// net.bpf.zerocopy_enable is 0 it is not known whether it has buffers, so what resets is refused.
func Adopt(b Backend) (*Device, error) {
	d := newDevice(b)
	if err := d.learn(); err != nil {
		d.leak.Stop()
		return nil, err
	}
	return d, nil
}

func newDevice(b Backend) *Device {
	d := &Device{res: &resources{b: b}, mode: BPF_BUFMODE_BUFFER}
	d.res.pins.Store(1)
	d.leak = runtime.AddCleanup(d, (*resources).abandon, d.res)
	return d
}

// learn asks an adopted descriptor for what the guards need to know.
func (d *Device) learn() error {
	mode, err := d.BufferMode()
	switch {
	case errors.Is(err, syscall.EPERM):
		return nil // locked: what the guards refuse, the kernel refuses too
	case err != nil:
		return err
	}
	d.mode = mode
	d.iface, err = d.Interface()
	d.promisc = err == nil // the kernel does not say whether
	if mode == BPF_BUFMODE_ZBUF {
		// Asking for the mode it has is EBUSY if, and only if, there are buffers.
		again := uint32(BPF_BUFMODE_ZBUF)
		d.alien = errors.Is(d.res.b.Ioctl(BIOCSETBUFMODE, &again), syscall.EBUSY)
	}
	return nil
}

// Close closes the descriptor. A Wait under way returns first. Lent memory is unmapped
// when nothing pins it. The second Close returns nil.
func (d *Device) Close() error {
	if d.shut.Swap(true) {
		return nil
	}
	d.res.b.Wake()
	d.life.Lock()
	defer d.life.Unlock()
	return errors.Join(opError("close", d.iface, d.res.close()), d.Unpin())
}

// enter begins a call; leave ends it.
func (d *Device) enter(op string) error {
	if !d.alive() {
		return &Error{Op: op, Err: os.ErrClosed}
	}
	return nil
}

// alive is enter for who has to look up what to call the operation.
func (d *Device) alive() bool {
	d.life.RLock()
	if d.shut.Load() {
		d.life.RUnlock()
		return false
	}
	return true
}

func (d *Device) leave() { d.life.RUnlock() }

// ioctl makes one request with the lock held for its duration.
func (d *Device) ioctl(req Request, arg any) error {
	if !d.alive() {
		return &Error{Op: req.String(), Err: os.ErrClosed}
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ioctlLocked(req, arg)
}

func (d *Device) ioctlLocked(req Request, arg any) error {
	switch req {
	case BIOCSETF, BIOCFLUSH, BIOCSETIF, BIOCSDLT:
		if d.mode == BPF_BUFMODE_ZBUF && d.bufs == nil && !d.alien {
			return &Error{Op: req.String(), Interface: d.iface, Err: ErrResetUnsafe}
		}
	}
	if err := d.res.b.Ioctl(req, arg); err != nil {
		return opError(req.String(), d.iface, err)
	}
	return nil
}

func (d *Device) get(req Request) (v uint32, err error) {
	err = d.ioctl(req, &v)
	return v, err
}

func (d *Device) set(req Request, v uint32) error { return d.ioctl(req, &v) }

func (d *Device) setBool(req Request, on bool) error {
	if on {
		return d.set(req, 1)
	}
	return d.set(req, 0)
}

func (d *Device) setInt(req Request, v int32) error { return d.ioctl(req, &v) }

func (d *Device) getInt(req Request) (v int32, err error) {
	err = d.ioctl(req, &v)
	return v, err
}

// BufferLen returns the usable bytes of each buffer: what read(2) must be given in
// buffered mode; the length of a lent buffer less its header in zero-copy mode. Before there
// are buffers it is the sysctl net.bpf.bufsize. BIOCGBLEN; legal when locked.
func (d *Device) BufferLen() (uint32, error) { return d.get(BIOCGBLEN) }

// SetBufferLen asks for buffers of n bytes in buffered mode and returns what the
// kernel made of it, between BPF_MINBUFSIZE and the sysctl net.bpf.maxbufsize.
// BIOCSBLEN, before attach. Errors: EINVAL when attached, EOPNOTSUPP in zero-copy mode.
func (d *Device) SetBufferLen(n uint32) (uint32, error) {
	err := d.ioctl(BIOCSBLEN, &n)
	return n, err
}

// SetFilter sets the read filter, empties the buffers that the kernel owns and
// zeroes the counters. An empty program accepts everything. BIOCSETF, before or after attach.
// Errors: EINVAL for a program that [Validate] refuses or that is longer than the sysctl
// net.bpf.maxinsns; ErrResetUnsafe.
func (d *Device) SetFilter(prog []Insn) error { return d.program(BIOCSETF, prog) }

// SetFilterNoReset is SetFilter without the emptying and zeroing. BIOCSETFNR.
func (d *Device) SetFilterNoReset(prog []Insn) error { return d.program(BIOCSETFNR, prog) }

// SetWriteFilter sets the filter that packets written must pass; others are refused with
// EPERM. BIOCSETWF; errors as for SetFilter.
func (d *Device) SetWriteFilter(prog []Insn) error { return d.program(BIOCSETWF, prog) }

func (d *Device) program(req Request, prog []Insn) error {
	p := Program{Len: uint32(len(prog))}
	if len(prog) > 0 {
		p.Insns = &prog[0]
	}
	err := d.ioctl(req, &p)
	runtime.KeepAlive(prog)
	return err
}

// Flush empties the buffers that the kernel owns and zeroes the counters. What the
// process owns keeps its old packets and must still be acknowledged. BIOCFLUSH; legal when locked.
// Errors: ErrResetUnsafe.
func (d *Device) Flush() error { return d.ioctl(BIOCFLUSH, nil) }

// ReadTimeout returns the kernel's read timeout; 0 is none. BIOCGRTIMEOUT; legal when locked.
func (d *Device) ReadTimeout() (time.Duration, error) {
	var tv Timeval
	err := d.ioctl(BIOCGRTIMEOUT, &tv)
	return time.Duration(tv.Sec)*time.Second + time.Duration(tv.Usec)*time.Microsecond, err
}

// SetReadTimeout sets the time after which waiting readers are woken although no
// buffer is full, in steps of a clock tick (1/kern.hz s), rounded up; 0 is none. It runs from the
// moment somebody waits, and every request on the descriptor stops it until somebody
// waits again. BIOCSRTIMEOUT; legal when locked. Errors: EINVAL for a negative one.
func (d *Device) SetReadTimeout(t time.Duration) error {
	us := (t + time.Microsecond - 1) / time.Microsecond
	if t < 0 {
		us = -1
	}
	return d.ioctl(BIOCSRTIMEOUT, newTimeval(int64(us)))
}

func newTimeval(us int64) *Timeval {
	var tv Timeval
	setTimeval(&tv.Sec, us/1e6)
	setTimeval(&tv.Usec, us%1e6)
	return &tv
}

func setTimeval[T int32 | int64](field *T, v int64) { *field = T(v) }

// Stats returns the counters since the last reset, cut to 32 bits: packets seen and
// packets dropped for want of room. BIOCGSTATS; legal when locked.
func (d *Device) Stats() (s Stat, err error) {
	err = d.ioctl(BIOCGSTATS, &s)
	return s, err
}

// SetImmediate makes every packet wake waiting readers. BIOCIMMEDIATE; legal when locked.
func (d *Device) SetImmediate(on bool) error { return d.setBool(BIOCIMMEDIATE, on) }

// FilterVersion returns the version of the filter language. BIOCVERSION; legal when locked.
func (d *Device) FilterVersion() (v Version, err error) {
	err = d.ioctl(BIOCVERSION, &v)
	return v, err
}

// Signal returns the signal that SetAsync sends; SIGIO by default. BIOCGRSIG; legal when locked.
func (d *Device) Signal() (uint32, error) { return d.get(BIOCGRSIG) }

// SetSignal sets the signal that SetAsync sends. BIOCSRSIG. Errors: EINVAL for no signal's number.
func (d *Device) SetSignal(sig uint32) error { return d.set(BIOCSRSIG, sig) }

// HeaderComplete reports whether written packets keep their source address.
// BIOCGHDRCMPLT; legal when locked.
func (d *Device) HeaderComplete() (bool, error) {
	v, err := d.get(BIOCGHDRCMPLT)
	return v != 0, err
}

// SetHeaderComplete says whether written packets keep the link-level source address they
// have; else the interface's is filled in. BIOCSHDRCMPLT.
func (d *Device) SetHeaderComplete(on bool) error { return d.setBool(BIOCSHDRCMPLT, on) }

// Direction returns which packets are seen: BPF_D_IN, BPF_D_INOUT or BPF_D_OUT. BIOCGDIRECTION.
func (d *Device) Direction() (uint32, error) { return d.get(BIOCGDIRECTION) }

// SetDirection chooses which packets are seen. BIOCSDIRECTION. Errors: EINVAL for any other value.
func (d *Device) SetDirection(dir uint32) error { return d.set(BIOCSDIRECTION, dir) }

// SetFeedback makes packets written also arrive as if received. BIOCFEEDBACK; legal when locked.
func (d *Device) SetFeedback(on bool) error { return d.setBool(BIOCFEEDBACK, on) }

// Lock makes the kernel refuse with EPERM whatever could change what the descriptor
// captures or writes, for good. BIOCLOCK; legal when locked.
func (d *Device) Lock() error { return d.ioctl(BIOCLOCK, nil) }

// TimestampType returns the BPF_T_ value in force. BIOCGTSTAMP.
func (d *Device) TimestampType() (uint32, error) { return d.get(BIOCGTSTAMP) }

// SetTimestampType sets the BPF_T_ value. Records already stored keep their form, so set it before
// attaching. BIOCSTSTAMP; legal when locked. Errors: EINVAL for an undefined value.
func (d *Device) SetTimestampType(t uint32) error { return d.set(BIOCSTSTAMP, t) }

// SetVLANPCP sets the 802.1p priority, 0 to 7, of packets written. BIOCSETVLANPCP, since 14.0
// (not run). Errors: EINVAL for more than 7, and before 14.0.
func (d *Device) SetVLANPCP(pcp uint32) error { return d.set(BIOCSETVLANPCP, pcp) }

// BufferMode returns BPF_BUFMODE_BUFFER or BPF_BUFMODE_ZBUF. BIOCGETBUFMODE.
func (d *Device) BufferMode() (uint32, error) { return d.get(BIOCGETBUFMODE) }

// SetBufferMode chooses the buffer mode, right after open: before SetBufferLen, SetBuffers and
// attach. BIOCSETBUFMODE. Errors: EBUSY when there are buffers (in 9.3 and 10.1 there are from open
// on) or an interface; EINVAL for another mode; ErrZeroCopyDisabled (and EINVAL) for
// BPF_BUFMODE_ZBUF while the sysctl net.bpf.zerocopy_enable is 0.
func (d *Device) SetBufferMode(mode uint32) error {
	if err := d.enter(BIOCSETBUFMODE.String()); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.ioctlLocked(BIOCSETBUFMODE, &mode)
	switch {
	case err == nil:
		d.mode = mode
	case mode == BPF_BUFMODE_ZBUF && errors.Is(err, syscall.EINVAL):
		return &Error{Op: BIOCSETBUFMODE.String(), Err: fmt.Errorf("%w: %w", ErrZeroCopyDisabled, syscall.EINVAL)}
	}
	return err
}

// MaxBufferSize returns the bytes that each lent buffer may have, header included: 512
// pages. BIOCGETZMAX. Errors: EOPNOTSUPP in buffered mode; EINVAL for a 32-bit process on
// a 64-bit kernel.
func (d *Device) MaxBufferSize() (int, error) {
	var n uintptr
	err := d.ioctl(BIOCGETZMAX, &n)
	return int(n), err
}

// BytesReadable returns the bytes of records in store and hold buffer together. FIONREAD; legal when locked.
// Acknowledged records count until the kernel has taken their buffer back.
func (d *Device) BytesReadable() (int, error) {
	if err := d.enter(FIONREAD.String()); err != nil {
		return 0, err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.ioctlLocked(FIONREAD, &d.nread)
	return int(d.nread), err
}

// SetNonblocking sets FIONBIO. The backends open descriptors non-blocking. Errors: EPERM when locked.
func (d *Device) SetNonblocking(on bool) error {
	if on {
		return d.setInt(FIONBIO, 1)
	}
	return d.setInt(FIONBIO, 0)
}

// SetAsync asks for a signal when there is something to read. FIOASYNC.
func (d *Device) SetAsync(on bool) error {
	if on {
		return d.setInt(FIOASYNC, 1)
	}
	return d.setInt(FIOASYNC, 0)
}

// Owner returns the process, or negative the process group, that signals go to. FIOGETOWN.
func (d *Device) Owner() (int32, error) { return d.getInt(FIOGETOWN) }

// SetOwner sets the process, or negative the process group, that signals go to. FIOSETOWN.
func (d *Device) SetOwner(pid int32) error { return d.setInt(FIOSETOWN, pid) }

// ProcessGroup returns the process group that signals go to. TIOCGPGRP; legal when locked.
func (d *Device) ProcessGroup() (int32, error) { return d.getInt(TIOCGPGRP) }

// SetProcessGroup sets the process group that signals go to. TIOCSPGRP.
func (d *Device) SetProcessGroup(pgrp int32) error { return d.setInt(TIOCSPGRP, pgrp) }

// Buffers are the two buffers lent to the kernel, A filled first. They live until the
// Device is closed and no [Device.Pin] is left.
type Buffers struct {
	A, B Buffer
	size int
	dev  *Device // keeps the memory from being cleaned up while its slices may be in use
}

// Size returns the bytes of each buffer, header included.
func (b *Buffers) Size() int { return b.size }

// SetBuffers lends the kernel two buffers of size bytes, header included, in memory that stays shared
// over fork(2). The kernel wires them. BIOCSETZBUF, in zero-copy mode, before attach, once.
// size is rounded up to whole pages. Errors: EOPNOTSUPP in buffered mode; EINVAL for 0 or
// more than MaxBufferSize; EFAULT when the kernel can't map them; ENOMEM; ErrBuffersSet.
func (d *Device) SetBuffers(size int) (*Buffers, error) { return d.setBuffers(size, false) }

// SetGuardedBuffers is SetBuffers with memory at two addresses: what Buffer.View returns can be made
// inaccessible with Protect, while kernel and headers go on with the other. Errors besides:
// errors.ErrUnsupported where the Backend is no Guard.
func (d *Device) SetGuardedBuffers(size int) (*Buffers, error) { return d.setBuffers(size, true) }

func (d *Device) setBuffers(size int, guarded bool) (*Buffers, error) {
	op := BIOCSETZBUF.String()
	if err := d.enter(op); err != nil {
		return nil, err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.bufs != nil:
		return nil, &Error{Op: op, Interface: d.iface, Err: ErrBuffersSet}
	case d.alien:
		return nil, &Error{Op: op, Interface: d.iface, Err: ErrNotOurBuffers}
	case size <= 0:
		return nil, &Error{Op: op, Interface: d.iface, Err: syscall.EINVAL, Hint: "the size must be at least 1 byte"}
	}
	b := d.res.b
	page := b.PageSize()
	size = (size + page - 1) / page * page
	var lent, view [2][]byte
	undo := func(err error) (*Buffers, error) {
		for _, m := range append(lent[:], view[:]...) {
			if m != nil {
				err = errors.Join(err, b.Unmap(m))
			}
		}
		return nil, err
	}
	for i := range lent {
		var err error
		if guarded {
			g, ok := b.(Guard)
			if !ok {
				return undo(opError("guard", d.iface, errors.ErrUnsupported))
			}
			lent[i], view[i], err = g.MapTwice(size)
		} else {
			lent[i], err = b.Map(size)
		}
		if err != nil {
			return undo(opError("mmap", d.iface, err))
		}
	}
	if err := d.ioctlLocked(BIOCSETZBUF, &Zbuf{Bufa: &lent[0][0], Bufb: &lent[1][0], Buflen: uintptr(size)}); err != nil {
		return undo(err)
	}
	d.res.mem = lent[:]
	if guarded {
		d.res.mem = append(lent[:], view[:]...)
	}
	d.bufs = &Buffers{A: newBuffer(lent[0], view[0]), B: newBuffer(lent[1], view[1]), size: size, dev: d}
	return d.bufs, nil
}

// GuardedMemory returns size bytes that Protect can make inaccessible. They are unmapped with the lent memory.
// Errors: errors.ErrUnsupported where the Backend is no Guard.
func (d *Device) GuardedMemory(size int) ([]byte, error) {
	if err := d.enter("mmap"); err != nil {
		return nil, err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.res.b
	if _, ok := b.(Guard); !ok {
		return nil, opError("guard", d.iface, errors.ErrUnsupported)
	}
	page := b.PageSize()
	mem, err := b.Map((size + page - 1) / page * page)
	if err != nil {
		return nil, opError("mmap", d.iface, err)
	}
	d.res.mem = append(d.res.mem, mem)
	return mem, nil
}

// Protect makes memory from GuardedMemory, or the view of a guarded buffer, inaccessible or accessible again.
// It may be called after Close by who has pinned the memory. Errors: errors.ErrUnsupported.
func (d *Device) Protect(mem []byte, accessible bool) error {
	g, ok := d.res.b.(Guard)
	if !ok {
		return opError("guard", d.Name(), errors.ErrUnsupported)
	}
	return opError("mprotect", d.Name(), g.Protect(mem, accessible))
}

// Rotate asks the kernel to assign what is in the store buffer. It does so only if the
// hold slot is empty: a buffer that was acknowledged stays there until the next packet. It reports
// whether the kernel rotated, which is not to say that anything new is owned: look
// at the headers. BIOCROTZBUF; legal when locked. Errors: EOPNOTSUPP in buffered mode.
func (d *Device) Rotate() (bool, error) {
	if !d.alive() {
		return false, &Error{Op: BIOCROTZBUF.String(), Err: os.ErrClosed}
	}
	d.mu.Lock()
	d.rot = Zbuf{}
	err := d.res.b.Ioctl(BIOCROTZBUF, &d.rot)
	if err != nil {
		err = opError(BIOCROTZBUF.String(), d.iface, err)
	}
	rotated := d.rot.Bufa != nil
	d.mu.Unlock()
	d.leave()
	return rotated, err
}

// KeepMapped says whether somebody uses the lent memory through pointers that don't keep the Device
// from being collected, such as the slice that Buffer.Data returns. While it is on, and the Device is
// collected without Close, the descriptor is closed but the memory stays mapped for good. Close and
// Unpin are not affected.
func (d *Device) KeepMapped(on bool) { d.res.keep.Store(on) }

// Pin keeps the lent memory mapped after Close, until Unpin. It returns false when the memory has
// gone already.
func (d *Device) Pin() bool {
	for {
		n := d.res.pins.Load()
		if n == 0 {
			return false
		}
		if d.res.pins.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Unpin undoes one Pin. After Close the last one unmaps the memory, and empties the Buffers, so that a
// Device that is kept has no pointer to memory that others may get.
func (d *Device) Unpin() error {
	gone, err := d.res.unpin()
	if gone {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.bufs != nil {
			d.bufs.A, d.bufs.B = Buffer{}, Buffer{}
		}
	}
	return err
}

// Read reads all packets of one buffer in buffered mode, without blocking. p has BufferLen
// bytes. Errors: EAGAIN when there is nothing; ENXIO when the interface has gone and
// nothing is left; EINVAL for another length of p; EOPNOTSUPP in zero-copy mode.
func (d *Device) Read(p []byte) (int, error) {
	if err := d.enter("read"); err != nil {
		return 0, err
	}
	defer d.leave()
	n, err := d.res.b.Read(p)
	if err != nil {
		if err == error(syscall.EAGAIN) {
			return 0, errAgain
		}
		return 0, opError("read", "", err)
	}
	return n, nil
}

var errAgain = &Error{Op: "read", Err: syscall.EAGAIN}

// Write writes one packet, link header included. Errors: ENXIO not attached or
// the interface has gone; ENETDOWN; EMSGSIZE; EPERM the write filter refused; EBADF opened
// read-only; what the driver says.
func (d *Device) Write(p []byte) (int, error) {
	if err := d.enter("write"); err != nil {
		return 0, err
	}
	defer d.leave()
	n, err := d.res.b.Write(p)
	if err != nil {
		return n, opError("write", d.Name(), err)
	}
	return n, nil
}

// Wait waits for a wakeup of the descriptor's readers, for Wake or for the timeout: see
// [Backend]. A signal may end it early, with an empty Event. One goroutine at a time.
func (d *Device) Wait(rearm bool, timeout time.Duration) (Event, error) {
	if err := d.enter("kevent"); err != nil {
		return Event{}, err
	}
	defer d.leave()
	ev, err := d.res.b.Wait(rearm, timeout)
	if err != nil {
		return ev, opError("kevent", "", err)
	}
	return ev, nil
}

// Wake ends the Wait under way, or else the next one.
func (d *Device) Wake() error {
	if err := d.enter("kevent"); err != nil {
		return err
	}
	defer d.leave()
	return opError("kevent", "", d.res.b.Wake())
}

// Limit gives up, for good and for everybody who has the descriptor, everything but waiting,
// closing, reading, the requests given and, if asked for, writing. Capsicum; no effect on other descriptors of
// the process. Errors: ENOSYS on a kernel without Capsicum.
func (d *Device) Limit(allowed []Request, write bool) error {
	if err := d.enter("cap_ioctls_limit"); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	return opError("cap_ioctls_limit", d.iface, d.res.b.Limit(slices.Clone(allowed), write))
}
