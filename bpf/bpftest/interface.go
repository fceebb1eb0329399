package bpftest

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zbuf-go/zbuf"
)

const (
	ethernetHeader        = 14
	loopbackHeader        = 4
	loopbackMTU           = 16384
	ethernetMTU           = 1500
	pppHeader             = 4
	atmHeader             = 12
	radioHeader           = 14
	ieee80211HeaderLength = 24
)

// An Interface is a network interface with one or more points where bpf listens. Any goroutine may
// call any method.
type Interface struct {
	k        *Kernel
	mtu      atomic.Int64
	hwaddr   [6]byte
	loopback bool
	noIndex  bool
	netmask  uint32
	output   func(pkt []byte) error
	link     linkType
	more     []linkType

	up   atomic.Bool
	peer atomic.Pointer[Interface]
	main atomic.Pointer[tap] // if_bpf; nil when bpf is detached from the interface

	// Guarded by Kernel.mu.
	name    string
	promisc int
	index   int // if_index; 0 with NoIndex

	multicast map[[6]byte]bool // what SIOCADDMULTI has added
}

type linkType struct {
	dlt    uint32
	hdrlen int
}

// A tap is one point where descriptors see packets of one link type (struct bpf_if).
type tap struct {
	iface *Interface
	linkType
	readers atomic.Pointer[[]*Descriptor] // newest first; written under Kernel.mu
	writers []*Descriptor                 // newest first; under Kernel.mu
}

func (t *tap) addReader(d *Descriptor) {
	readers := append([]*Descriptor{d}, *t.readers.Load()...)
	t.readers.Store(&readers)
}

func (t *tap) addWriter(d *Descriptor) { t.writers = append([]*Descriptor{d}, t.writers...) }

// remove takes d off the list that it is on.
func (t *tap) remove(d *Descriptor) {
	other := func(o *Descriptor) bool { return o == d }
	readers := slices.DeleteFunc(slices.Clone(*t.readers.Load()), other)
	t.readers.Store(&readers)
	t.writers = slices.DeleteFunc(t.writers, other)
}

// An InterfaceOption changes an Interface that [Kernel.AddInterface] makes.
type InterfaceOption func(*Interface)

// MTU sets the largest packet that can be written, in bytes without the link header. The default is
// 1500, or 16384 with [Loopback].
func MTU(n int) InterfaceOption { return func(i *Interface) { i.mtu.Store(int64(n)) } }

// HardwareAddr sets the address that written Ethernet frames get as their source, unless
// BIOCSHDRCMPLT is on.
func HardwareAddr(addr [6]byte) InterfaceOption { return func(i *Interface) { i.hwaddr = addr } }

// LinkHeader sets the length of the link header in bytes. bh_hdrlen depends on it. The default is
// that of the link type.
func LinkHeader(n int) InterfaceOption { return func(i *Interface) { i.link.hdrlen = n } }

// Loopback makes the interface behave like lo0: written packets come in again.
func Loopback() InterfaceOption { return func(i *Interface) { i.loopback = true } }

// AlsoDLT gives the interface another link type beside its main one (bpfattach2). hdrlen is the
// length of its link header in bytes.
func AlsoDLT(dlt uint32, hdrlen int) InterfaceOption {
	return func(i *Interface) { i.more = append(i.more, linkType{dlt, hdrlen}) }
}

// NoIndex makes it a place to listen that is no network interface, as 16 has for USB buses. It has
// no index and is in no vnet, and write(2) gives EOPNOTSUPP.
func NoIndex() InterfaceOption { return func(i *Interface) { i.noIndex = true } }

// Netmask gives the interface an IPv4 address with that netmask.
func Netmask(mask uint32) InterfaceOption { return func(i *Interface) { i.netmask = mask } }

// Output makes the interface call f with every packet that leaves through it, after listeners have
// seen the packet. f must not keep pkt. write(2) returns the error of f, which should be an errno.
func Output(f func(pkt []byte) error) InterfaceOption { return func(i *Interface) { i.output = f } }

// AddInterface attaches an interface of the given main link type. It is up. AddInterface panics if
// another interface has the name, or if the name has more than 15 bytes.
func (k *Kernel) AddInterface(name string, dlt uint32, opts ...InterfaceOption) *Interface {
	i := &Interface{k: k, name: name, link: linkType{dlt, defaultLinkHeader(dlt)}}
	for _, o := range opts {
		o(i)
	}
	if i.mtu.Load() == 0 {
		i.SetMTU(ethernetMTU)
		if i.loopback {
			i.SetMTU(loopbackMTU)
		}
	}
	i.up.Store(true)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(name) >= zbuf.IFNAMSIZ || k.find(name) != nil {
		panic("bpftest: interface name is taken or too long: " + name)
	}
	k.ifaces = append(k.ifaces, i)
	if !i.noIndex {
		k.indexes++
		i.index = k.indexes
	}
	i.main.Store(k.attachTap(i, i.link))
	for _, l := range i.more {
		k.attachTap(i, l)
	}
	k.tellWatchers()
	return i
}

func defaultLinkHeader(dlt uint32) int {
	switch dlt {
	case zbuf.DLT_EN10MB:
		return ethernetHeader
	case zbuf.DLT_NULL:
		return loopbackHeader
	case zbuf.DLT_PPP:
		return pppHeader
	case zbuf.DLT_IEEE802_11:
		return ieee80211HeaderLength
	}
	return 0
}

// attachTap is bpfattach2. k.mu is held.
func (k *Kernel) attachTap(i *Interface, l linkType) *tap {
	t := &tap{iface: i, linkType: l}
	t.readers.Store(new([]*Descriptor))
	k.taps = append([]*tap{t}, k.taps...)
	return t
}

// detachTaps is bpfdetach. k.mu is held.
func (k *Kernel) detachTaps(i *Interface) {
	i.main.Store(nil)
	k.taps = slices.DeleteFunc(k.taps, func(t *tap) bool {
		if t.iface != i {
			return false
		}
		for _, d := range slices.Concat(*t.readers.Load(), t.writers) {
			k.detach(d, true)
			d.mu.Lock()
			d.wakeup()
			d.mu.Unlock()
		}
		return true
	})
}

// find is ifunit. k.mu is held.
func (k *Kernel) find(name string) *Interface {
	for _, i := range k.ifaces {
		if i.name == name {
			return i
		}
	}
	return nil
}

// Interface returns the interface of that name, or nil.
func (k *Kernel) Interface(name string) *Interface {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.find(name)
}

// RemoveInterface destroys the interface of that name, as [Interface.Remove] does. It reports
// whether there was one.
func (k *Kernel) RemoveInterface(name string) bool {
	i := k.Interface(name)
	if i == nil {
		return false
	}
	i.Remove()
	return true
}

// Remove destroys the interface, also if it is in another vnet. Its listeners are detached and
// woken. They keep the packets that they have. Its peer stays, and has no peer any more.
func (i *Interface) Remove() {
	i.k.mu.Lock()
	i.k.detachTaps(i)
	i.k.hide(i)
	i.k.tellWatchers()
	i.k.mu.Unlock()
	if peer := i.peer.Swap(nil); peer != nil {
		peer.peer.CompareAndSwap(i, nil)
	}
	i.k.roomChanged()
}

// hide removes the interface from those that find knows. k.mu is held.
func (k *Kernel) hide(i *Interface) {
	k.ifaces = slices.DeleteFunc(k.ifaces, func(o *Interface) bool { return o == i })
}

// Rename gives the interface another name. Listeners stay attached. Rename panics if another
// interface has the name, or if the name has more than 15 bytes.
func (i *Interface) Rename(name string) {
	i.k.mu.Lock()
	defer i.k.mu.Unlock()
	if len(name) >= zbuf.IFNAMSIZ || i.k.find(name) != nil {
		panic("bpftest: interface name is taken or too long: " + name)
	}
	i.name = name
	i.k.tellWatchers()
}

// MoveAway moves the interface to another vnet (if_vmove). It is down, and nobody finds it by name
// until [Interface.MoveBack]. In 12.1 its listeners stay attached and are not woken. With
// [Features].VnetDetach they are detached as [Interface.Remove] does it.
func (i *Interface) MoveAway() {
	i.k.mu.Lock()
	i.up.Store(false)
	i.k.hide(i)
	if i.k.features.VnetDetach {
		i.k.detachTaps(i)
	}
	i.k.tellWatchers()
	i.k.mu.Unlock()
	i.k.roomChanged()
}

// MoveBack undoes [Interface.MoveAway], except that the interface stays down ([Interface.SetUp]).
// If MoveAway has detached the listeners, only the main link type is there again.
func (i *Interface) MoveBack() {
	i.k.mu.Lock()
	defer i.k.mu.Unlock()
	if slices.Contains(i.k.ifaces, i) {
		return
	}
	i.k.ifaces = append(i.k.ifaces, i)
	if i.main.Load() == nil {
		i.main.Store(i.k.attachTap(i, i.link))
	}
	i.k.tellWatchers()
}

// Name returns the interface's name.
func (i *Interface) Name() string {
	i.k.mu.Lock()
	defer i.k.mu.Unlock()
	return i.name
}

// Promisc returns the number of descriptors that hold the interface in promiscuous mode. The model
// shows every packet to listeners, also if the number is 0.
func (i *Interface) Promisc() int {
	i.k.mu.Lock()
	defer i.k.mu.Unlock()
	return i.promisc
}

// SetUp brings the interface up or down. A write to an interface that is down gives ENETDOWN.
// Packets that arrive at it are lost.
func (i *Interface) SetUp(up bool) { i.up.Store(up) }

// SetMTU sets the largest packet that can be written, in bytes without the link header.
func (i *Interface) SetMTU(n int) { i.mtu.Store(int64(n)) }

// Pair joins two interfaces as epair(4) does. Packets that leave through one arrive at the other.
func Pair(a, b *Interface) {
	a.peer.Store(b)
	b.peer.Store(a)
}

// Peer returns the interface with which [Pair] joined this one, or nil.
func (i *Interface) Peer() *Interface { return i.peer.Load() }

// A Packet is one packet that [Interface.Inject] shows to listeners.
type Packet struct {
	// Data has the captured bytes, from the link header on.
	Data []byte
	// Wirelen is the length in bytes that the packet had on the wire, if that is more than Data
	// has.
	Wirelen int
	// Time is the time of capture. The zero Time is now, by the kernel's clock. Any other Time counts
	// for every clock that a listener asks for. It is exact in ns, from year 1678 to 2262.
	Time time.Time
	// Out says that the host sends the packet (direction BPF_D_OUT). Otherwise it comes in.
	Out bool
	// DLT chooses one of the interface's further link types ([AlsoDLT]). 0 is the main one.
	DLT uint32
}

// Receive shows a packet that came in to all listeners (bpf_mtap).
func (i *Interface) Receive(pkt []byte) { i.Inject(Packet{Data: pkt}) }

// ReceiveAt shows a packet that was captured before, as [Interface.Receive] does. It was captured
// at ts, and was wirelen bytes long. pkt has the first of them.
func (i *Interface) ReceiveAt(ts time.Time, pkt []byte, wirelen int) {
	i.Inject(Packet{Data: pkt, Time: ts, Wirelen: wirelen})
}

// Transmit sends a packet of the host. All listeners see it go out, and then the peer receives it.
func (i *Interface) Transmit(pkt []byte) { i.Inject(Packet{Data: pkt, Out: true}) }

// Inject shows a packet to all listeners. A packet that goes out then reaches the peer. Nothing
// happens if the interface is down or gone, or the kernel has panicked. Inject does not keep
// p.Data.
func (i *Interface) Inject(p Packet) {
	if i.k.panicked.Load() != nil || !i.up.Load() {
		return
	}
	i.show(&p)
	if p.Out {
		i.forward(p.Data)
	}
}

// InjectWait waits until no listener of the interface would drop the packet, and then does what
// [Interface.Inject] does. An interface that is down or gone has no listeners to wait for.
//
// InjectWait looks again whenever a call of a descriptor's method may have made room. It does not
// see that a reader acknowledges a buffer in shared memory. So the reader must then wait, read or
// make an ioctl, as every reader does when it finds nothing.
//
// Errors:
//   - context.Cause(ctx): ctx is done.
//   - [ErrPanic]: the kernel has panicked.
func (i *Interface) InjectWait(ctx context.Context, p Packet) error {
	for {
		if err := i.k.Panicked(); err != nil {
			return err
		}
		room := i.k.awaitRoom()
		if i.tryInject(&p) {
			i.k.waitingInjectors.Add(-1)
			if p.Out {
				i.forward(p.Data)
			}
			return nil
		}
		select {
		case <-room:
			i.k.waitingInjectors.Add(-1)
		case <-ctx.Done():
			i.k.waitingInjectors.Add(-1)
			return context.Cause(ctx)
		}
	}
}

// tap returns the tap of the link type, or nil.
func (i *Interface) tap(dlt uint32) *tap {
	main := i.main.Load()
	if main == nil || dlt == 0 || dlt == main.dlt {
		return main
	}
	i.k.mu.Lock()
	defer i.k.mu.Unlock()
	for _, t := range i.k.taps {
		if t.iface == i && t.dlt == dlt {
			return t
		}
	}
	return nil
}

// show is bpf_mtap.
func (i *Interface) show(p *Packet) {
	t := i.tap(p.DLT)
	if t == nil {
		return
	}
	s := newSighting(i.k, p)
	for _, d := range *t.readers.Load() {
		d.mu.Lock()
		d.see(t, &s)
		d.mu.Unlock()
	}
}

// tryInject shows the packet if no listener would drop it. It reports whether it has done so.
func (i *Interface) tryInject(p *Packet) bool {
	t := i.tap(p.DLT)
	if t == nil || !i.up.Load() {
		return true
	}
	s := newSighting(i.k, p)
	i.k.injectMu.Lock()
	defer i.k.injectMu.Unlock()
	readers := *t.readers.Load()
	for _, d := range readers {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.landQueued(len(d.flights.queued)) // packets in flight take room, too
	}
	for _, d := range readers {
		if d.wouldDrop(t, &s) {
			return false
		}
	}
	for _, d := range readers {
		d.see(t, &s)
	}
	return true
}

// forward gives a packet that has left through the interface to the peer and to Output's function.
func (i *Interface) forward(pkt []byte) error {
	if peer := i.peer.Load(); peer != nil {
		peer.Receive(pkt)
	}
	if i.output != nil {
		return i.output(pkt)
	}
	return nil
}

// awaitRoom returns a channel that the next roomChanged closes. waitingInjectors counts the
// caller until it counts itself off.
func (k *Kernel) awaitRoom() <-chan struct{} {
	k.waitingInjectors.Add(1)
	k.roomMu.Lock()
	defer k.roomMu.Unlock()
	if k.room == nil {
		k.room = make(chan struct{})
	}
	return k.room
}

// roomChanged lets injectors look again.
func (k *Kernel) roomChanged() {
	if k.waitingInjectors.Load() == 0 {
		return
	}
	k.roomMu.Lock()
	defer k.roomMu.Unlock()
	if k.room != nil {
		close(k.room)
		k.room = nil
	}
}
