package zbuf

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
)

// Interface returns the name of the attached interface as it is now. BIOCGETIF; legal
// when locked. Errors: EINVAL when not attached, also when the interface has gone.
func (d *Device) Interface() (string, error) {
	if err := d.enter(BIOCGETIF.String()); err != nil {
		return "", err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
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

// SetInterface attaches the descriptor to an interface. Packets come from then on. The kernel
// resets the descriptor. In buffered mode without SetBufferLen the kernel allocates buffers of its
// default length. BIOCSETIF.
//
// Errors:
//   - ENXIO: there is no such interface.
//   - ENAMETOOLONG: the name has more than 15 bytes.
//   - EINVAL: the descriptor is in zero-copy mode and has no buffers.
//   - ErrResetUnsafe: the same, found before the kernel is asked.
//   - ErrReattachUnsafe: the descriptor is promiscuous, or was adopted while it was attached, and
//     its interface has gone.
func (d *Device) SetInterface(name string) error {
	op := BIOCSETIF.String()
	var r Ifreq
	if len(name) >= len(r.Name) {
		return &Error{Op: op, Interface: name, Err: syscall.ENAMETOOLONG, Hint: "an interface's name has at most 15 bytes"}
	}
	copy(r.Name[:], name)
	if err := d.enter(op); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.promisc && d.res.b.Detached() {
		return &Error{Op: op, Interface: name, Err: ErrReattachUnsafe}
	}
	was := d.iface
	d.iface = name
	if err := d.ioctlLocked(BIOCSETIF, &r); err != nil {
		d.iface = was
		return err
	}
	d.promisc, d.noIndex = false, false
	return nil
}

// Name returns the interface that SetInterface attached last, without asking the kernel.
func (d *Device) Name() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.iface
}

// InterfaceList returns the names of everything that can be attached to, which need not be
// network interfaces. BIOCGETIFLIST, since 16.0 (not run); legal when locked. EINVAL before.
func (d *Device) InterfaceList() ([]string, error) {
	if err := d.enter(BIOCGETIFLIST.String()); err != nil {
		return nil, err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.interfaceListLocked()
}

func (d *Device) interfaceListLocked() ([]string, error) {
	for range 3 { // interfaces may come between the two calls
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
			if len(name) > 0 {
				names = append(names, string(name))
			}
		}
		return names, nil
	}
	return nil, &Error{Op: BIOCGETIFLIST.String(), Err: syscall.ENOSPC}
}

// SetPromiscuous makes the interface accept every packet, until the descriptor is closed or
// attached to another interface. BIOCPROMISC, after attach.
//
// Errors:
//   - EINVAL: the descriptor is not attached.
//   - Any other errno comes from the interface's driver.
func (d *Device) SetPromiscuous() error {
	if err := d.enter(BIOCPROMISC.String()); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.ioctlLocked(BIOCPROMISC, nil)
	d.promisc = d.promisc || err == nil
	return err
}

// LinkType returns the DLT_ number of the attached interface. BIOCGDLT; legal
// when locked. Errors: EINVAL when not attached, also when the interface has gone.
func (d *Device) LinkType() (uint32, error) { return d.get(BIOCGDLT) }

// SetLinkType chooses among LinkTypes. It empties and zeroes like Flush. BIOCSDLT, after
// attach. Errors: EINVAL for a type the interface has not; ErrResetUnsafe.
func (d *Device) SetLinkType(dlt uint32) error { return d.set(BIOCSDLT, dlt) }

// LinkTypes returns the DLT_ numbers the attached interface offers. BIOCGDLTLIST; legal
// when locked. Errors: EINVAL when not attached.
func (d *Device) LinkTypes() ([]uint32, error) {
	for range 3 { // the list may grow between the two calls
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
	return nil, &Error{Op: BIOCGDLTLIST.String(), Err: syscall.ENOMEM}
}

// Detached reports whether no interface is attached, without stopping the read timeout.
func (d *Device) Detached() bool {
	if d.enter("poll") != nil {
		return false
	}
	defer d.leave()
	return d.res.b.Detached()
}

// renameTries is how often InterfaceIndex asks before it takes ENXIO for an answer.
const renameTries = 4

// InterfaceIndex returns the index (net.Interface) of the attached interface. It returns 0 for a
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
	if err := d.enter("SIOCGIFINDEX"); err != nil {
		return 0, err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	for try := 1; ; try++ {
		n, err := d.res.b.InterfaceIndex()
		switch {
		case err != error(syscall.ENXIO) || d.res.b.Detached():
			return n, opError("SIOCGIFINDEX", d.iface, err)
		case d.noIndex:
			return 0, nil
		case try == renameTries:
			d.noIndex = d.tapWithoutIndex()
			if d.noIndex {
				return 0, nil
			}
			return 0, opError("SIOCGIFINDEX", d.iface, err)
		}
	}
}

// tapWithoutIndex reports whether the attached tap can be attached to, although the network stack
// has no interface of that name. The list of the taps (BIOCGETIFLIST) came with such taps.
func (d *Device) tapWithoutIndex() bool {
	name, err := d.interfaceLocked()
	if err != nil {
		return false
	}
	taps, err := d.interfaceListLocked()
	return err == nil && slices.Contains(taps, name)
}
