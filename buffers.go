package zbuf

import (
	"errors"
	"fmt"
	"syscall"
)

// BufferMode returns BPF_BUFMODE_BUFFER or BPF_BUFMODE_ZBUF. Request: [BIOCGETBUFMODE].
func (d *Device) BufferMode() (uint32, error) { return d.get(BIOCGETBUFMODE) }

// SetBufferMode sets the buffer mode. Call it right after open, before [Device.SetBufferLen],
// [Device.SetBuffers] and [Device.SetInterface]. Request: [BIOCSETBUFMODE].
//
// Errors:
//   - EBUSY: the descriptor has buffers or an interface. In 9.3 and 10.1 it has buffers from open
//     on.
//   - [ErrZeroCopyDisabled], EINVAL: the mode is BPF_BUFMODE_ZBUF, and the sysctl
//     net.bpf.zerocopy_enable is 0.
//   - EINVAL: the mode is no BPF_BUFMODE_ value.
func (d *Device) SetBufferMode(mode uint32) error {
	if err := d.begin(BIOCSETBUFMODE); err != nil {
		return err
	}
	defer d.end()
	err := d.ioctlLocked(BIOCSETBUFMODE, &mode)
	switch {
	case err == nil:
		d.mode = mode
	case mode == BPF_BUFMODE_ZBUF && errors.Is(err, syscall.EINVAL):
		return &Error{
			Op: BIOCSETBUFMODE.String(), Interface: d.iface,
			Err: fmt.Errorf("%w: %w", ErrZeroCopyDisabled, syscall.EINVAL),
		}
	}
	return err
}

// BufferLen returns the usable bytes of each buffer. In buffered mode [Device.Read] takes a slice
// of exactly that length. In zero-copy mode it is the length of a lent buffer without its header.
// As long as there are no buffers it is the sysctl net.bpf.bufsize. Request: [BIOCGBLEN], legal
// when locked.
func (d *Device) BufferLen() (uint32, error) { return d.get(BIOCGBLEN) }

// SetBufferLen asks for buffers of n bytes in buffered mode. It returns the length that the kernel
// chose, between BPF_MINBUFSIZE and the sysctl net.bpf.maxbufsize. Request: [BIOCSBLEN], before
// attach.
//
// Errors:
//   - EINVAL: the descriptor is attached.
//   - EOPNOTSUPP: the descriptor is in zero-copy mode.
func (d *Device) SetBufferLen(n uint32) (uint32, error) {
	err := d.ioctl(BIOCSBLEN, &n)
	return n, err
}

// MaxBufferSize returns the bytes that each lent buffer may have, with its header. It is 512 pages.
// Request: [BIOCGETZMAX].
//
// Errors:
//   - EOPNOTSUPP: the descriptor is in buffered mode.
//   - EINVAL: this is a 32-bit process on a 64-bit kernel.
func (d *Device) MaxBufferSize() (int, error) {
	var n uintptr
	err := d.ioctl(BIOCGETZMAX, &n)
	return int(n), err
}

// Buffers are the two buffers lent to the kernel. The kernel fills A first. They live until the
// Device is closed and no [Device.Pin] is left.
type Buffers struct {
	A, B Buffer
	size int
	dev  *Device // keeps the memory from being cleaned up while its slices may be in use
}

// Size returns the bytes of each buffer, with its header.
func (b *Buffers) Size() int { return b.size }

// SetBuffers lends the kernel two buffers of size bytes, headers included. It rounds size up to
// whole pages. The kernel wires the memory. The memory stays shared over fork(2). The kernel takes
// buffers once, in zero-copy mode and before attach. Request: [BIOCSETZBUF].
//
// Errors:
//   - EOPNOTSUPP: the descriptor is in buffered mode.
//   - EINVAL: size is 0 or more than [Device.MaxBufferSize], or the descriptor is attached.
//   - EFAULT: the kernel can't map the buffers.
//   - ENOMEM: the process can't have the memory.
//   - [ErrBuffersSet]: an earlier SetBuffers has lent the buffers.
//   - [ErrNotOurBuffers]: the descriptor was adopted, and has buffers.
func (d *Device) SetBuffers(size int) (*Buffers, error) { return d.setBuffers(size, false) }

// SetGuardedBuffers lends the kernel two buffers, as [Device.SetBuffers] does, and maps each at two
// addresses. [Device.Protect] can make inaccessible the memory that [Buffer.View] returns. The
// kernel and [Buffer.Header] go on with the other address.
//
// Errors:
//   - [errors.ErrUnsupported]: the Backend is no [Guard].
//   - Those of [Device.SetBuffers].
func (d *Device) SetGuardedBuffers(size int) (*Buffers, error) { return d.setBuffers(size, true) }

// wholePages rounds size up to whole pages.
func (d *Device) wholePages(size int) int {
	page := d.res.b.PageSize()
	return (size + page - 1) / page * page
}

func (d *Device) setBuffers(size int, guarded bool) (*Buffers, error) {
	op := BIOCSETZBUF.String()
	if err := d.begin(BIOCSETZBUF); err != nil {
		return nil, err
	}
	defer d.end()
	switch {
	case d.bufs != nil:
		return nil, opError(op, d.iface, ErrBuffersSet)
	case d.foreign:
		return nil, opError(op, d.iface, ErrNotOurBuffers)
	case size <= 0:
		return nil, opError(op, d.iface, syscall.EINVAL)
	}
	size = d.wholePages(size)
	var lent, view [2][]byte
	undo := func(err error) (*Buffers, error) {
		for _, m := range append(lent[:], view[:]...) {
			if m != nil {
				err = errors.Join(err, opError("munmap", d.iface, d.res.b.Unmap(m)))
			}
		}
		return nil, err
	}
	for i := range lent {
		var err error
		if lent[i], view[i], err = d.mapBuffer(size, guarded); err != nil {
			return undo(err)
		}
	}
	z := Zbuf{Bufa: &lent[0][0], Bufb: &lent[1][0], Buflen: uintptr(size)}
	if err := d.ioctlLocked(BIOCSETZBUF, &z); err != nil {
		return undo(err)
	}
	d.res.mem = lent[:]
	if guarded {
		d.res.mem = append(lent[:], view[:]...)
	}
	a, b := newBuffer(lent[0], view[0]), newBuffer(lent[1], view[1])
	d.bufs = &Buffers{A: a, B: b, size: size, dev: d}
	return d.bufs, nil
}

// mapBuffer maps the memory of one buffer, at two addresses if it is guarded.
func (d *Device) mapBuffer(size int, guarded bool) (lent, view []byte, err error) {
	if !guarded {
		lent, err = d.res.b.Map(size)
		return lent, nil, opError(opMap, d.iface, err)
	}
	g, err := d.guard(d.iface)
	if err != nil {
		return nil, nil, err
	}
	lent, view, err = g.MapTwice(size)
	return lent, view, opError(opMap, d.iface, err)
}

func (d *Device) guard(iface string) (Guard, error) {
	if g, ok := d.res.b.(Guard); ok {
		return g, nil
	}
	return nil, &Error{
		Op: opMap, Interface: iface, Err: errors.ErrUnsupported,
		Hint: "this backend has no memory that can be made inaccessible: use SetBuffers",
	}
}

// GuardedMemory returns size bytes that [Device.Protect] can make inaccessible. The Device unmaps
// them together with the lent memory.
//
// Errors:
//   - [errors.ErrUnsupported]: the Backend is no [Guard].
//   - ENOMEM: the process can't have the memory.
func (d *Device) GuardedMemory(size int) ([]byte, error) {
	if err := d.enter(opMap); err != nil {
		return nil, err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.guard(d.iface); err != nil {
		return nil, err
	}
	mem, err := d.res.b.Map(d.wholePages(size))
	if err != nil {
		return nil, opError(opMap, d.iface, err)
	}
	d.res.mem = append(d.res.mem, mem)
	return mem, nil
}

// Protect makes memory inaccessible, or accessible again. mem comes from [Device.GuardedMemory], or
// is the view of a guarded buffer ([Buffer.View]). A goroutine that has pinned the memory may call
// Protect after Close.
//
// Errors:
//   - [errors.ErrUnsupported]: the Backend is no [Guard].
func (d *Device) Protect(mem []byte, accessible bool) error {
	g, err := d.guard(d.Name())
	if err != nil {
		return err
	}
	if err := g.Protect(mem, accessible); err != nil {
		return opError("mprotect", d.Name(), err)
	}
	return nil
}

// KeepMapped sets whether the lent memory stays mapped if the Device is collected without Close.
// Set it while something uses the memory through pointers that do not keep the Device alive, such
// as the slice that [Buffer.Data] returns. The garbage collection then closes the descriptor, and
// never unmaps the memory. KeepMapped changes nothing about Close and [Device.Unpin].
func (d *Device) KeepMapped(on bool) { d.res.keep.Store(on) }

// Pin keeps the lent memory mapped after Close, until [Device.Unpin]. It returns false if the
// Device has unmapped the memory already.
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

// Unpin undoes one [Device.Pin]. After Close the last Unpin unmaps the memory and empties the
// [Buffers]. So a Device that is kept has no pointer to memory that others may get.
//
// Errors:
//   - Those of munmap(2).
func (d *Device) Unpin() error {
	gone, err := d.res.unpin(d.again.Load().Interface) // without the lock: readers do it all the time
	if gone {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.bufs != nil {
			d.bufs.A, d.bufs.B = Buffer{}, Buffer{}
		}
	}
	return err
}

// Rotate asks the kernel to assign the store buffer to the process. The kernel does so only if the
// hold slot is empty and the store buffer is not. An acknowledged buffer stays in the hold slot
// until the next packet. Rotate reports whether the kernel rotated. If it did not, a buffer may be
// assigned all the same, so look at the headers. Request: [BIOCROTZBUF], legal when locked.
//
// Errors:
//   - EOPNOTSUPP: the descriptor is in buffered mode.
//   - EINVAL: this is a 32-bit process on a 64-bit kernel.
func (d *Device) Rotate() (bool, error) {
	if err := d.begin(BIOCROTZBUF); err != nil {
		return false, err
	}
	d.rot = Zbuf{}
	err := d.res.b.Ioctl(BIOCROTZBUF, &d.rot)
	if err != nil {
		err = opError(BIOCROTZBUF.String(), d.iface, err)
	}
	rotated := d.rot.Bufa != nil
	d.end()
	return rotated, err
}

// BytesReadable returns the bytes of records in store and hold buffer together. The kernel counts
// acknowledged records until it has taken their buffer back. Request: [FIONREAD], legal when
// locked.
func (d *Device) BytesReadable() (int, error) {
	if err := d.begin(FIONREAD); err != nil {
		return 0, err
	}
	defer d.end()
	err := d.ioctlLocked(FIONREAD, &d.nread)
	return int(d.nread), err
}

// Flush resets the descriptor. A buffer that the process owns keeps its old packets, and the
// process must still acknowledge it. Request: [BIOCFLUSH], legal when locked.
//
// Errors:
//   - [ErrResetUnsafe]: the descriptor is in zero-copy mode and has no buffers.
func (d *Device) Flush() error { return d.ioctl(BIOCFLUSH, nil) }
