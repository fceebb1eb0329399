package bpftest

import (
	"bytes"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf"
)

// A kqueue holds the two events that Wait waits for: EVFILT_READ of the descriptor and EVFILT_USER,
// both with EV_CLEAR.
type kqueue struct {
	read    bool // the read event is queued (KN_ACTIVE)
	user    bool // the user event is
	changed bool // an interface has changed; of the watch, not of a kqueue
}

// knote is KNOTE_LOCKED. It queues the event if the filter is ready now.
func (d *Descriptor) knote() {
	if _, ready := d.evaluate(); ready {
		d.kq.read = true
		d.signal()
	}
	for _, q := range d.queues {
		for _, f := range q.filters {
			q.look(f)
		}
	}
}

// evaluate is filt_bpfread. When nothing is ready it lets the read timeout run.
func (d *Descriptor) evaluate() (data int, ready bool) {
	if !d.ready() {
		d.startTimeout()
		return 0, false
	}
	data = d.slen
	if d.hold != nil {
		data += d.hlen
	}
	return data, true
}

// signal wakes the goroutine in Wait, or the next one.
func (d *Descriptor) signal() {
	select {
	case d.sleep <- struct{}{}:
	default:
	}
}

// interrupt makes Wait, Poll and Read look again whether they have something to return.
func (d *Descriptor) interrupt() {
	d.signal()
	for _, q := range d.queues {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	d.broadcast()
}

// awakened returns a channel that the next wakeup closes.
func (d *Descriptor) awakened() <-chan struct{} {
	if d.awake == nil {
		d.awake = make(chan struct{})
	}
	return d.awake
}

func (d *Descriptor) broadcast() {
	if d.awake != nil {
		close(d.awake)
		d.awake = nil
	}
}

// usable returns the reason why nobody can wait for the descriptor, or nil. d.mu is held.
func (d *Descriptor) usable() error {
	if d.closed {
		return syscall.EBADF
	}
	return d.k.Panicked()
}

// Wait waits for events, as kevent(2) does with EVFILT_READ and EVFILT_USER, both with EV_CLEAR. If
// rearm is true, it adds EVFILT_READ anew (kqueue_register, kqueue_scan). Wait looks again at a
// queued read event when it takes it, and forgets the event if nothing is ready any more.
//
// Errors:
//   - EBADF: the descriptor is closed.
func (d *Descriptor) Wait(rearm bool, timeout time.Duration) (zbuf.Event, error) {
	if err := d.k.enter("wait"); err != nil {
		return zbuf.Event{}, err
	}
	d.k.roomChanged()
	d.mu.Lock()
	defer d.mu.Unlock()
	if rearm {
		if _, ready := d.evaluate(); ready {
			d.kq.read = true
		}
	}
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	for last := timeout == 0; ; {
		if err := d.usable(); err != nil {
			return zbuf.Event{}, err
		}
		ev := zbuf.Event{Woken: d.kq.user, Changed: d.kq.changed}
		d.kq.user, d.kq.changed = false, false
		if d.kq.read {
			d.kq.read = false
			ev.Data, ev.Readable = d.evaluate()
		}
		if ev.Readable || ev.Woken || ev.Changed || last {
			return ev, nil
		}
		d.mu.Unlock()
		select {
		case <-d.sleep:
		case <-expired:
			last = true
		}
		d.mu.Lock()
	}
}

// Wake triggers the user event (NOTE_TRIGGER).
func (d *Descriptor) Wake() error {
	if err := d.k.enter("wake"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return syscall.EBADF
	}
	d.kq.user = true
	d.signal()
	return nil
}

// WatchInterfaces makes every later Wait end with Changed after an interface has come, gone or
// changed. It reports whether the kernel has that: see [WithInterfaceWatch].
func (d *Descriptor) WatchInterfaces() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watches = d.k.watch
	return d.watches
}

// tellWatchers ends the Wait of every descriptor that watches. k.mu is held.
func (k *Kernel) tellWatchers() {
	for d := range k.open {
		d.mu.Lock()
		if d.watches {
			d.kq.changed = true
			d.signal()
		}
		d.mu.Unlock()
	}
}

// Events of poll(2).
const (
	POLLIN     = 0x0001
	POLLOUT    = 0x0004
	POLLHUP    = 0x0010
	POLLRDNORM = 0x0040
)

// Poll waits for events, as poll(2) does for this descriptor alone. A negative timeout never
// passes. A result of 0 says that the timeout has passed.
//
// While nothing is ready, Poll lets the read timeout run. A detached descriptor is ready for every
// event in events. Poll returns POLLHUP only if it is in events.
func (d *Descriptor) Poll(events int16, timeout time.Duration) (int16, error) {
	if err := d.k.enter("poll"); err != nil {
		return 0, err
	}
	d.k.roomChanged()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return 0, err
	}
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	for {
		revents := d.poll(events)
		if revents != 0 || timeout == 0 {
			return revents, nil
		}
		var wake <-chan struct{}
		if events&(POLLIN|POLLRDNORM) != 0 {
			wake = d.awakened()
		}
		d.mu.Unlock()
		timedOut := false
		select {
		case <-wake:
		case <-expired:
			timedOut = true
		}
		d.mu.Lock()
		if err := d.usable(); err != nil || timedOut {
			return 0, err
		}
	}
}

// poll is bpfpoll, and the part of pollscan that changes its answer.
func (d *Descriptor) poll(events int16) int16 {
	if d.tap == nil {
		revents := events & (POLLHUP | POLLIN | POLLRDNORM | POLLOUT)
		if revents&POLLHUP != 0 {
			revents &^= POLLOUT
		}
		return revents
	}
	d.pid = d.k.pid
	revents := events & POLLOUT
	if want := events & (POLLIN | POLLRDNORM); want != 0 {
		if d.ready() {
			revents |= want
		} else {
			d.startTimeout()
		}
	}
	return revents
}

// Detached reports whether no interface is attached. It is poll(2) for POLLHUP alone. A descriptor
// that was never attached is detached, too.
func (d *Descriptor) Detached() bool {
	if d.k.enter("detached") != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tap == nil
}

// InterfaceIndex returns the index of the attached interface. It makes BIOCGETIF, with all effects
// of an ioctl, and SIOCGIFINDEX of that name.
//
// Errors:
//   - ENXIO: the descriptor is not attached, its interface is in another vnet, or the interface has
//     no index ([NoIndex]).
func (d *Descriptor) InterfaceIndex() (int, error) {
	i, err := d.attached("index")
	if err != nil {
		return 0, err
	}
	return i.index, nil
}

// Netmask returns the netmask of the attached interface ([Netmask]). It makes BIOCGETIF, with all
// effects of an ioctl, and asks the network stack for that name.
//
// Errors:
//   - ENXIO: as for [Descriptor.InterfaceIndex].
func (d *Descriptor) Netmask() (uint32, error) {
	i, err := d.attached("netmask")
	if err != nil {
		return 0, err
	}
	return i.netmask, nil
}

// MaxInstructions returns the sysctl net.bpf.maxinsns.
func (d *Descriptor) MaxInstructions() (int, error) {
	n, err := d.k.Sysctl("net.bpf.maxinsns")
	return int(n), err
}

// attached returns the network interface that the descriptor is attached to.
func (d *Descriptor) attached(call string) (*Interface, error) {
	if err := d.k.enter(call); err != nil {
		return nil, err
	}
	var ifr zbuf.Ifreq
	if err := d.ioctl(zbuf.BIOCGETIF, &ifr); err == syscall.EINVAL {
		return nil, syscall.ENXIO
	} else if err != nil {
		return nil, err
	}
	name, _, _ := bytes.Cut(ifr.Name[:], []byte{0})
	i := d.k.Interface(string(name))
	if i == nil || i.noIndex {
		return nil, syscall.ENXIO
	}
	return i, nil
}
