package bpftest

import (
	"math"
	"slices"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// Ioctl makes a request, as ioctl(2) does (bpfioctl). Every request that gets to the driver first
// stops the read timeout, also if it then fails.
//
// Errors:
//   - EBADF: the descriptor is closed.
//   - EINVAL: the kernel does not know the request, or it refuses the argument.
//   - EFAULT: the argument has the wrong type.
//   - EPERM: the descriptor is locked, and the request is not legal when locked.
//   - [ENOTCAPABLE]: [Descriptor.Limit] has taken the request away.
//   - Those that the method of [zbuf.Device] for the request documents.
func (d *Descriptor) Ioctl(req zbuf.Request, arg any) error {
	if err := d.k.enterRequest(req); err != nil {
		return err
	}
	err := d.ioctl(req, arg)
	d.k.roomChanged()
	if panicked := d.k.Panicked(); panicked != nil {
		return panicked
	}
	return err
}

func (d *Descriptor) ioctl(req zbuf.Request, arg any) error {
	d.mu.Lock()
	switch {
	case d.closed:
		d.mu.Unlock()
		return syscall.EBADF
	case d.limit != nil && !d.limit[req]:
		d.mu.Unlock()
		return ENOTCAPABLE
	}
	if !req.Takes(arg) { // copyin(9) finds out before the driver is entered
		d.mu.Unlock()
		return syscall.EFAULT
	}
	if req == zbuf.FIONBIO {
		d.nonblock = *arg.(*int32) != 0 // done above the driver, which may still refuse
	}
	d.pid = d.k.pid
	d.stopTimeout()
	locked := d.locked
	if d.k.compat32 {
		switch req {
		case zbuf.BIOCGETZMAX, zbuf.BIOCSETZBUF, zbuf.BIOCROTZBUF, zbuf.BIOCGETIFLIST:
			// A 32-bit process has other numbers for these, which the kernel does not know.
			d.mu.Unlock()
			if locked {
				return syscall.EPERM
			}
			return syscall.EINVAL
		case zbuf.BIOCSETF, zbuf.BIOCSETFNR, zbuf.BIOCSETWF:
			if !locked {
				d.layouts = &compat32
			}
		case zbuf.BIOCGDLTLIST, zbuf.BIOCSRTIMEOUT, zbuf.BIOCGRTIMEOUT:
			d.layouts = &compat32
		}
	}
	d.mu.Unlock()
	if locked && (!req.LegalWhenLocked() || req == zbuf.BIOCGETIFLIST && !d.k.features.IfList) {
		return syscall.EPERM
	}

	switch req {
	case zbuf.BIOCSETF, zbuf.BIOCSETFNR, zbuf.BIOCSETWF:
		return d.setFilter(req, arg.(*zbuf.Program))
	case zbuf.BIOCSETIF:
		return d.setInterface(arg.(*zbuf.Ifreq))
	case zbuf.BIOCSDLT:
		return d.setDLT(*arg.(*uint32))
	case zbuf.BIOCGDLTLIST:
		return d.dltList(arg.(*zbuf.DLTList))
	case zbuf.BIOCGETIF:
		return d.interfaceName(arg.(*zbuf.Ifreq))
	case zbuf.BIOCPROMISC:
		return d.setPromisc()
	case zbuf.BIOCSETZBUF:
		return d.setBuffers(arg.(*zbuf.Zbuf))
	case zbuf.BIOCGETIFLIST:
		if d.k.features.IfList {
			return d.k.interfaceList(arg.(*zbuf.IfList))
		}
		return syscall.EINVAL
	case zbuf.BIOCFLUSH:
		d.mu.Lock()
		ok := d.resettable()
		if ok {
			d.overtake(false)
			d.reset()
		}
		d.mu.Unlock()
		if !ok {
			return d.k.panic("BIOCFLUSH between BIOCSETBUFMODE and BIOCSETZBUF: no store buffer to reset")
		}
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch a := arg.(type) {
	case *uint32:
		return d.ioctlUint(req, a)
	case *int32:
		return d.ioctlInt(req, a)
	}
	switch req {
	case zbuf.BIOCLOCK:
		d.locked = true
	case zbuf.BIOCSRTIMEOUT:
		return d.setTimeout(arg.(*zbuf.Timeval))
	case zbuf.BIOCGRTIMEOUT:
		hz := int64(d.k.hz)
		*arg.(*zbuf.Timeval) = timeval(d.rtout/hz, d.rtout%hz*(1000000/hz))
	case zbuf.BIOCGSTATS:
		*arg.(*zbuf.Stat) = zbuf.Stat{Recv: uint32(d.rcount), Drop: uint32(d.dcount)}
	case zbuf.BIOCVERSION:
		*arg.(*zbuf.Version) = zbuf.Version{Major: zbuf.BPF_MAJOR_VERSION, Minor: zbuf.BPF_MINOR_VERSION}
	case zbuf.BIOCGETZMAX:
		if d.bufmode != zbuf.BPF_BUFMODE_ZBUF {
			return syscall.EOPNOTSUPP
		}
		*arg.(*uintptr) = uintptr(maxPages * d.k.pageSize)
	case zbuf.BIOCROTZBUF:
		return d.rotateBuffers(arg.(*zbuf.Zbuf))
	default:
		return syscall.EINVAL
	}
	return nil
}

// ioctlUint are the requests whose argument is a u_int. d.mu is held.
func (d *Descriptor) ioctlUint(req zbuf.Request, a *uint32) error {
	sticky := d.k.features.StickyFlags
	switch req {
	case zbuf.BIOCGBLEN:
		*a = uint32(d.bufsize)
	case zbuf.BIOCSBLEN:
		if d.bufmode != zbuf.BPF_BUFMODE_BUFFER {
			return syscall.EOPNOTSUPP
		}
		n := d.clampSize(*a)
		if err := d.allocate(n); err != nil {
			return err
		}
		*a = n
	case zbuf.BIOCGDLT:
		if d.tap == nil {
			return syscall.EINVAL
		}
		*a = d.tap.dlt
	case zbuf.BIOCIMMEDIATE:
		d.immediate = uint8(flag(sticky, uint32(d.immediate), *a)) // bd_immediate is a u_char
	case zbuf.BIOCGRSIG:
		*a = d.sig
	case zbuf.BIOCSRSIG:
		if *a >= nsig {
			return syscall.EINVAL
		}
		d.sig = *a
	case zbuf.BIOCGHDRCMPLT:
		*a = bit(d.hdrcmplt)
	case zbuf.BIOCSHDRCMPLT:
		d.hdrcmplt = *a != 0 || sticky && d.hdrcmplt
	case zbuf.BIOCGDIRECTION:
		*a = d.direction
	case zbuf.BIOCSDIRECTION:
		if *a > zbuf.BPF_D_OUT {
			return syscall.EINVAL
		}
		d.overtake(false)
		d.direction = *a
	case zbuf.BIOCFEEDBACK:
		d.feedback = flag(sticky, d.feedback, *a)
	case zbuf.BIOCGETBUFMODE:
		*a = d.bufmode
	case zbuf.BIOCSETBUFMODE:
		return d.setMode(*a)
	case zbuf.BIOCGTSTAMP:
		*a = d.tstamp
	case zbuf.BIOCSTSTAMP:
		if !validStamp(*a) {
			return syscall.EINVAL
		}
		d.tstamp = *a
	case zbuf.BIOCSETVLANPCP:
		if !d.k.features.SetVLANPCP || *a > 7 {
			return syscall.EINVAL
		}
	default:
		return syscall.EINVAL
	}
	return nil
}

// flag returns the new value of a flag that is set to v. With sticky it is a bit that stays.
func flag[T uint32 | int32](sticky bool, old, v T) T {
	switch {
	case !sticky:
		return v
	case old|v != 0:
		return 1
	}
	return 0
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// ioctlInt are the requests whose argument is an int. d.mu is held.
func (d *Descriptor) ioctlInt(req zbuf.Request, a *int32) error {
	switch req {
	case zbuf.FIONREAD:
		n := d.slen
		if d.hold != nil {
			n += d.hlen
		}
		*a = int32(n)
	case zbuf.FIONBIO:
	case zbuf.FIOASYNC:
		d.async = flag(d.k.features.StickyFlags, d.async, *a)
	case zbuf.FIOSETOWN:
		return d.setOwner(*a)
	case zbuf.FIOGETOWN:
		*a = d.owner
	case zbuf.TIOCSPGRP:
		return d.setOwner(-*a)
	case zbuf.TIOCGPGRP:
		*a = -d.owner
	default:
		return syscall.EINVAL
	}
	return nil
}

// setOwner is fsetown: a process, a process group (negative) or nobody.
func (d *Descriptor) setOwner(id int32) error {
	if id != 0 && int(id) != d.k.pid && int(id) != -d.k.pgid {
		if d.k.features.OwnerCleared {
			d.owner = 0
		}
		return syscall.ESRCH
	}
	d.owner = id
	return nil
}

// setTimeout is itimerfix and tvtohz, less the tick that the latter adds.
func (d *Descriptor) setTimeout(tv *zbuf.Timeval) error {
	sec, usec := int64(tv.Sec), int64(tv.Usec)
	if sec < 0 || usec < 0 || usec >= 1000000 {
		return syscall.EINVAL
	}
	const most = math.MaxInt32 - 1
	hz, tick := int64(d.k.hz), int64(1000000/d.k.hz)
	switch {
	case d.k.features.TruncateTimeout && sec >= math.MaxInt32/hz, sec > math.MaxInt32:
		d.rtout = most
	case d.k.features.TruncateTimeout:
		d.rtout = sec*hz + usec*hz/1000000
	default:
		d.rtout = min((sec*1000000+usec+tick-1)/tick, most)
	}
	return nil
}

func (d *Descriptor) clampSize(n uint32) uint32 {
	if limit := uint32(d.k.maxBufSize.Load()); n > limit {
		return limit
	}
	return max(n, zbuf.BPF_MINBUFSIZE)
}

// allocate is the second half of bpf_buffer_ioctl_sblen. d.mu is held.
func (d *Descriptor) allocate(n uint32) error {
	if d.tap != nil {
		return syscall.EINVAL
	}
	d.bufsize = int(n)
	d.free, d.store, d.hold = newKernelBuffer(int(n)), newKernelBuffer(int(n)), nil
	d.slen, d.hlen = 0, 0
	return nil
}

// setMode is BIOCSETBUFMODE. d.mu is held.
func (d *Descriptor) setMode(mode uint32) error {
	switch {
	case mode == zbuf.BPF_BUFMODE_BUFFER:
	case mode == zbuf.BPF_BUFMODE_ZBUF && d.k.zerocopyEnable.Load() != 0:
	default:
		return syscall.EINVAL
	}
	if d.store != nil || d.hold != nil || d.free != nil || d.tap != nil {
		return syscall.EBUSY
	}
	d.bufmode = mode
	d.model = kernelBuffers{}
	if mode == zbuf.BPF_BUFMODE_ZBUF {
		d.model = lentBuffers{}
	}
	return nil
}

// setBuffers is bpf_zerocopy_ioctl_setzbuf. The headers are wiped before the kernel finds out that
// it has buffers already.
func (d *Descriptor) setBuffers(z *zbuf.Zbuf) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bufmode != zbuf.BPF_BUFMODE_ZBUF {
		return syscall.EOPNOTSUPP
	}
	if z.Bufa == nil || z.Bufb == nil || z.Buflen == 0 {
		return syscall.EINVAL
	}
	var bufs [2]*buffer
	for i, p := range []*byte{z.Bufa, z.Bufb} {
		mask := uintptr(d.k.pageSize - 1)
		if address(p)&mask != 0 || z.Buflen&mask != 0 || z.Buflen > uintptr(maxPages*d.k.pageSize) {
			return syscall.EINVAL
		}
		mem, ok := d.k.memory(p, z.Buflen)
		if !ok {
			return syscall.EFAULT
		}
		bufs[i] = newLentBuffer(mem, p)
	}
	if d.store != nil || d.hold != nil || d.free != nil || d.tap != nil {
		return syscall.EINVAL
	}
	d.store, d.free = bufs[0], bufs[1]
	d.slen, d.hlen = 0, 0
	d.bufsize = int(z.Buflen) - zbuf.SizeofZbufHeader
	return nil
}

// rotateBuffers is bpf_zerocopy_ioctl_rotzbuf. d.mu is held.
func (d *Descriptor) rotateBuffers(z *zbuf.Zbuf) error {
	if d.bufmode != zbuf.BPF_BUFMODE_ZBUF {
		return syscall.EOPNOTSUPP
	}
	*z = zbuf.Zbuf{}
	if d.hold == nil && d.slen != 0 {
		d.rotate()
		z.Bufa, z.Buflen = d.hold.user, uintptr(d.hlen)
	}
	return nil
}

// setFilter is bpf_setf.
func (d *Descriptor) setFilter(req zbuf.Request, p *zbuf.Program) error {
	if p.Len > uint32(d.k.maxInsns.Load()) || p.Insns == nil && p.Len != 0 {
		return syscall.EINVAL
	}
	var f *filter
	if p.Len > 0 {
		prog := slices.Clone(instructions(p))
		if !validate(prog) {
			return syscall.EINVAL
		}
		f = newFilter(prog)
	}
	d.k.mu.Lock()
	ok := d.swapFilter(req, f)
	d.k.mu.Unlock()
	if !ok {
		return d.k.panic("%v between BIOCSETBUFMODE and BIOCSETZBUF: no store buffer to reset", req)
	}
	return nil
}

// swapFilter is the half of bpf_setf that holds the global lock. It reports false where the
// kernel dies.
func (d *Descriptor) swapFilter(req zbuf.Request, f *filter) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if req == zbuf.BIOCSETWF {
		d.wfilter = f
		return true
	}
	d.overtake(!d.k.features.FilterInFlight)
	d.rfilter = f
	if req == zbuf.BIOCSETF {
		if !d.resettable() {
			return false
		}
		d.reset()
	}
	if d.upgrades(req, f) {
		if d.tap != nil {
			d.tap.remove(d)
			d.tap.addReader(d)
		}
		d.writer = 0
	}
	return true
}

// upgrades is bpf_check_upgrade: whether a new filter makes a reader out of a descriptor among the
// writers. One that looks like setting a snap length needs another after it.
func (d *Descriptor) upgrades(req zbuf.Request, f *filter) bool {
	if d.writer == 0 || f == nil {
		return false
	}
	if req == zbuf.BIOCSETF && len(f.prog) == 1 && f.prog[0].Op == opRetK {
		d.writer--
		return d.writer == 0
	}
	return true
}
