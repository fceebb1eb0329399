package filter

import (
	"encoding/binary"
	"math/rand/v2"
)

// Values that expressions and packets of the tests share, so that they meet.
var (
	testHosts4 = []string{"10.0.0.1", "10.0.0.2", "192.168.1.7", "1.2.3.4", "224.0.0.5",
		"255.255.255.255", "0.0.0.0"}
	testHosts6 = []string{"2001:db8::1", "fe80::1", "ff02::1", "::1", "2001:db8:0:1::2"}
	testMACs   = []string{"00:11:22:33:44:55", "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff",
		"01:00:5e:00:00:05"}
	testPorts = []int{80, 443, 53, 22, 1234, 6000, 6005, 0, 65535}
)

// generator makes packets of every protocol that the language knows, mostly well-formed.
type generator struct {
	*rand.Rand
	inet6  uint32
	tunnel bool // every packet that can be is UDP with a packet inside
}

func (g *generator) one(list ...int) int { return list[g.IntN(len(list))] }

func (g *generator) host4() []byte {
	a := [][]byte{{10, 0, 0, 1}, {10, 0, 0, 2}, {192, 168, 1, 7}, {1, 2, 3, 4}, {224, 0, 0, 5}, {255,
		255, 255, 255},
		{0, 0, 0, 0}, {10, byte(g.Uint32()), byte(g.Uint32()), byte(g.Uint32())}}
	return a[g.IntN(len(a))]
}

func (g *generator) host6() []byte {
	a := make([]byte, 16)
	switch g.IntN(6) {
	case 0:
		copy(a, []byte{0x20, 1, 0xd, 0xb8})
		a[15] = 1
	case 1:
		a[0], a[1], a[15] = 0xfe, 0x80, 1
	case 2:
		a[0], a[1], a[15] = 0xff, 2, 1
	case 3:
		a[15] = 1
	case 4:
		copy(a, []byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 1})
		a[15] = 2
	default:
		for i := range a {
			a[i] = byte(g.Uint32())
		}
	}
	return a
}

func (g *generator) mac() []byte {
	a := [][]byte{{0, 0x11, 0x22, 0x33, 0x44, 0x55}, {2, 0, 0, 0, 0, 1}, {255, 255, 255, 255, 255,
		255},
		{1, 0, 0x5e, 0, 0, 5}}
	return a[g.IntN(len(a))]
}

func (g *generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func be16(v int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func (g *generator) port() int {
	if g.IntN(6) == 0 {
		return g.IntN(65536)
	}
	return testPorts[g.IntN(len(testPorts))]
}

// transport returns a transport header and payload for a protocol number.
func (g *generator) transport(proto, depth int) []byte {
	switch proto {
	case 6:
		return join(be16(g.port()), be16(g.port()), g.bytes(8), []byte{byte(g.one(5, 6, 8) << 4),
			byte(g.IntN(256))},
			g.bytes(18))
	case 17:
		if depth > 0 && (g.tunnel || g.IntN(2) == 0) {
			vni := join(be32(uint32(g.one(5, 6, 0xffffff)))[1:], []byte{byte(g.IntN(2))})
			if g.IntN(2) == 0 {
				return join(be16(g.port()), be16(4789), g.bytes(4), []byte{byte(g.one(8, 8, 0)), 0, 0, 0}, vni,
					g.ethernet(depth-1))
			}
			opts := g.IntN(3)
			head := join(be16(g.port()), be16(6081), g.bytes(4), []byte{byte(g.one(0, 0, 0, 0x40) | opts),
				0})
			switch g.IntN(3) {
			case 0:
				return join(head, be16(0x800), vni, g.bytes(4*opts), g.ip4(depth-1))
			case 1:
				return join(head, be16(0x86dd), vni, g.bytes(4*opts), g.ip6(depth-1))
			}
			return join(head, be16(0x6558), vni, g.bytes(4*opts), g.ethernet(depth-1))
		}
		return join(be16(g.port()), be16(g.port()), g.bytes(12))
	case 132:
		return join(be16(g.port()), be16(g.port()), g.bytes(20))
	}
	return join([]byte{byte(g.one(0, 8, 3, 128, 129, 135)), byte(g.IntN(4))}, g.bytes(20))
}

func (g *generator) protocol() int {
	if g.tunnel {
		return 17
	}
	return g.one(6, 6, 17, 17, 132, 1, 2, 9, 50, 51, 58, 103, 112, 44, g.IntN(256))
}

func (g *generator) ip4(depth int) []byte {
	proto := g.protocol()
	options := g.one(0, 0, 0, 1, 3)
	frag := g.one(0, 0, 0, 0x2000, 0x4000, 0x1234, 1)
	body := g.transport(proto, depth)
	return join([]byte{byte(0x45 + options), byte(g.IntN(256))}, be16(20+4*options+len(body)),
		g.bytes(2), be16(frag),
		[]byte{byte(g.IntN(256)), byte(proto)}, g.bytes(2), g.host4(), g.host4(), g.bytes(4*options),
		body)
}

func (g *generator) ip6(depth int) []byte {
	proto := g.protocol()
	body := g.transport(proto, depth)
	if g.IntN(4) == 0 {
		body = join([]byte{byte(proto), 0}, g.bytes(6), body)
		proto = 44
	}
	return join([]byte{0x60 | byte(g.IntN(16))}, g.bytes(3), be16(len(body)), []byte{byte(proto), 64},
		g.host6(), g.host6(), body)
}

func (g *generator) arp() []byte {
	return join(be16(1), be16(0x800), []byte{6, 4}, be16(g.one(1, 2)), g.mac(), g.host4(), g.mac(),
		g.host4(), g.bytes(4))
}

// llc returns an LLC header and what it announces.
func (g *generator) llc(depth int) []byte {
	switch g.IntN(7) {
	case 0:
		return join([]byte{0xaa, 0xaa, 3, 0, 0, 0}, g.typed(depth))
	case 1:
		return join([]byte{0xaa, 0xaa, 3, 8, 0, 7}, be16(0x809b), g.bytes(20))
	case 2:
		return join([]byte{0xfe, 0xfe, 3, byte(g.one(0x81, 0x82, 0x83, 0x83)), 27, 1, 0,
			byte(g.one(0xf, 0x10, 0x11, 0x12, 0x14, 0x18, 0x19, 0x1a, 0x1b, 0x20))}, g.bytes(20))
	case 3:
		return join([]byte{byte(g.one(0x42, 0xe0, 0xf0)), byte(g.one(0x42, 0xe0, 0xf0)), 3}, g.bytes(30))
	case 4:
		return join([]byte{0xff, 0xff}, g.bytes(30))
	case 5:
		return join([]byte{0xf0, 0xf0, byte(g.IntN(256))}, g.bytes(30))
	}
	return join([]byte{byte(g.IntN(256)), byte(g.IntN(256)), byte(g.one(1, 5, 9, 3, 0x63, 0x43, 0x6f,
		0xe3, 0xaf, 0x87, g.IntN(256)))},
		g.bytes(30))
}

// typed returns an Ethernet type and what it announces.
func (g *generator) typed(depth int) []byte {
	if depth <= 0 {
		return join(be16(0x800), g.ip4(0))
	}
	n := g.IntN(15)
	if g.tunnel {
		n = g.IntN(6)
	}
	switch n {
	case 0, 1, 2:
		return join(be16(0x800), g.ip4(depth-1))
	case 3, 4, 5:
		return join(be16(0x86dd), g.ip6(depth-1))
	case 6:
		return join(be16(g.one(0x806, 0x8035)), g.arp())
	case 7:
		return join(be16(g.one(0x8100, 0x88a8, 0x9100)), be16(g.one(5, 6, 0x2005, 100, 0)),
			g.typed(depth-1))
	case 8:
		labels := be32(uint32(g.one(5, 6, 100000))<<12 | 0x100 | 64)
		if g.IntN(2) == 0 {
			labels = join(be32(uint32(g.one(5, 6, 100000))<<12|64), labels)
		}
		inner := g.ip4(depth - 1)
		if g.IntN(2) == 0 {
			inner = g.ip6(depth - 1)
		}
		return join(be16(0x8847), labels, inner)
	case 9:
		return join(be16(0x8863), g.bytes(30))
	case 10:
		return join(be16(0x8864), []byte{0x11, 0}, be16(g.one(5, 6, 0x27)), g.bytes(2), g.ppp(depth-1))
	case 11:
		return join(be16(g.one(0x809b, 0x80f3, 0x8137)), g.bytes(30))
	case 12:
		flags := g.one(2, 6, 0x81)
		if flags == 0x81 {
			return join(be16(0x6003), g.bytes(2), []byte{0x81, byte(g.one(2, 6))}, []byte{0, 0x05, 0x28,
				0x05, 0x28}, g.bytes(30))
		}
		return join(be16(0x6003), g.bytes(2), []byte{byte(flags)}, []byte{0x05, 0x28, 0x05, 0x28},
			g.bytes(30))
	case 13:
		return join(be16(g.one(0x6001, 0x6002, 0x6004, 0x6007, 0x9000)), g.bytes(30))
	}
	if depth > 0 {
		body := g.llc(depth - 1)
		return join(be16(len(body)&0x1ff), body)
	}
	return g.bytes(20)
}

func (g *generator) ppp(depth int) []byte {
	switch g.IntN(5) {
	case 0, 1:
		return join(be16(0x21), g.ip4(depth))
	case 2:
		return join(be16(0x57), g.ip6(depth))
	case 3:
		return join(be16(0x281), be32(uint32(g.one(5, 6))<<12|0x100), g.ip4(depth))
	}
	return join(be16(g.one(0x23, 0x27, 0x29, 0x2b, 0x31, 0x806, 0x8035, 0xc021, 0x25)), g.bytes(40))
}

func (g *generator) ethernet(depth int) []byte { return join(g.mac(), g.mac(), g.typed(depth)) }

func (g *generator) wlan(depth int) []byte {
	fc := byte(g.one(0, 4, 8, 8, 8, 8)) | byte(g.one(0, 0x10, 0x40, 0x80, 0x80, 0xb0, 0xc0, 0xd0))
	ds := byte(g.one(0, 1, 2, 3))
	b := join([]byte{fc, ds, 0, 0}, g.mac(), g.mac(), g.mac(), g.bytes(2))
	if fc&0xc == 8 && fc&0x80 != 0 {
		b = append(b, g.bytes(2)...)
	}
	if ds == 3 && g.IntN(2) == 0 {
		b = append(b, g.mac()...)
	}
	return join(b, g.llc(depth))
}

func (g *generator) radiotap(depth int) []byte {
	present := uint32(g.one(0, 2, 3, 1, 3))
	if g.IntN(8) == 0 {
		present |= 1 << 31
	}
	n := g.one(8, 16, 24, 25, 26)
	b := join([]byte{0, 0, byte(n), 0}, binary.LittleEndian.AppendUint32(nil, present), g.bytes(n-8))
	for _, at := range []int{8, 16} {
		if at < n {
			b[at] = byte(g.one(0, 0x20, 0x30))
		}
	}
	w := g.wlan(depth)
	if present&2 != 0 && g.IntN(2) == 0 && len(w) > 26 && w[0]&0x8c == 0x88 {
		w = join(w[:26], []byte{0, 0}, w[26:])
	}
	return join(b, w)
}

// packet returns a packet of a link type.
func (g *generator) packet(dlt uint32) []byte {
	family := func(order binary.AppendByteOrder) []byte {
		if g.IntN(2) == 0 {
			return order.AppendUint32(nil, 2)
		}
		return order.AppendUint32(nil, g.inet6)
	}
	inner := func(four bool) []byte {
		if four {
			return g.ip4(2)
		}
		return g.ip6(2)
	}
	switch dlt {
	case DLTEthernet:
		return g.ethernet(3)
	case DLTNull:
		f := family(binary.LittleEndian)
		return join(f, inner(f[0] == 2))
	case DLTLoop:
		f := family(binary.BigEndian)
		return join(f, inner(f[3] == 2))
	case DLTEnc:
		f := family(binary.LittleEndian)
		return join(f, g.bytes(8), inner(f[0] == 2))
	case DLTRaw, DLTIPv4, DLTIPv6:
		return inner(g.IntN(2) == 0)
	case DLTPPP, DLTPPPSerial:
		return join([]byte{0xff, 3}, g.ppp(2))
	case DLTPPPEther:
		return join(g.bytes(6), g.ppp(2))
	case DLTLinuxSLL:
		if g.IntN(4) == 0 {
			return join(be16(g.IntN(5)), g.bytes(12), be16(4), g.llc(2))
		}
		return join(be16(g.IntN(5)), g.bytes(12), g.typed(2))
	case DLTLinuxSLL2:
		t := g.typed(2)
		return join(t[:2], g.bytes(8), []byte{byte(g.IntN(5))}, g.bytes(9), t[2:])
	case DLTPFLog:
		four := g.IntN(2) == 0
		af := byte(2)
		if !four {
			af = byte(g.inet6)
		}
		n := g.one(61, 64, 69, 72)
		name := func(s string) []byte { return append([]byte(s), make([]byte, 16-len(s))...) }
		names := []string{"em0", "vlan100", "lo0", "abcdefg", ""}
		h := join([]byte{byte(n), af, byte(g.IntN(12)), byte(g.IntN(16))}, name(names[g.IntN(5)]),
			name(names[g.IntN(5)]),
			be32(uint32(g.IntN(8))), be32(uint32(g.IntN(8))), g.bytes(16), []byte{byte(g.IntN(3))},
			g.bytes(11))
		return join(h[:(n+3)&^3], inner(four))
	case DLTWLAN:
		return g.wlan(2)
	case DLTWLANRadio:
		return g.radiotap(2)
	}
	return g.bytes(60)
}

// sample returns a packet that may be cut short or damaged.
func (g *generator) sample(dlt uint32) sample {
	b := g.packet(dlt)
	switch g.IntN(10) {
	case 0:
		return sample{b[:g.IntN(len(b)+1)], len(b)}
	case 1:
		for range 1 + g.IntN(4) {
			b[g.IntN(len(b))] = byte(g.Uint32())
		}
	case 2:
		return sample{b, len(b) + g.IntN(2000)}
	}
	return sample{b, len(b)}
}
