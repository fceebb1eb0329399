package bpftest

import (
	"encoding/binary"
	"sync"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// What the protocol families that loopback takes are called there (sys/socket.h).
const (
	afInet  = 2
	afInet6 = 28
)

// frames are for written packets that the kernel changes.
var frames = sync.Pool{New: func() any { return new([]byte) }}

// Write is write(2) of one packet (bpfwrite). ENXIO when detached, ENETDOWN when the interface is down,
// EMSGSIZE when the packet is shorter than the link header or longer than the MTU allows, EIO when it
// is longer than a page or of a link type that cannot be written, EPERM when the write filter
// refuses it, EAFNOSUPPORT from loopback.
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
	d.pid = d.k.pid
	d.wcount++
	t := d.tap
	strip, err := d.check(t, p)
	if err != nil || len(p) == 0 {
		d.wdcount++
		d.mu.Unlock()
		return 0, err
	}
	d.wfcount++
	hdrcmplt, feedback, direction := d.hdrcmplt, d.feedback != 0, d.direction
	d.mu.Unlock()

	i := t.iface
	if t.dlt == DLT_EN10MB && !hdrcmplt {
		frame := frames.Get().(*[]byte)
		defer frames.Put(frame)
		*frame = append((*frame)[:0], p...)
		copy((*frame)[6:], i.hwaddr[:])
		err = i.send((*frame)[strip:], *frame, feedback, direction)
	} else {
		err = i.send(p[strip:], p, feedback, direction)
	}
	if err != nil {
		d.mu.Lock()
		d.wdcount++
		d.mu.Unlock()
		return 0, err
	}
	return len(p), nil
}

// check is the part of bpfwrite and bpf_movein that can refuse a packet. strip is how many bytes in front
// never reach the wire. d.mu is held.
func (d *Descriptor) check(t *tap, p []byte) (strip int, err error) {
	if t == nil {
		return 0, syscall.ENXIO
	}
	if !t.iface.up.Load() {
		return 0, syscall.ENETDOWN
	}
	if len(p) == 0 {
		return 0, nil
	}
	link := 0
	switch t.dlt {
	case DLT_SLIP, DLT_FDDI, DLT_RAW, DLT_IEEE802_11:
	case DLT_EN10MB:
		link = ethernetHeader
	case DLT_NULL:
		link = loopbackHeader
	case DLT_PPP:
		link = pppHeader
	case DLT_ATM_RFC1483:
		link = atmHeader
	case DLT_IEEE802_11_RADIO:
		link = radioHeader
	default:
		return 0, syscall.EIO
	}
	if len(p) < link || len(p)-link > int(t.iface.mtu.Load()) {
		return 0, syscall.EMSGSIZE
	}
	if len(p) > d.k.jumbo() {
		return 0, syscall.EIO
	}
	if d.wfilter.match(p, len(p), false) == 0 {
		return 0, syscall.EPERM
	}
	if t.dlt == DLT_IEEE802_11_RADIO {
		// The second byte says how long the parameters in front really are.
		if strip = int(p[1]); strip > radioHeader {
			return 0, syscall.EINVAL
		}
	}
	return strip, nil
}

// jumbo is the largest packet that fits one mbuf (MJUMPAGESIZE).
func (k *Kernel) jumbo() int { return min(max(k.pageSize, 2048), 8192) }

// send is if_output, and if_input of the copy that BIOCFEEDBACK asks for.
func (i *Interface) send(pkt, whole []byte, feedback bool, direction uint32) error {
	if i.loopback {
		switch binary.NativeEndian.Uint32(pkt) {
		case afInet, afInet6:
		default:
			return syscall.EAFNOSUPPORT
		}
		i.show(&Packet{Data: pkt})
		return nil
	}
	// With feedback the listeners see the copy come in instead of the packet go out, unless the writer
	// chose a direction.
	if !feedback || direction != zbuf.BPF_D_INOUT {
		i.show(&Packet{Data: pkt, Out: true})
	}
	if err := i.forward(pkt); err != nil {
		return err
	}
	if feedback {
		i.show(&Packet{Data: whole})
	}
	return nil
}
