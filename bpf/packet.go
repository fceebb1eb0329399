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
	sec, frac := p.time()
	switch p.stamp {
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

// Info describes a packet. Its fields have the names and types that they have in
// gopacket.CaptureInfo, so that a program can copy them.
type Info struct {
	Timestamp      time.Time // as Packet.Time returns it
	CaptureLength  int       // bytes captured
	Length         int       // bytes on the wire
	InterfaceIndex int       // as net.Interface has it; 0 if not known
}

func (p Packet) info(ifindex int) Info {
	return Info{Timestamp: p.Time(), CaptureLength: p.CapLen(), Length: p.WireLen(),
		InterfaceIndex: ifindex}
}
