package fanout

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
)

// The link types that FlowHash knows, as the BIOCGDLT ioctl names them.
const (
	dltNull  = zbuf.DLT_NULL
	dltEther = zbuf.DLT_EN10MB
	dltRaw   = zbuf.DLT_RAW
	dltLoop  = zbuf.DLT_LOOP
	// The numbers of dltRaw on other systems and in capture files.
	dltRawOpenBSD, dltRawFile = 14, 101
	// Raw IP of a known version.
	dltIPv4, dltIPv6 = zbuf.DLT_IPV4, zbuf.DLT_IPV6
)

const (
	etherIPv4  = 0x0800
	etherARP   = 0x0806
	etherVLAN  = 0x8100 // 802.1Q
	etherIPv6  = 0x86dd
	etherQinQ  = 0x88a8 // 802.1ad
	etherQinQ1 = 0x9100 // in use before 802.1ad

	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoAuth     = 51
	protoDest     = 60
	protoSCTP     = 132
)

// FlowHash returns a number that is the same for all packets of a conversation, in both directions.
// It knows these link types:
//   - DLT_EN10MB.
//   - DLT_NULL and DLT_LOOP.
//   - DLT_RAW, by the numbers 12, 14 and 101 that systems and files give it, DLT_IPV4 and DLT_IPV6.
//
// It returns 0 for every other, so that one worker gets all packets. Then give [Run] a Hash.
//
// FlowHash hashes
//
//   - of TCP, UDP and SCTP over IPv4 and IPv6: addresses and ports.
//   - of fragments, also the first, and of everything else over IP: addresses. So a datagram stays
//     together. A flow in which only some datagrams are fragmented has two numbers.
//   - of ARP: nothing. So request and answer stay together.
//   - of everything else over Ethernet: the hardware addresses.
//
// FlowHash skips VLAN tags (802.1Q, 802.1ad and the older 0x9100) and IPv6 extension headers. It
// reads only captured bytes: if a packet was cut before the ports, its addresses count. So choose
// [bpf.Config].SnapLen long enough for the ports of all packets, or of none.
//
// The number is the same in every run. A sender that chooses addresses and ports can choose it. Any
// goroutine may call FlowHash.
func FlowHash(linkType uint32, packet []byte) uint32 {
	switch linkType {
	case dltEther:
		return hashEther(packet)
	case dltNull, dltLoop:
		if len(packet) < 4 {
			return 0
		}
		return hashFamily(packet)
	case dltRaw, dltRawOpenBSD, dltRawFile, dltIPv4, dltIPv6:
		return hashIP(packet)
	}
	return 0
}

// flowHashes sets to[i] to the FlowHash of packets[i]. It hashes the most frequent packets without
// a call: TCP or UDP over IPv4 over Ethernet, without tags, options or fragments.
func flowHashes(to []uint32, linkType uint32, packets []bpf.Packet) {
	const (
		length       = 14 + 20 + 4
		kindVersion  = etherIPv4<<16 | 0x4500
		moreOrOffset = 0x3fff
	)
	to = to[:len(packets)]
	for i, packet := range packets {
		data := packet.Data()
		if linkType == dltEther && len(data) >= length {
			p := (*[length]byte)(data)
			if binary.BigEndian.Uint32(p[12:])&0xffff_ff00 == kindVersion &&
				binary.BigEndian.Uint16(p[20:])&moreOrOffset == 0 &&
				(p[23] == protoTCP || p[23] == protoUDP) {
				src, dst := uint64(binary.BigEndian.Uint32(p[26:])), uint64(binary.BigEndian.Uint32(p[30:]))
				src |= uint64(binary.BigEndian.Uint16(p[34:])) << 32
				dst |= uint64(binary.BigEndian.Uint16(p[36:])) << 32
				to[i] = symmetric(mix(src, 0), mix(dst, 0))
				continue
			}
		}
		to[i] = FlowHash(linkType, data)
	}
}

func hashEther(p []byte) uint32 {
	if len(p) < 14 {
		return 0
	}
	at := 12
	kind := binary.BigEndian.Uint16(p[at:])
	for kind == etherVLAN || kind == etherQinQ || kind == etherQinQ1 {
		at += 4
		if len(p) < at+2 {
			break
		}
		kind = binary.BigEndian.Uint16(p[at:])
	}
	switch kind {
	case etherIPv4:
		return hashIPv4(p[at+2:])
	case etherIPv6:
		return hashIPv6(p[at+2:])
	case etherARP:
		return 0
	}
	// Six bytes each, by loads of eight that overlap.
	dst, src := binary.BigEndian.Uint64(p)>>16, binary.BigEndian.Uint64(p[4:])<<16>>16
	return symmetric(mix(dst, 0), mix(src, 0))
}

// hashFamily reads the address family at the beginning. DLT_LOOP has it in network byte order,
// DLT_NULL in that of the host that captured the packet.
func hashFamily(p []byte) uint32 {
	family := binary.BigEndian.Uint32(p)
	if family > 0xffff {
		family = bits.ReverseBytes32(family)
	}
	switch family {
	case 2: // AF_INET
		return hashIPv4(p[4:])
	case 24, 28, 30: // AF_INET6 of NetBSD and OpenBSD, of FreeBSD, of Darwin
		return hashIPv6(p[4:])
	}
	return 0
}

func hashIP(p []byte) uint32 {
	if len(p) == 0 {
		return 0
	}
	switch p[0] >> 4 {
	case 4:
		return hashIPv4(p)
	case 6:
		return hashIPv6(p)
	}
	return 0
}

func hashIPv4(p []byte) uint32 {
	if len(p) < 20 {
		return 0
	}
	src, dst := uint64(binary.BigEndian.Uint32(p[12:])), uint64(binary.BigEndian.Uint32(p[16:]))
	const moreOrOffset = 0x3fff
	if binary.BigEndian.Uint16(p[6:])&moreOrOffset == 0 {
		s, d := ports(p[9], p, max(int(p[0]&0xf)*4, 20))
		src, dst = src|s<<32, dst|d<<32
	}
	return symmetric(mix(src, 0), mix(dst, 0))
}

func hashIPv6(p []byte) uint32 {
	if len(p) < 40 {
		return 0
	}
	s, d := ports6(p)
	src := mix(binary.BigEndian.Uint64(p[8:]), binary.BigEndian.Uint64(p[16:])^s<<48)
	dst := mix(binary.BigEndian.Uint64(p[24:]), binary.BigEndian.Uint64(p[32:])^d<<48)
	return symmetric(src, dst)
}

// ports6 looks for the ports behind the extension headers.
func ports6(p []byte) (src, dst uint64) {
	next, at := p[6], 40
	for {
		switch next {
		case protoHopByHop, protoRouting, protoDest, protoAuth, protoFragment:
		default:
			return ports(next, p, at)
		}
		if len(p) < at+8 {
			return 0, 0
		}
		length := 8 + 8*int(p[at+1])
		switch next {
		case protoAuth:
			length = 8 + 4*int(p[at+1])
		case protoFragment:
			const moreOrOffset = 0xfff9
			if binary.BigEndian.Uint16(p[at+2:])&moreOrOffset != 0 {
				return 0, 0
			}
			length = 8
		}
		next, at = p[at], at+length
	}
}

// ports returns the ports of the transport header at p[at], or 0 and 0 if there are none.
func ports(proto byte, p []byte, at int) (src, dst uint64) {
	if proto != protoTCP && proto != protoUDP && proto != protoSCTP || len(p) < at+4 {
		return 0, 0
	}
	both := binary.BigEndian.Uint32(p[at:])
	return uint64(both >> 16), uint64(both & 0xffff)
}

// mix turns one end of a conversation into a number. Every bit of it depends on the whole end.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return hi ^ lo
}

// symmetric joins two ends. Their order does not matter.
func symmetric(a, b uint64) uint32 {
	hi, lo := bits.Mul64(a+b, 0xbf58476d1ce4e5b9)
	return uint32(hi ^ lo)
}

// divisor divides by multiplying: https://doi.org/10.1002/spe.2689.
type divisor struct{ n, inverse uint64 }

func newDivisor(n int) divisor { return divisor{uint64(n), math.MaxUint64/uint64(n) + 1} }

// of returns x modulo the divisor.
func (d divisor) of(x uint32) uint32 {
	hi, _ := bits.Mul64(d.inverse*uint64(x), d.n)
	return uint32(hi)
}
