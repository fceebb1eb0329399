package zbuf

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// A Device is one open bpf descriptor. It has a typed method for every request that bpf(4) answers.
// Each method's documentation names its request. A request that is legal when locked still works
// after [Device.Lock].
//
// Any goroutine may call any method. Only one goroutine at a time may call [Device.Wait]. The
// Device makes its requests one after the other.
//
// "Attached" means that [Device.SetInterface] has been called. "Reset" means that the kernel
// empties the buffers that it owns and sets the counters to zero. FreeBSD has each request since
// 9.0 unless its documentation names another release.
//
// Every error is an [*Error]. Besides the errors that its documentation names, a method may return
// these:
//   - [os.ErrClosed]: the Device is closed.
//   - EPERM: the descriptor is locked ([Device.Lock]), and the request is not legal when locked.
//   - ENOTCAPABLE: [Device.Limit] did not allow the request.
type Device struct {
	res *resources

	life sync.RWMutex // read-held by every call, so that Close has the descriptor to itself
	shut atomic.Bool

	// again is the error of a Read that finds nothing. It is made once for each interface.
	again atomic.Pointer[Error]

	mu      sync.Mutex // one request at a time; guards what follows
	mode    uint32
	bufs    *Buffers
	foreign bool // another process or Device lent the buffers
	iface   string
	promisc bool  // the attached interface is promiscuous for this descriptor, or may be
	noIndex bool  // the attached tap is not a network interface
	rot     Zbuf  // scratch of Rotate, which is called often
	nread   int32 // scratch of BytesReadable, likewise

	sticky atomic.Bool // flags can't be switched off; see CanClear

	leak runtime.Cleanup
}

// resources are the descriptor and the lent memory. The Device must give back both. The memory goes
// once the descriptor is closed and nobody pins it.
type resources struct {
	b      Backend
	closed bool
	mem    [][]byte
	pins   atomic.Int64 // one for the open descriptor, one for each Pin
	keep   atomic.Bool  // something that the garbage collector can't see uses the memory
}

func (r *resources) close() error {
	r.closed = true
	return r.b.Close()
}

func (r *resources) unmap(iface string) error {
	var errs []error
	for _, m := range r.mem {
		errs = append(errs, opError("munmap", iface, r.b.Unmap(m)))
	}
	r.mem = nil
	return errors.Join(errs...)
}

// unpin drops one reference. The last one unmaps, and then gone is true.
func (r *resources) unpin(iface string) (gone bool, err error) {
	if r.pins.Add(-1) != 0 {
		return false, nil
	}
	return true, r.unmap(iface)
}

// abandon gives back the rest when the Device is garbage. Nobody can use or unpin it any more.
// abandon leaves memory mapped that KeepMapped protects, because a leak is better than a fault.
func (r *resources) abandon() {
	if !r.closed {
		r.close()
	}
	if !r.keep.Load() {
		r.unmap("")
	}
}

// Open opens a descriptor of the running kernel.
//
// Errors:
//   - EACCES: the user may not open /dev/bpf.
//   - ENOENT: there is no /dev/bpf.
//   - EMFILE, ENFILE: the process or the system has too many open files.
//   - [ErrForeignOS], [errors.ErrUnsupported]: this system is not FreeBSD.
func Open() (*Device, error) { return OpenOn(Host()) }

// OpenOn opens a descriptor of the given system.
//
// Errors:
//   - Those of [System.Open]. On the running kernel they are those of [Open].
func OpenOn(s System) (*Device, error) {
	b, err := s.Open()
	if err != nil {
		return nil, opError(opOpen, "", err)
	}
	return newDevice(b), nil
}

// Adopt takes over a descriptor that somebody else opened, through its backend. On FreeBSD,
// [NewHostBackend] makes a backend of a file descriptor. The Device owns the backend:
// [Device.Close] closes it, and so does the garbage collector if nobody called Close. If Adopt
// fails, it leaves the backend open.
//
// The kernel does not tell everything about the descriptor, so a Device that was adopted refuses
// more than others:
//   - In zero-copy mode its packets cannot be read. Only the process that lent the buffers can
//     reach them ([ErrNotOurBuffers]).
//   - In zero-copy mode, while the sysctl net.bpf.zerocopy_enable is 0, Adopt cannot find out
//     whether there are buffers. Requests that reset are refused ([ErrResetUnsafe]).
//   - If it is locked and not attached, Adopt cannot find out whether there are buffers either.
//     Only in buffered mode may it be flushed ([ErrResetUnsafe]).
//   - If it is attached, it may be promiscuous. When its interface has gone, it cannot be attached
//     again ([ErrReattachUnsafe]).
//
// Errors:
//   - Those of [Device.BufferMode] but EPERM.
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
	d.named("")
	d.leak = runtime.AddCleanup(d, (*resources).abandon, d.res)
	return d
}

// named notes the name of the interface.
func (d *Device) named(iface string) {
	d.iface = iface
	again := syscall.EAGAIN
	d.again.Store(&Error{Op: opRead, Interface: iface, Err: again, Hint: hint(opRead, again)})
}

// learn asks an adopted descriptor for the facts that the guards need.
func (d *Device) learn() error {
	mode, err := d.BufferMode()
	switch {
	case errors.Is(err, syscall.EPERM):
		d.learnLocked()
		return nil
	case err != nil:
		return err
	}
	d.mode = mode
	if name, err := d.Interface(); err == nil {
		d.named(name)
		d.promisc = true // it may be: the kernel does not say
	}
	if mode == BPF_BUFMODE_ZBUF {
		// Asking for the mode it has is EBUSY if, and only if, there are buffers.
		again := uint32(BPF_BUFMODE_ZBUF)
		d.foreign = errors.Is(d.res.b.Ioctl(BIOCSETBUFMODE, &again), syscall.EBUSY)
	}
	return nil
}

// learnLocked finds out whether BIOCFLUSH is safe on a locked descriptor. Of the requests that
// reset, it alone is legal when locked. A descriptor that is attached has the buffers of its mode.
// The kernel does not tell the mode when locked, but BIOCROTZBUF is refused in buffered mode. If
// there may be no buffers, Flush is refused.
func (d *Device) learnLocked() {
	if name, err := d.Interface(); err == nil {
		d.named(name)
		return
	}
	if _, err := d.Rotate(); !errors.Is(err, syscall.EOPNOTSUPP) {
		d.mode = BPF_BUFMODE_ZBUF
	}
}

// Close closes the descriptor. It ends a [Device.Wait] under way and waits until that has returned.
// Close unmaps the lent memory, unless [Device.Pin] keeps it. The second Close returns nil.
//
// Errors:
//   - Those of close(2) and munmap(2).
func (d *Device) Close() error {
	if d.shut.Swap(true) {
		return nil
	}
	d.res.b.Wake()
	d.life.Lock()
	defer d.life.Unlock()
	return errors.Join(opError("close", d.iface, d.res.close()), d.Unpin())
}

// enter begins a call and leave ends it.
func (d *Device) enter(op string) error {
	if !d.tryEnter() {
		return d.closedError(op)
	}
	return nil
}

// tryEnter is enter for callers that look up the name of the operation only if they need it.
func (d *Device) tryEnter() bool {
	d.life.RLock()
	if d.shut.Load() {
		d.life.RUnlock()
		return false
	}
	return true
}

func (d *Device) leave() { d.life.RUnlock() }

func (d *Device) closedError(op string) error { return opError(op, d.Name(), os.ErrClosed) }

// begin is enter and the lock of one request. end ends both.
func (d *Device) begin(req Request) error {
	if !d.tryEnter() {
		return d.closedError(req.String())
	}
	d.mu.Lock()
	return nil
}

func (d *Device) end() {
	d.mu.Unlock()
	d.leave()
}

// ioctl makes one request with the lock held for its duration.
func (d *Device) ioctl(req Request, arg any) error {
	if err := d.begin(req); err != nil {
		return err
	}
	defer d.end()
	return d.ioctlLocked(req, arg)
}

func (d *Device) ioctlLocked(req Request, arg any) error {
	switch req {
	case BIOCSETF, BIOCFLUSH, BIOCSETIF, BIOCSDLT:
		if d.mode == BPF_BUFMODE_ZBUF && d.bufs == nil && !d.foreign {
			return opError(req.String(), d.iface, ErrResetUnsafe)
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

func (d *Device) getInt(req Request) (v int32, err error) {
	err = d.ioctl(req, &v)
	return v, err
}

func (d *Device) setInt(req Request, v int32) error { return d.ioctl(req, &v) }

func (d *Device) setIntBool(req Request, on bool) error {
	if on {
		return d.setInt(req, 1)
	}
	return d.setInt(req, 0)
}
