package bpftest

import (
	"bytes"
	"maps"
	"slices"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// Multicast returns the addresses that descriptors have added to the interface, in order. The
// model shows every packet to listeners, also to addresses that nobody has added.
func (i *Interface) Multicast() [][6]byte {
	i.k.mu.Lock()
	defer i.k.mu.Unlock()
	return slices.SortedFunc(maps.Keys(i.multicast), func(a, b [6]byte) int {
		return bytes.Compare(a[:], b[:])
	})
}

// AddMulticast adds a multicast address to the attached interface. It makes BIOCGETIF, with all
// effects of an ioctl, and SIOCADDMULTI of that name. The address stays when the descriptor is
// closed.
//
// Errors:
//   - ENXIO: as for [Descriptor.InterfaceIndex].
//   - EADDRINUSE: the interface has the address.
//   - EADDRNOTAVAIL: the interface is an Ethernet interface, and addr is no multicast address.
func (d *Descriptor) AddMulticast(addr [6]byte) error {
	return d.changeMulticast("add multicast", func(i *Interface) error {
		switch {
		case i.multicast[addr]:
			return syscall.EADDRINUSE
		case i.link.dlt == zbuf.DLT_EN10MB && addr[0]&1 == 0:
			return syscall.EADDRNOTAVAIL
		}
		i.multicast[addr] = true
		return nil
	})
}

// DeleteMulticast takes a multicast address off the attached interface, whoever has added it. It
// makes BIOCGETIF, with all effects of an ioctl, and SIOCDELMULTI of that name.
//
// Errors:
//   - ENXIO: as for [Descriptor.InterfaceIndex].
//   - ENOENT: the interface does not have the address.
func (d *Descriptor) DeleteMulticast(addr [6]byte) error {
	return d.changeMulticast("delete multicast", func(i *Interface) error {
		if !i.multicast[addr] {
			return syscall.ENOENT
		}
		delete(i.multicast, addr)
		return nil
	})
}

func (d *Descriptor) changeMulticast(call string, change func(*Interface) error) error {
	i, err := d.attached(call)
	if err != nil {
		return err
	}
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	if i.multicast == nil {
		i.multicast = map[[6]byte]bool{}
	}
	return change(i)
}
