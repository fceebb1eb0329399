package zbuf

import (
	"errors"
	"syscall"
)

// AddMulticast makes the attached interface accept frames to an Ethernet multicast address. The
// address belongs to the interface and not to the descriptor. It stays until somebody calls
// [Device.DeleteMulticast], also if the process ends, or the interface goes or moves to another
// vnet. Request: SIOCADDMULTI on a socket. AddMulticast stops the read timeout.
//
// Addresses that the protocols of the kernel have added are other entries of its list.
//
// Errors:
//   - EADDRINUSE: somebody has added the address. The kernel does not count how often.
//   - EADDRNOTAVAIL: addr is no multicast address.
//   - EOPNOTSUPP: the interface has no multicast.
//   - EPERM: the user is not root.
//   - ENXIO: the process's network stack does not have the interface, as for
//     [Device.InterfaceIndex].
//   - [errors.ErrUnsupported]: the backend has no [Multicast].
func (d *Device) AddMulticast(addr [6]byte) error {
	return d.multicast(opAddMulticast, func(m Multicast) error { return m.AddMulticast(addr) })
}

// DeleteMulticast takes back what [Device.AddMulticast] did, also that of another program. Request:
// SIOCDELMULTI on a socket. DeleteMulticast stops the read timeout.
//
// Errors:
//   - ENOENT: nobody has added the address.
//   - EOPNOTSUPP, EPERM, ENXIO and [errors.ErrUnsupported]: as for AddMulticast.
func (d *Device) DeleteMulticast(addr [6]byte) error {
	return d.multicast(opDeleteMulticast, func(m Multicast) error { return m.DeleteMulticast(addr) })
}

func (d *Device) multicast(op string, change func(Multicast) error) error {
	if err := d.enter(op); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.res.b.(Multicast)
	if !ok {
		return opError(op, d.iface, errors.ErrUnsupported)
	}
	for try := 1; ; try++ {
		// As in InterfaceIndex: somebody may rename the interface between the two requests.
		err := change(m)
		if err != error(syscall.ENXIO) || d.res.b.Detached() || try == renameTries {
			return opError(op, d.iface, err)
		}
	}
}
