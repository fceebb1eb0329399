package zbuf

import (
	"slices"
	"syscall"
	"time"
)

// Names of operations that are no request.
const (
	opOpen  = "open /dev/bpf"
	opRead  = "read"
	opWrite = "write"
	opWait  = "kevent"
	opIndex = "SIOCGIFINDEX"
	opLimit = "cap_ioctls_limit"
	opMap   = "mmap"

	opAddMulticast    = "SIOCADDMULTI"
	opDeleteMulticast = "SIOCDELMULTI"
)

// Read reads all packets of one buffer in buffered mode. It does not block. p must have
// [Device.BufferLen] bytes.
//
// Errors:
//   - EAGAIN: there is nothing to read.
//   - ENXIO: the interface has gone, and nothing is left to read.
//   - EINVAL: p has another length.
//   - EOPNOTSUPP: the descriptor is in zero-copy mode.
func (d *Device) Read(p []byte) (int, error) {
	if err := d.enter(opRead); err != nil {
		return 0, err
	}
	defer d.leave()
	n, err := d.res.b.Read(p)
	if err != nil {
		if err == error(syscall.EAGAIN) {
			return 0, d.again.Load()
		}
		return 0, opError(opRead, d.Name(), err)
	}
	return n, nil
}

// Write writes one packet, with its link header.
//
// Errors:
//   - ENXIO: the descriptor is not attached, or the interface has gone.
//   - ENETDOWN: the interface is down.
//   - EMSGSIZE: the packet is too short for a link header, or longer than the MTU allows.
//   - EIO: the packet is longer than the kernel can write: a page on 12.1, 16 KiB on 14.
//   - EPERM: the write filter refused the packet.
//   - EBADF: the descriptor was opened for reading only.
//   - ENOBUFS: the queue of the interface is full.
//   - EAFNOSUPPORT: the interface takes its own header only, such as tun after
//     [Device.SetHeaderComplete].
//   - Any other errno comes from the interface's driver.
func (d *Device) Write(p []byte) (int, error) {
	if err := d.enter(opWrite); err != nil {
		return 0, err
	}
	defer d.leave()
	n, err := d.res.b.Write(p)
	if err != nil {
		return n, opError(opWrite, d.Name(), err)
	}
	return n, nil
}

// Wait waits until the kernel wakes the readers of the descriptor, somebody calls [Device.Wake], or
// the timeout has passed. After [Device.WatchInterfaces] a change of an interface ends it, too. A
// negative timeout never passes. Wait may end early, with an empty
// [Event]: a signal came, such as those of Go's scheduler, or the alarm of a Wait before was late.
// [Backend.Wait] has the details, and says what rearm does. Only one goroutine at a
// time may call Wait.
//
// Errors:
//   - [os.ErrClosed]: the Device was closed before the call. Close ends a Wait under way with
//     Woken.
//   - Those of kevent(2).
func (d *Device) Wait(rearm bool, timeout time.Duration) (Event, error) {
	if err := d.enter(opWait); err != nil {
		return Event{}, err
	}
	defer d.leave()
	ev, err := d.res.b.Wait(rearm, timeout)
	if err != nil {
		return ev, opError(opWait, d.Name(), err)
	}
	return ev, nil
}

// Wake ends the [Device.Wait] under way. If there is none, it ends the next one.
//
// Errors:
//   - Those of kevent(2).
func (d *Device) Wake() error {
	if err := d.enter(opWait); err != nil {
		return err
	}
	defer d.leave()
	if err := d.res.b.Wake(); err != nil {
		return opError(opWait, d.Name(), err)
	}
	return nil
}

// Polled reports whether [Device.Wait] sleeps in the poller of Go's runtime. It does so for a
// descriptor that [Open] has opened, on kernels whose bpf has EVFILT_WRITE (FreeBSD 14). Elsewhere
// a goroutine in Wait occupies a thread. calls is how many system calls Wait has made by itself,
// without those of the poller. It is 0 if polled is false.
func (d *Device) Polled() (calls uint64, polled bool) {
	if p, ok := d.res.b.(Polled); ok {
		return p.Polled()
	}
	return 0, false
}

// WatchInterfaces makes every later [Device.Wait] end with Changed soon after an interface of the
// process's network stack has come, gone or changed. [Device.InterfaceIndex] then tells whether it
// was this one. Changed comes for other interfaces too, ten times a second at most, and once for
// all that happens between two calls of Wait.
//
// WatchInterfaces reports whether there is such a watch: for a descriptor that [Open] has opened,
// on kernels whose bpf has EVFILT_WRITE and that have netlink(4) (FreeBSD 14). A process has one
// socket for it, which ends with the last Device that watches. If the kernel ends the watch, a Wait
// ends with Changed. Another WatchInterfaces then begins it again, or returns false.
func (d *Device) WatchInterfaces() bool {
	w, ok := d.res.b.(Watcher)
	if !ok || d.enter(opWait) != nil {
		return false
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	return w.WatchInterfaces()
}

// Limit gives up rights to the descriptor for good. The process may then still wait, close and
// read, make the requests in allowed and, if write is true, write. The limit is for every process
// that has the descriptor. Other descriptors keep their rights. Limit uses Capsicum.
//
// Errors:
//   - ENOSYS: the kernel has no Capsicum.
func (d *Device) Limit(allowed []Request, write bool) error {
	if err := d.enter(opLimit); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	return opError(opLimit, d.iface, d.res.b.Limit(slices.Clone(allowed), write))
}
