package capgen

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"time"
)

// RandomFile is a file, its contents, and where the record of each packet ends.
type RandomFile struct {
	Contents
	Bytes []byte
	Ends  []int // of packets
	Cuts  []int // where the file can be cut and is a whole file with fewer packets
}

// Random makes a small capture file with everything that the two formats have: both byte orders,
// every resolution, all versions, several sections, all types of blocks, options, and faults that
// a reader must accept. The same seed gives the same file.
func Random(seed uint64) *RandomFile {
	g := &random{Rand: rand.New(rand.NewPCG(seed, 15))}
	if g.IntN(4) == 0 {
		g.pcap()
	} else {
		g.Kinds = map[uint32]int{}
		for range 1 + g.IntN(3) {
			g.section()
		}
	}
	return &g.RandomFile
}

type random struct {
	*rand.Rand
	RandomFile
	o       order
	timings []timing // of the section's interfaces
}

func (g *random) order() {
	g.o = binary.LittleEndian
	if g.IntN(2) == 0 {
		g.o = binary.BigEndian
	}
}

// length returns a number of bytes. It is small in most cases.
func (g *random) length() int {
	return g.IntN([]int{1, 5, 20, 100, 3000}[g.IntN(5)])
}

func (g *random) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g *random) text() string { return strings.ToValidUTF8(string(g.bytes(g.IntN(12))), "?") }

// wire returns the length on the wire of a packet of which n bytes were captured.
func (g *random) wire(n int) uint32 {
	switch g.IntN(12) {
	case 0:
		return uint32(g.IntN(n + 1)) // less than was captured: some programs write that
	case 1:
		return g.Uint32()
	case 2, 3:
		return uint32(n + g.IntN(2000))
	}
	return uint32(n)
}

// done notes that everything written so far is a whole file.
func (g *random) done() { g.Cuts = append(g.Cuts, len(g.Bytes)) }

// put adds a packet. Its record ends here.
func (g *random) put(p Packet, wire uint32) {
	g.add(p, wire)
	g.Ends = append(g.Ends, len(g.Bytes))
	g.done()
}

func (g *random) pcap() {
	g.order()
	magic, tick, head := uint32(0xa1b2c3d4), int64(1000), 0
	switch g.IntN(4) {
	case 0:
		magic, tick = 0xa1b23c4d, 1
	case 1:
		magic, head = 0xa1b2cd34, 8
	}
	major, minor := uint16(2), uint16([]int{0, 1, 2, 3, 4, 4, 4, 4, 4}[g.IntN(9)])
	if g.IntN(20) == 0 {
		major, minor = 543, 0
	}
	i := Interface{LinkType: uint16(g.Uint32())}
	i.SnapLen = []uint32{0, 96, 65535, 262144, math.MaxUint32}[g.IntN(5)]
	b := g.o.AppendUint32(nil, magic)
	b = g.o.AppendUint16(b, major)
	b = g.o.AppendUint16(b, minor)
	b = g.o.AppendUint32(b, g.Uint32()) // time zone
	b = g.o.AppendUint32(b, g.Uint32()) // accuracy
	b = g.o.AppendUint32(b, i.SnapLen)
	g.Bytes = g.o.AppendUint32(b, uint32(i.LinkType)|g.Uint32()&0xfc000000) // length of the checksum
	g.Interfaces = []Interface{i}
	g.done()
	for range g.IntN(20) {
		p := Packet{Data: g.bytes(g.length())}
		sec, fraction := g.Uint32(), g.Uint32N(uint32(1e9/tick))
		if g.IntN(10) == 0 {
			fraction = g.Uint32() // more than a second
		}
		p.Time = time.Unix(int64(sec), int64(fraction)*tick)
		captured, wire := uint32(len(p.Data)), g.wire(len(p.Data))
		if major == 2 && minor == 3 {
			wire = max(wire, captured) // otherwise a reader could not tell the two apart
		}
		first, second := captured, wire
		if major == 543 || minor < 3 || minor == 3 && g.IntN(2) == 0 {
			first, second = wire, captured
		}
		b := g.o.AppendUint32(g.Bytes, sec)
		b = g.o.AppendUint32(b, fraction)
		b = g.o.AppendUint32(b, first)
		b = g.o.AppendUint32(b, second)
		b = append(b, g.bytes(head)...)
		g.Bytes = append(b, p.Data...)
		g.put(p, wire)
	}
}

// block adds a pcapng block to the file.
func (g *random) block(kind uint32, body []byte) {
	body = pad(body)
	b := g.o.AppendUint32(g.Bytes, kind)
	b = g.o.AppendUint32(b, uint32(12+len(body)))
	b = append(b, body...)
	g.Bytes = g.o.AppendUint32(b, uint32(12+len(body)))
	g.Kinds[kind]++
}

// optionsEnd writes the end of options, or leaves it out, as the format allows, or writes more
// behind the end.
func (g *random) optionsEnd(b []byte) []byte {
	switch g.IntN(4) {
	case 0:
		b = option(b, g.o, 0, nil)
	case 1:
		b = append(option(b, g.o, 0, nil), g.bytes(4*g.IntN(5))...)
	}
	return b
}

// odd adds options that have no meaning here, or none for a reader, or that are broken.
func (g *random) odd(b []byte) []byte {
	for g.IntN(3) == 0 {
		switch g.IntN(3) {
		case 0:
			b = option(b, g.o, uint16(100+g.IntN(60000)), g.bytes(g.length()))
		case 1:
			b = option(b, g.o, []uint16{2988, 2989, 19372, 19373}[g.IntN(4)], g.bytes(4+g.IntN(20)))
		case 2:
			b = option(b, g.o, uint16(4+g.IntN(5)), g.bytes(g.IntN(10)))
		}
	}
	return b
}

func (g *random) section() {
	g.order()
	g.timings = nil
	b := g.o.AppendUint32(nil, 0x1a2b3c4d)
	b = g.o.AppendUint16(b, 1)
	b = g.o.AppendUint16(b, uint16(g.IntN(2)*2))
	// A reader must not rely on this length.
	b = g.o.AppendUint64(b, []uint64{math.MaxUint64, g.Uint64()}[g.IntN(2)])
	for _, code := range []uint16{1, 2, 3, 4} {
		if g.IntN(2) == 0 {
			b = option(b, g.o, code, []byte(g.text()))
		}
	}
	g.block(0x0a0d0d0a, g.optionsEnd(g.odd(b)))
	g.done()
	for range g.IntN(30) {
		switch n := g.IntN(12); {
		case n == 0 || len(g.timings) == 0:
			g.iface()
		case n < 6:
			g.enhanced()
		case n == 6:
			g.obsolete()
		case n == 7:
			g.simple()
		case n == 8:
			g.statistics()
		case n == 9: // name resolution
			b := g.o.AppendUint16(nil, 1)
			b = g.o.AppendUint16(b, 10)
			b = pad(append(b, 192, 0, 2, 1, 'h', 'o', 's', 't', 's', 0))
			g.block(4, append(b, 0, 0, 0, 0))
		default: // secrets, custom blocks and unknown blocks
			g.block([]uint32{0xa, 0xbad, 0x40000bad, 7, 8, 0x80000000 + g.Uint32N(1000)}[g.IntN(6)],
				g.bytes(4*g.IntN(30)))
		}
		g.done()
	}
}

func (g *random) iface() {
	i := Interface{LinkType: uint16(g.IntN(300))}
	i.SnapLen = []uint32{0, 0, 1, 64, 262144, math.MaxUint32}[g.IntN(6)]
	t := timing{ticks(6), new(big.Int)}
	b := g.o.AppendUint16(nil, i.LinkType)
	b = g.o.AppendUint16(b, uint16(g.Uint32())) // reserved
	b = g.o.AppendUint32(b, i.SnapLen)
	for _, x := range []struct {
		code uint16
		to   *string
	}{{2, &i.Name}, {3, &i.Description}, {1, &i.Comment}, {12, &i.OS}} {
		if g.IntN(2) == 0 {
			*x.to = g.text()
			b = option(b, g.o, x.code, []byte(*x.to))
		}
	}
	switch g.IntN(3) {
	case 0:
		i.Filter = g.text()
		b = option(b, g.o, 11, append([]byte{0}, i.Filter...))
	case 1:
		b = option(b, g.o, 11, append([]byte{1}, g.bytes(8)...)) // a program
	}
	if g.IntN(4) > 0 {
		resolution := byte(g.Uint32())
		switch g.IntN(3) {
		case 0:
			resolution = byte(g.IntN(10))
		case 1:
			resolution = 128 + byte(g.IntN(33))
		}
		t.ticks = ticks(resolution)
		b = option(b, g.o, 9, []byte{resolution})
	}
	if g.IntN(4) == 0 {
		t.offset = big.NewInt(int64(g.Uint64() >> 31))
		if g.IntN(2) == 0 {
			t.offset.Neg(t.offset)
		}
		b = option(b, g.o, 14, g.o.AppendUint64(nil, uint64(t.offset.Int64())))
	}
	b = g.odd(b)
	switch g.IntN(20) {
	case 0:
		g.Odd = true
		b = option(b, g.o, []uint16{9, 14}[g.IntN(2)], g.bytes(2+g.IntN(5)))
	case 1: // longer than the block
		g.Odd = true
		b = g.o.AppendUint16(b, uint16(1+g.IntN(20)))
		b = g.o.AppendUint16(b, uint16(100+g.IntN(60000)))
		b = append(b, g.bytes(4*g.IntN(20))...)
	default:
		b = g.optionsEnd(b)
	}
	g.block(1, b)
	g.Interfaces = append(g.Interfaces, i)
	g.timings = append(g.timings, t)
}

// stamp returns a time stamp for an interface, in the years that Time can hold. There may be none.
func (g *random) stamp(t timing) (stamp uint64, at time.Time, ok bool) {
	for range 20 {
		stamp = g.Uint64() >> g.IntN(64)
		if nsec := t.at(stamp); nsec.Sign() >= 0 && nsec.Cmp(latest) < 0 {
			return stamp, time.Unix(0, nsec.Int64()), true
		}
	}
	return 0, at, false
}

// packet returns a packet of an interface of the section, without the end of its data.
func (g *random) packet() (p Packet, id int, stamp uint64, ok bool) {
	id = g.IntN(len(g.timings))
	p.Interface = len(g.Interfaces) - len(g.timings) + id
	stamp, p.Time, ok = g.stamp(g.timings[id])
	p.Data = g.bytes(g.length())
	return p, id, stamp, ok
}

func (g *random) enhanced() {
	if p, id, stamp, ok := g.packet(); ok {
		g.withOptions(6, p, g.o.AppendUint32(nil, uint32(id)), stamp)
	}
}

func (g *random) obsolete() {
	if p, id, stamp, ok := g.packet(); ok {
		b := g.o.AppendUint16(nil, uint16(id))
		g.withOptions(2, p, g.o.AppendUint16(b, uint16(g.Uint32())), stamp) // drops
	}
}

func (g *random) withOptions(kind uint32, p Packet, b []byte, stamp uint64) {
	wire := g.wire(len(p.Data))
	b = g.o.AppendUint32(b, uint32(stamp>>32))
	b = g.o.AppendUint32(b, uint32(stamp))
	b = g.o.AppendUint32(b, uint32(len(p.Data)))
	b = g.o.AppendUint32(b, wire)
	b = pad(append(b, p.Data...))
	if g.IntN(2) == 0 {
		flags := g.Uint32()
		p.Out = flags&3 == 2
		b = option(b, g.o, 2, g.o.AppendUint32(nil, flags))
	}
	for g.IntN(4) == 0 {
		p.Comments = append(p.Comments, g.text())
		b = option(b, g.o, 1, []byte(p.Comments[len(p.Comments)-1]))
	}
	b = g.odd(b)
	if g.IntN(20) == 0 {
		g.Odd = true
		b = option(b, g.o, 2, g.bytes(1+g.IntN(3)))
	} else {
		b = g.optionsEnd(b)
	}
	g.block(kind, b)
	g.put(p, wire)
}

func (g *random) simple() {
	p := Packet{Interface: len(g.Interfaces) - len(g.timings), Time: time.Unix(0, 0)}
	p.Data = g.bytes(g.length())
	wire := uint32(len(p.Data))
	if snap := g.Interfaces[p.Interface].SnapLen; snap > 0 && int64(snap) < int64(len(p.Data)) {
		p.Data = p.Data[:snap]
	}
	g.block(3, append(g.o.AppendUint32(nil, wire), p.Data...))
	g.put(p, wire)
}

func (g *random) statistics() {
	id := uint32(g.IntN(len(g.timings)))
	if g.IntN(3) == 0 {
		g.Odd = true
		id = uint32(len(g.timings)) + g.Uint32()>>1
	}
	b := g.o.AppendUint32(nil, id)
	b = append(b, g.bytes(8)...)
	for code := range uint16(6) {
		if g.IntN(2) == 0 {
			b = option(b, g.o, 2+code, g.bytes(8))
		}
	}
	g.block(5, g.optionsEnd(g.odd(b)))
}
