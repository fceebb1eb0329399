package sysctl

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/zbuf-go/zbuf"
)

// Listener is one bpf descriptor that is attached to an interface, as net.bpf.stats shows it. The
// brackets name the field of struct xbpf_d.
type Listener struct {
	Interface string // [bd_ifname]
	PID       int    // process that opened it, or made certain later calls on it [bd_pid]
	Process   string // name of that process, up to 19 bytes; empty if the process has gone

	BufferMode      int    // zbuf.BPF_BUFMODE_BUFFER or zbuf.BPF_BUFMODE_ZBUF [bd_bufmode]
	Direction       int    // zbuf.BPF_D_IN, BPF_D_OUT or BPF_D_INOUT [bd_direction]
	Promiscuous     bool   // [bd_promisc]
	Immediate       bool   // [bd_immediate]
	HeaderComplete  bool   // link headers are written as they are [bd_hdrcmplt]
	Feedback        bool   // written packets come back as received ones [bd_feedback]
	Async           bool   // a signal comes with packets [bd_async]
	Signal          int    // which one [bd_sig]
	Locked          bool   // BIOCLOCK [bd_locked]
	BufferSize      int    // usable bytes of each buffer [bd_bufsize]
	Store           int    // bytes in the store buffer [bd_slen]
	Hold            int    // bytes in the hold buffer [bd_hlen]
	Received        uint64 // packets seen, before the filter [bd_rcount]
	Matched         uint64 // packets that the filter let through [bd_fcount]
	Dropped         uint64 // packets that matched and found no room [bd_dcount]
	Written         uint64 // packets written; 0 since 16 [bd_wcount]
	WrittenMatched  uint64 // packets written that the write filter let through [bd_wfcount]
	WriteErrors     uint64 // packets written that the interface refused [bd_wdcount]
	ZeroCopyAppends uint64 // pieces put into lent buffers, two or three for each packet [bd_zcopy]
}

// ZeroCopy reports whether the descriptor is in zero-copy mode.
func (l Listener) ZeroCopy() bool { return l.BufferMode == zbuf.BPF_BUFMODE_ZBUF }

// xbpfdLayouts are the two layouts of struct xbpf_d (sys/net/bpf.h). i386 aligns a 64-bit integer
// to 4 bytes, and every other architecture to 8. So on i386 the fields from bd_rcount on come 4
// bytes earlier. A 64-bit kernel gives its own layout to 32-bit processes, too (bpf_stats_sysctl).
var xbpfdLayouts = []struct{ size, shift int }{
	{168, 0},
	{160, 4},
}

// ParseListeners parses the value of the sysctl net.bpf.stats: an array of struct xbpf_d in host
// order. Each struct begins with its size. ParseListeners leaves Process empty. It does not trust
// b.
//
// Errors:
//   - [ErrType]: a struct is cut, or has an unknown size.
func ParseListeners(b []byte) ([]Listener, error) {
	order := binary.NativeEndian
	var all []Listener
	for at := 0; at < len(b); {
		rest := b[at:]
		if len(rest) < 4 {
			return nil, fmt.Errorf("%w: listener %d: %d bytes are left, too few for a struct xbpf_d",
				ErrType, len(all), len(rest))
		}
		size, shift := order.Uint32(rest), -1
		for _, l := range xbpfdLayouts {
			if size == uint32(l.size) {
				shift = l.shift
			}
		}
		switch {
		case shift < 0:
			return nil, fmt.Errorf("%w: listener %d: struct xbpf_d has %d bytes; 168 and 160 are known",
				ErrType, len(all), size)
		case int(size) > len(rest):
			return nil, fmt.Errorf("%w: listener %d: %d bytes are left of a struct xbpf_d of %d",
				ErrType, len(all), len(rest), size)
		}
		all = append(all, parseListener(rest[:size], shift))
		at += int(size)
	}
	return all, nil
}

// parseListener parses one struct. Its fields behind bd_async come shift bytes earlier than on a
// 64-bit kernel.
func parseListener(x []byte, shift int) Listener {
	word := func(off int) int { return int(int32(binary.NativeEndian.Uint32(x[off:]))) }
	counter := func(off int) uint64 { return binary.NativeEndian.Uint64(x[off-shift:]) }
	late := func(off int) int { return word(off - shift) }
	name, _, _ := bytes.Cut(x[76-shift:][:zbuf.IFNAMSIZ], []byte{0})
	return Listener{
		Interface:       string(name),
		PID:             late(72),
		BufferMode:      late(128),
		Direction:       word(16),
		Promiscuous:     x[4] != 0,
		Immediate:       x[5] != 0,
		HeaderComplete:  word(12) != 0,
		Feedback:        word(20) != 0,
		Async:           word(24) != 0,
		Signal:          late(56),
		Locked:          late(92) != 0,
		BufferSize:      late(68),
		Store:           late(60),
		Hold:            late(64),
		Received:        counter(32),
		Dropped:         counter(40),
		Matched:         counter(48),
		Written:         counter(96),
		WrittenMatched:  counter(104),
		WriteErrors:     counter(112),
		ZeroCopyAppends: counter(120),
	}
}
