package bpftest

import (
	"bytes"
	"slices"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// setInterface is BIOCSETIF.
func (d *Descriptor) setInterface(ifr *zbuf.Ifreq) error {
	d.mu.Lock()
	var err error
	if d.bufmode == zbuf.BPF_BUFMODE_BUFFER && d.store == nil {
		err = d.allocate(d.clampSize(uint32(d.bufsize)))
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	k := d.k
	k.mu.Lock()
	defer k.unlock()
	name, _, _ := bytes.Cut(ifr.Name[:], []byte{0})
	i := k.find(string(name))
	if i == nil {
		return syscall.ENXIO
	}
	t := i.main.Load()
	d.mu.Lock()
	stored, attached := d.store != nil, d.tap
	d.mu.Unlock()
	if !stored {
		return syscall.EINVAL
	}
	if attached != t {
		k.attach(d, t)
		if k.features.AttachWakes {
			return nil
		}
	}
	d.mu.Lock()
	d.overtake(false)
	d.reset()
	d.mu.Unlock()
	return nil
}

// setDLT is BIOCSDLT (bpf_setdlt).
func (d *Descriptor) setDLT(dlt uint32) error {
	k := d.k
	k.mu.Lock()
	defer k.unlock()
	if d.tap == nil {
		return syscall.EINVAL
	}
	if d.tap.dlt == dlt {
		return nil
	}
	iface := d.tap.iface
	at := slices.IndexFunc(k.taps, func(t *tap) bool { return t.iface == iface && t.dlt == dlt })
	if at < 0 {
		return syscall.EINVAL
	}
	promisc := d.promisc
	k.attach(d, k.taps[at])
	d.mu.Lock()
	defer d.mu.Unlock()
	if !k.features.AttachWakes {
		d.reset()
	}
	if promisc {
		d.promisc = true
		iface.promisc++
	}
	return nil
}

// dltList is BIOCGDLTLIST (bpf_getdltlist).
func (d *Descriptor) dltList(l *zbuf.DLTList) error {
	k := d.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if d.tap == nil {
		return syscall.EINVAL
	}
	var found []uint32
	for _, t := range k.taps {
		if t.iface == d.tap.iface {
			found = append(found, t.dlt)
		}
	}
	n := uint32(len(found))
	if l.List != nil {
		if n > l.Len {
			return syscall.ENOMEM
		}
		copy(linkTypes(l), found)
	}
	l.Len = n
	return nil
}

// interfaceName is BIOCGETIF.
func (d *Descriptor) interfaceName(ifr *zbuf.Ifreq) error {
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	if d.tap == nil {
		return syscall.EINVAL
	}
	*ifr = zbuf.Ifreq{}
	copy(ifr.Name[:], d.tap.iface.name)
	return nil
}

// setPromisc is BIOCPROMISC.
func (d *Descriptor) setPromisc() error {
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tap == nil {
		return syscall.EINVAL
	}
	if !d.promisc {
		d.promisc = true
		d.tap.iface.promisc++
	}
	return nil
}

// interfaceList is BIOCGETIFLIST (bpf_getiflist, 16): every place to listen, the newest first, one
// name for each link type.
func (k *Kernel) interfaceList(l *zbuf.IfList) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for _, t := range k.taps {
		if k.find(t.iface.name) == t.iface {
			all = append(all, t.iface.name)
		}
	}
	asked := all
	if l.Count != 0 && int(l.Count) < len(all) {
		asked = all[:l.Count]
	}
	size := 0
	for _, name := range asked {
		size += len(name) + 1
	}
	switch {
	case l.Size == 0:
		l.Size, l.Count = uint32(size), uint32(len(all))
		return nil
	case int(l.Size) < size:
		return syscall.ENOSPC
	case l.Ubuf == nil && size > 0:
		return syscall.EFAULT
	}
	dst := names(l)
	for _, name := range asked {
		dst[copy(dst, name)] = 0
		dst = dst[len(name)+1:]
	}
	l.Count = uint32(len(asked))
	return nil
}
