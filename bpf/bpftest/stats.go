package bpftest

import (
	"encoding/binary"

	"github.com/zbuf-go/zbuf"
)

// Stats returns the answer of net.bpf.stats to root (bpf_stats_sysctl). It has every attached
// descriptor, for each link type of each interface. The newest come first, and those that only
// write come before the others.
func (k *Kernel) Stats() []zbuf.XbpfD {
	k.mu.Lock()
	defer k.mu.Unlock()
	stats := make([]zbuf.XbpfD, 0, k.attached)
	for _, t := range k.taps {
		for _, d := range t.writers {
			stats = append(stats, d.stats(t.iface.name))
		}
		for _, d := range *t.readers.Load() {
			stats = append(stats, d.stats(t.iface.name))
		}
	}
	return stats
}

// stats is bpfstats_fill_xbpf.
func (d *Descriptor) stats(ifname string) zbuf.XbpfD {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := zbuf.XbpfD{
		Structsize: uint32(binary.Size(zbuf.XbpfD{})),
		Promisc:    uint8(bit(d.promisc)),
		Immediate:  d.immediate,
		Hdrcmplt:   int32(bit(d.hdrcmplt)),
		Direction:  int32(d.direction),
		Feedback:   int32(d.feedback),
		Async:      d.async,
		Rcount:     d.rcount,
		Dcount:     d.dcount,
		Fcount:     d.fcount,
		Sig:        int32(d.sig),
		Slen:       int32(d.slen),
		Hlen:       int32(d.hlen),
		Bufsize:    int32(d.bufsize),
		Pid:        int32(d.pid),
		Locked:     int32(bit(d.locked)),
		Wcount:     d.wcount,
		Wfcount:    d.wfcount,
		Wdcount:    d.wdcount,
		Zcopy:      d.zcopy,
		Bufmode:    int32(d.bufmode),
	}
	copy(x.Ifname[:], ifname)
	return x
}

// ResetStats zeroes the counters of all attached descriptors that read (bpf_zero_counters). It
// leaves the count of failed writes.
func (k *Kernel) ResetStats() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.taps {
		for _, d := range *t.readers.Load() {
			d.mu.Lock()
			d.zeroCounters()
			d.mu.Unlock()
		}
	}
}
