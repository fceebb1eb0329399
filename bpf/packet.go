package bpf

import (
	"math/bits"
	"time"
)

// CapLen returns the number of captured bytes. It is the length of [Packet.Data].
func (p Packet) CapLen() int { return int(p.caplen) }

// Timestamp returns the time of capture, in whole seconds and nanoseconds. They count from 1970, or
// from boot with a monotonic [Clock]. Both are 0 with [NoTimestamp].
func (p Packet) Timestamp() (sec int64, nsec int64) {
	return p.stamp.seconds(p.time())
}

// seconds converts the two fields of a record.
func (s stamp) seconds(sec int64, frac uint64) (_, nsec int64) {
	switch s {
	case stampNano:
		nsec = int64(frac)
	case stampMicro:
		nsec = int64(frac) * 1000
	case stampBinary:
		whole, _ := bits.Mul64(frac, uint64(time.Second))
		nsec = int64(whole)
	case stampNanoAsMicro:
		nsec = int64(frac) / 1000 * 1000
	default:
		return 0, 0
	}
	return sec, nsec
}

// Time returns [Packet.Timestamp] as a [time.Time]. With a monotonic [Clock] it is the time since
// boot, counted from 1970. With [NoTimestamp] it is the zero Time.
func (p Packet) Time() time.Time {
	if p.stamp == stampNone {
		return time.Time{}
	}
	return time.Unix(p.Timestamp())
}

// Info describes a packet. Its methods are those of [Packet], but an Info stays valid.
type Info struct {
	// Four words stay in registers on their way to the caller.
	sec     int64
	frac    uint64
	lengths uint64 // bytes captured, and above them bytes on the wire
	origin  uint64 // the stamp, and above it the interface
}

func (p Packet) info(origin uint64) Info {
	sec, frac := p.time()
	return Info{sec, frac, uint64(p.caplen) | uint64(p.WireLen())<<32, origin}
}

// CapLen returns the bytes captured.
func (i Info) CapLen() int { return int(uint32(i.lengths)) }

// WireLen returns the bytes the packet had.
func (i Info) WireLen() int { return int(i.lengths >> 32) }

// InterfaceIndex returns the number of the interface, as net.Interface has it, or 0 if it is not
// known.
func (i Info) InterfaceIndex() int { return int(i.origin >> 32) }

// Timestamp returns when the packet was captured: see [Packet.Timestamp].
func (i Info) Timestamp() (sec, nsec int64) { return stamp(i.origin).seconds(i.sec, i.frac) }

// Time returns when the packet was captured: see [Packet.Time].
func (i Info) Time() time.Time {
	if stamp(i.origin) == stampNone {
		return time.Time{}
	}
	return time.Unix(i.Timestamp())
}
