package zbuf

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
)

// listTries limits the tries to get a list that grows between two calls.
const listTries = 3

// Interface returns the present name of the attached interface. Request: [BIOCGETIF], legal when
// locked.
//
// Errors:
//   - EINVAL: the descriptor is not attached, or its interface has gone.
func (d *Device) Interface() (string, error) {
	if err := d.begin(BIOCGETIF); err != nil {
		return "", err
	}
	defer d.end()
	return d.interfaceLocked()
}

func (d *Device) interfaceLocked() (string, error) {
	var r Ifreq
	if err := d.ioctlLocked(BIOCGETIF, &r); err != nil {
		return "", err
	}
	name, _, _ := bytes.Cut(r.Name[:], []byte{0})
	return string(name), nil
}

// SetInterface attaches the descriptor to an interface. The kernel captures from then on. The
// kernel resets the descriptor. In buffered mode without [Device.SetBufferLen] the kernel allocates
// buffers of its default length. Request: [BIOCSETIF].
//
// Errors:
//   - ENXIO: there is no such interface, or it has no bpf tap.
//   - ENAMETOOLONG: the name has more than 15 bytes.
//   - EINVAL: the descriptor is in zero-copy mode and has no buffers.
//   - [ErrResetUnsafe]: the same. The Device finds it before it asks the kernel.
//   - [ErrReattachUnsafe]: the descriptor is promiscuous, or was adopted while it was attached, and
//     its interface has gone.
func (d *Device) SetInterface(name string) error {
	op := BIOCSETIF.String()
	var r Ifreq
	if len(name) >= len(r.Name) {
		return opError(op, name, syscall.ENAMETOOLONG)
	}
	copy(r.Name[:], name)
	if err := d.begin(BIOCSETIF); err != nil {
		return err
	}
	defer d.end()
	if d.promisc && d.res.b.Detached() {
		return opError(op, name, ErrReattachUnsafe)
	}
	was := d.iface
	d.named(name)
	if err := d.ioctlLocked(BIOCSETIF, &r); err != nil {
		d.named(was)
		return err
	}
	d.promisc, d.noIndex = false, false
	return nil
}

// Name returns the interface that [Device.SetInterface] attached last. It does not ask the kernel.
func (d *Device) Name() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.iface
}

// InterfaceList returns the names of all bpf taps that a descriptor can be attached to, each once.
// A tap need not be a network interface. Request: [BIOCGETIFLIST], since 16.0 (not run), legal when
// locked.
//
// Errors:
//   - EINVAL: the kernel is older than 16.0.
func (d *Device) InterfaceList() ([]string, error) {
	if err := d.begin(BIOCGETIFLIST); err != nil {
		return nil, err
	}
	defer d.end()
	return d.interfaceListLocked()
}

func (d *Device) interfaceListLocked() ([]string, error) {
	for range listTries { // interfaces may come between the two calls
		var l IfList
		if err := d.ioctlLocked(BIOCGETIFLIST, &l); err != nil || l.Size == 0 {
			return nil, err
		}
		buf := make([]byte, l.Size)
		l = IfList{Size: uint32(len(buf)), Ubuf: &buf[0]}
		err := d.ioctlLocked(BIOCGETIFLIST, &l)
		if errors.Is(err, syscall.ENOSPC) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var names []string
		for name := range bytes.SplitSeq(buf[:min(int(l.Size), len(buf))], []byte{0}) {
			// The kernel names an interface once for each of its link types.
			if len(name) > 0 && !slices.Contains(names, string(name)) {
				names = append(names, string(name))
			}
		}
		return names, nil
	}
	return nil, opError(BIOCGETIFLIST.String(), d.iface, syscall.ENOSPC)
}

// SetPromiscuous makes the interface accept every packet, until the descriptor is closed or
// attached to another interface. Request: [BIOCPROMISC], after attach.
//
// Errors:
//   - EINVAL: the descriptor is not attached.
//   - Any other errno comes from the interface's driver.
func (d *Device) SetPromiscuous() error {
	if err := d.begin(BIOCPROMISC); err != nil {
		return err
	}
	defer d.end()
	err := d.ioctlLocked(BIOCPROMISC, nil)
	d.promisc = d.promisc || err == nil
	return err
}

// LinkType returns the DLT_ number in use. Request: [BIOCGDLT], legal when locked.
//
// Errors:
//   - EINVAL: the descriptor is not attached, or its interface has gone.
func (d *Device) LinkType() (uint32, error) { return d.get(BIOCGDLT) }

// SetLinkType chooses one of [Device.LinkTypes] and resets the descriptor. Request: [BIOCSDLT],
// after attach.
//
// Errors:
//   - EINVAL: the interface does not offer dlt, or the descriptor is not attached.
//   - [ErrResetUnsafe]: the descriptor is in zero-copy mode and has no buffers.
func (d *Device) SetLinkType(dlt uint32) error { return d.set(BIOCSDLT, dlt) }

// LinkTypes returns the DLT_ numbers that the attached interface offers. Request: [BIOCGDLTLIST],
// legal when locked.
//
// Errors:
//   - EINVAL: the descriptor is not attached, or its interface has gone.
func (d *Device) LinkTypes() ([]uint32, error) {
	for range listTries { // the list may grow between the two calls
		var l DLTList
		if err := d.ioctl(BIOCGDLTLIST, &l); err != nil {
			return nil, err
		}
		list := make([]uint32, max(l.Len, 1))
		l = DLTList{Len: uint32(len(list)), List: &list[0]}
		err := d.ioctl(BIOCGDLTLIST, &l)
		if errors.Is(err, syscall.ENOMEM) {
			continue
		}
		return list[:min(int(l.Len), len(list))], err
	}
	return nil, opError(BIOCGDLTLIST.String(), d.Name(), syscall.ENOMEM)
}

// Detached reports whether no interface is attached. It does not stop the read timeout.
func (d *Device) Detached() bool {
	if d.enter("poll") != nil {
		return false
	}
	defer d.leave()
	return d.res.b.Detached()
}

// renameTries limits the questions of InterfaceIndex that the kernel answers with ENXIO.
const renameTries = 4

// InterfaceIndex returns the index ([net.Interface]) of the attached interface. It returns 0 for a
// bpf tap that is not a network interface (16.0, not run). InterfaceIndex stops the read timeout.
//
// The kernel has no request for the index. The backend asks for the name (BIOCGETIF) and then for
// the index of that name (SIOCGIFINDEX). If somebody renames the interface between the two, the
// second fails with ENXIO. So InterfaceIndex asks again while the descriptor is attached.
//
// Errors:
//   - ENXIO: the process's network stack does not have the interface: the descriptor is not
//     attached, or the interface was destroyed or moved to another vnet.
func (d *Device) InterfaceIndex() (int, error) {
	if err := d.enter(opIndex); err != nil {
		return 0, err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	for try := 1; ; try++ {
		n, err := d.res.b.InterfaceIndex()
		switch {
		case err != error(syscall.ENXIO) || d.res.b.Detached():
			return n, opError(opIndex, d.iface, err)
		case d.noIndex:
			return 0, nil
		case try == renameTries:
			d.noIndex = d.tapWithoutIndex()
			if d.noIndex {
				return 0, nil
			}
			return 0, opError(opIndex, d.iface, err)
		}
	}
}

// tapWithoutIndex reports whether the kernel lists the attached tap, although the network stack has
// no interface of that name. The list of the taps (BIOCGETIFLIST) came with such taps.
func (d *Device) tapWithoutIndex() bool {
	name, err := d.interfaceLocked()
	if err != nil {
		return false
	}
	taps, err := d.interfaceListLocked()
	return err == nil && slices.Contains(taps, name)
}
