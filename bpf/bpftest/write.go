package bpftest

import (
	"encoding/binary"
	"sync"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// Protocol families that loopback and tun take, and the one that a packet to tun gets with
// BIOCSHDRCMPLT (sys/socket.h).
const (
	afInet         = 2
	afInet6        = 28
	afHeaderIsDone = 31 // pseudo_AF_HDRCMPLT
)

// longestWrite is the largest cluster that a packet is written to from 14 on (MJUM16BYTES).
const longestWrite = 16384

// frames are for written packets that the kernel changes.
var frames = sync.Pool{New: func() any { return new([]byte) }}

// Write writes one packet, as write(2) does (bpfwrite).
//
// Errors:
//   - ENXIO: no interface is attached.
//   - ENETDOWN: the interface is down.
//   - EMSGSIZE: the packet is shorter than the link header, or longer than the MTU allows.
//   - EIO: the packet is longer than a page ([Features].LongWrite), or the link type cannot be
//     written.
//   - EPERM: the write filter refuses the packet.
//   - EAFNOSUPPORT: loopback or tun does not take the protocol.
//   - EBADF: the descriptor is closed, or was opened for reading only.
//   - ENOTCAPABLE: [Descriptor.Limit] has taken writing away.
//   - EOPNOTSUPP: the interface is no network interface ([NoIndex]).
//   - EINVAL: the radio header of a packet of DLT_IEEE802_11_RADIO is too long.
//   - ENOMEM: with [Features].TapWrite, the packet is longer than 16 KiB.
//   - The error of the function in [Output].
func (d *Descriptor) Write(p []byte) (int, error) {
	if err := d.k.enter("write"); err != nil {
		return 0, err
	}
	d.mu.Lock()
	if d.closed || !d.canWrite {
		d.mu.Unlock()
		return 0, syscall.EBADF
	}
	if d.limit != nil && !d.mayWrite {
		d.mu.Unlock()
		return 0, ENOTCAPABLE
	}
	later := d.k.features.TapWrite
	if later && len(p) == 0 {
		d.mu.Unlock()
		return 0, nil
	}
	if !later {
		d.pid = d.k.pid
		d.wcount++
	}
	t := d.tap
	strip, err := d.check(t, p)
	if err != nil || len(p) == 0 {
		d.wdcount++
		d.mu.Unlock()
		return 0, err
	}
	if !later {
		d.wfcount++
	}
	w := writing{t.iface, d.hdrcmplt, d.feedback != 0, d.direction}
	d.mu.Unlock()

	switch {
	case t.dlt == zbuf.DLT_EN10MB && !w.hdrcmplt:
		frame := frames.Get().(*[]byte)
		defer frames.Put(frame)
		*frame = append((*frame)[:0], p...)
		copy((*frame)[6:], t.iface.hwaddr[:])
		copied := *frame
		if later {
			copied = p // bpfwrite copies it before bpf_ifnet_write fills the address in
		}
		err = w.send((*frame)[strip:], copied)
	case t.iface.loopback:
		err = w.loop(p)
	case t.dlt == zbuf.DLT_NULL:
		err = w.tunnel(p, w.hdrcmplt && !later)
	default:
		err = w.send(p[strip:], p)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.wdcount++
		return 0, err
	}
	if later {
		d.wfcount++
	}
	return len(p), nil
}

// check is the part of bpfwrite and bpf_movein that can refuse a packet. strip is the number of
// bytes in front that never reach the wire. d.mu is held.
func (d *Descriptor) check(t *tap, p []byte) (strip int, err error) {
	if t == nil {
		return 0, syscall.ENXIO
	}
	if t.iface.noIndex {
		return 0, syscall.EOPNOTSUPP
	}
	later := d.k.features.TapWrite
	if !later {
		if !t.iface.up.Load() {
			return 0, syscall.ENETDOWN
		}
		if len(p) == 0 {
			return 0, nil
		}
	}
	link, ok := writable(t.dlt)
	switch {
	case later && len(p) > longestWrite:
		return 0, syscall.ENOMEM
	case later:
	case !ok:
		return 0, syscall.EIO
	case len(p) < link || len(p)-link > int(t.iface.mtu.Load()):
		return 0, syscall.EMSGSIZE
	case len(p) > d.k.longestWrite():
		return 0, syscall.EIO
	}
	if d.wfilter.match(p, len(p), false) == 0 {
		return 0, syscall.EPERM
	}
	if later {
		if !t.iface.up.Load() {
			return 0, syscall.ENETDOWN
		}
		if len(p) < link {
			return 0, syscall.EMSGSIZE
		}
		return 0, nil
	}
	if t.dlt == zbuf.DLT_IEEE802_11_RADIO {
		// The second byte is the length of the parameters in front.
		if strip = int(p[1]); strip > radioHeader {
			return 0, syscall.EINVAL
		}
	}
	return strip, nil
}

// writable returns the length of the link header that a packet of the link type must begin with. ok
// is false if bpf_movein does not know the type.
func writable(dlt uint32) (link int, ok bool) {
	switch dlt {
	case zbuf.DLT_SLIP, zbuf.DLT_FDDI, zbuf.DLT_RAW, zbuf.DLT_IEEE802_11:
		return 0, true
	case zbuf.DLT_EN10MB:
		return ethernetHeader, true
	case zbuf.DLT_NULL:
		return loopbackHeader, true
	case zbuf.DLT_PPP:
		return pppHeader, true
	case zbuf.DLT_ATM_RFC1483:
		return atmHeader, true
	case zbuf.DLT_IEEE802_11_RADIO:
		return radioHeader, true
	}
	return 0, false
}

// longestWrite returns the size of the largest packet that the kernel finds room for. It must fit
// one cluster, of a page (MJUMPAGESIZE, m_get2) or of 16 KiB (m_get3).
func (k *Kernel) longestWrite() int {
	if k.features.LongWrite {
		return longestWrite
	}
	return min(max(k.pageSize, 2048), 8192)
}

// A writing is a packet that bpfwrite has let through.
type writing struct {
	iface              *Interface
	hdrcmplt, feedback bool
	direction          uint32
}

// loop is looutput.
func (w *writing) loop(p []byte) error {
	switch binary.NativeEndian.Uint32(p) {
	case afInet, afInet6:
	default:
		return syscall.EAFNOSUPPORT
	}
	w.iface.show(&Packet{Data: p})
	return nil
}

// tunnel is tunoutput without TUNSIFHEAD. forced says that BIOCSHDRCMPLT has replaced the packet's
// protocol family. Listeners also see a packet that tunnel then refuses.
func (w *writing) tunnel(p []byte, forced bool) error {
	family := binary.NativeEndian.Uint32(p)
	if forced {
		family = afHeaderIsDone
		p = append(binary.NativeEndian.AppendUint32(nil, family), p[loopbackHeader:]...)
	}
	w.leave(p)
	if family != afInet {
		return syscall.EAFNOSUPPORT
	}
	return w.iface.forward(p)
}

// send is if_output, and if_input of the copy that BIOCFEEDBACK asks for.
func (w *writing) send(pkt, whole []byte) error {
	w.leave(pkt)
	if err := w.iface.forward(pkt); err != nil {
		return err
	}
	if w.feedback {
		w.iface.show(&Packet{Data: whole})
	}
	return nil
}

// leave shows a packet that goes out. With feedback the listeners see the copy come in instead,
// unless the writer chose a direction.
func (w *writing) leave(pkt []byte) {
	if !w.feedback || w.direction != zbuf.BPF_D_INOUT {
		w.iface.show(&Packet{Data: pkt, Out: true})
	}
}
