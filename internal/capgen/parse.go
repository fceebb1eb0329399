package capgen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"
)

// Contents is everything that Parse finds in a capture file.
type Contents struct {
	Interfaces []Interface
	Packets    []Packet
	Odd        bool           // the file has a fault in spite of which it was read
	Kinds      map[uint32]int // blocks, by type
	// Exotic is set if the file has something that libraries get wrong: a resolution other than
	// 10^-1 to 10^-19 s, a fraction of more than a second, or certain blocks.
	Exotic bool
}

var errBroken = errors.New("broken")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errBroken}, args...)...)
}

// Longest is the most bytes of a packet, or of a block with a packet, that Parse reads.
const Longest = 128<<20 + 65536

// Parse reads a capture file. Tests compare other readers with it. So it was written from the
// description of the formats alone, and it is simple: the whole file is in memory, and times are
// numbers of any size. With an error, Parse returns everything in front of the broken place.
func Parse(file []byte) (Contents, error) {
	if len(file) < 4 {
		return Contents{}, broken("no magic number")
	}
	if string(file[:4]) == "\n\r\r\n" {
		return parsePcapng(file)
	}
	return parsePcap(file)
}

func parsePcap(file []byte) (c Contents, err error) {
	var o binary.ByteOrder
	tick, head := int64(1000), 16
	switch string(file[:4]) {
	case "\xa1\xb2\xc3\xd4":
		o = binary.BigEndian
	case "\xd4\xc3\xb2\xa1":
		o = binary.LittleEndian
	case "\xa1\xb2\x3c\x4d":
		o, tick = binary.BigEndian, 1
	case "\x4d\x3c\xb2\xa1":
		o, tick = binary.LittleEndian, 1
	case "\xa1\xb2\xcd\x34":
		o, head = binary.BigEndian, 24
	case "\x34\xcd\xb2\xa1":
		o, head = binary.LittleEndian, 24
	default:
		return c, broken("no magic number")
	}
	if len(file) < 24 {
		return c, broken("cut")
	}
	version := [2]uint16{o.Uint16(file[4:]), o.Uint16(file[6:])}
	if version != [2]uint16{543, 0} && (version[0] != 2 || version[1] > 4) {
		return c, broken("version")
	}
	snap := o.Uint32(file[16:])
	most := uint32(Longest)
	if snap != 0 && snap < most {
		most = max(snap, 262144)
	}
	c.Interfaces = []Interface{{LinkType: o.Uint16(file[20:])}}
	if o == binary.BigEndian {
		c.Interfaces[0].LinkType = o.Uint16(file[22:])
	}
	c.Interfaces[0].SnapLen = snap
	for rest := file[24:]; len(rest) > 0; {
		if len(rest) < head {
			return c, broken("cut")
		}
		a, b := o.Uint32(rest[8:]), o.Uint32(rest[12:])
		switch {
		case version[0] == 543, version[1] < 3:
			a, b = b, a
		case version[1] == 3:
			a, b = min(a, b), max(a, b)
		}
		if a > most || uint64(len(rest)-head) < uint64(a) {
			return c, broken("cut, or too long")
		}
		c.Exotic = c.Exotic || int64(o.Uint32(rest[4:]))*tick >= 1e9
		nsec := int64(o.Uint32(rest))*1e9 + int64(o.Uint32(rest[4:]))*tick
		p := Packet{Time: time.Unix(nsec/1e9, nsec%1e9), Data: rest[head : head+int(a)]}
		c.add(p, b)
		rest = rest[head+int(a):]
	}
	return c, nil
}

// add adds a packet. The file says that it had wire bytes.
func (c *Contents) add(p Packet, wire uint32) {
	n := max(int64(wire), int64(len(p.Data)))
	if n != int64(wire) || n > math.MaxInt32 {
		c.Odd = true
	}
	p.WireLen = int(min(n, math.MaxInt32))
	c.Packets = append(c.Packets, p)
}

type timing struct {
	ticks  *big.Int // in a second
	offset *big.Int // s
}

// at returns a time stamp in nanoseconds.
func (t timing) at(stamp uint64) (nsec *big.Int) {
	nsec = new(big.Int).SetUint64(stamp)
	nsec.Mul(nsec, big.NewInt(1e9)).Quo(nsec, t.ticks)
	return nsec.Add(nsec, new(big.Int).Mul(t.offset, big.NewInt(1e9)))
}

func ticks(resolution byte) *big.Int {
	base := int64(10)
	if resolution >= 128 {
		base, resolution = 2, resolution-128
	}
	return new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(resolution)), nil)
}

// latest is the last time that time.Time.UnixNano can return, in whole seconds.
var latest = big.NewInt(9_223_372_036 * 1e9)

func parsePcapng(file []byte) (c Contents, err error) {
	c.Kinds = map[uint32]int{}
	var o binary.ByteOrder
	var section []timing
	for rest := file; len(rest) > 0; {
		if len(rest) < 12 {
			return c, broken("cut")
		}
		if string(rest[:4]) == "\n\r\r\n" {
			switch string(rest[8:12]) {
			case "\x1a\x2b\x3c\x4d":
				o = binary.BigEndian
			case "\x4d\x3c\x2b\x1a":
				o = binary.LittleEndian
			default:
				return c, broken("byte order")
			}
		}
		n := o.Uint32(rest[4:])
		if n < 12 || n%4 != 0 || uint64(n) > uint64(len(rest)) || o.Uint32(rest[n-4:]) != n {
			return c, broken("length")
		}
		kind, body := o.Uint32(rest), rest[8:n-4]
		c.Kinds[kind]++
		rest = rest[n:]
		switch kind {
		case 0x0a0d0d0a:
			if len(body) < 16 {
				return c, broken("short")
			}
			if major, minor := o.Uint16(body[4:]), o.Uint16(body[6:]); major != 1 || minor != 0 &&
				minor != 2 {
				return c, broken("version")
			}
			section = nil
		case 1:
			if len(body) < 8 || n > Longest {
				return c, broken("short")
			}
			i, t := c.parseInterface(o, body)
			c.Interfaces = append(c.Interfaces, i)
			section = append(section, t)
		case 2, 3, 6:
			if n > Longest {
				return c, broken("long")
			}
			if err := c.parsePacket(o, kind, body, section); err != nil {
				return c, err
			}
		case 4, 10:
			c.Exotic = true
		case 5:
			if len(body) < 12 || uint64(o.Uint32(body)) >= uint64(len(section)) {
				c.Odd = true
			}
		}
	}
	return c, nil
}

func (c *Contents) parseInterface(o binary.ByteOrder, body []byte) (i Interface, t timing) {
	i = Interface{LinkType: o.Uint16(body), SnapLen: o.Uint32(body[4:])}
	t = timing{ticks(6), new(big.Int)}
	for _, x := range c.parseOptions(o, body[8:]) {
		v := string(x.value)
		switch x.code {
		case 1:
			switch {
			case i.Comment == "":
				i.Comment = v
			case len(i.Comment)+len(v) < 65535:
				i.Comment += "\n" + v
			}
		case 2:
			i.Name = v
		case 3:
			i.Description = v
		case 9:
			if len(v) == 1 {
				t.ticks = ticks(v[0])
				c.Exotic = c.Exotic || v[0] == 0 || v[0] > 19
			} else {
				c.Odd = true
			}
		case 11:
			if v == "" {
				c.Odd = true
			} else if v[0] == 0 {
				i.Filter = v[1:]
			}
		case 12:
			i.OS = v
		case 14:
			if len(v) == 8 {
				t.offset = big.NewInt(int64(o.Uint64(x.value)))
			} else {
				c.Odd = true
			}
		}
	}
	return i, t
}

func (c *Contents) parsePacket(o binary.ByteOrder, kind uint32, body []byte,
	section []timing) error {
	fixed := 20
	if kind == 3 {
		fixed = 4
	}
	if len(body) < fixed {
		return broken("short")
	}
	var id, captured, wire uint32
	var stamp uint64
	if kind == 3 {
		captured = o.Uint32(body)
		wire = captured
	} else {
		id, captured, wire = o.Uint32(body), o.Uint32(body[12:]), o.Uint32(body[16:])
		stamp = uint64(o.Uint32(body[4:]))<<32 + uint64(o.Uint32(body[8:]))
	}
	if kind == 2 {
		id = uint32(o.Uint16(body))
	}
	if uint64(id) >= uint64(len(section)) {
		return broken("interface")
	}
	p := Packet{Interface: len(c.Interfaces) - len(section) + int(id), Time: time.Unix(0, 0)}
	if snap := c.Interfaces[p.Interface].SnapLen; kind == 3 && snap != 0 && captured > snap {
		captured = snap
	}
	if kind != 3 {
		nsec := section[id].at(stamp)
		if nsec.Sign() < 0 || nsec.Cmp(latest) >= 0 {
			return broken("time")
		}
		p.Time = time.Unix(0, nsec.Int64())
	}
	body = body[fixed:]
	if uint64(captured) > uint64(len(body)) {
		return broken("captured")
	}
	p.Data = body[:captured]
	if kind != 3 {
		for _, x := range c.parseOptions(o, body[(int(captured)+3)/4*4:]) {
			switch {
			case x.code == 1:
				p.Comments = append(p.Comments, string(x.value))
			case x.code == 2 && len(x.value) == 4:
				p.Out = o.Uint32(x.value)%4 == 2
			case x.code == 2:
				c.Odd = true
			}
		}
	}
	c.add(p, wire)
	return nil
}

type tlv struct {
	code  uint16
	value []byte
}

// parseOptions returns the options up to the last one, or up to one that is longer than b.
func (c *Contents) parseOptions(o binary.ByteOrder, b []byte) (all []tlv) {
	for len(b) > 0 {
		code, n := o.Uint16(b), int(o.Uint16(b[2:]))
		b = b[4:]
		if code == 0 {
			break
		}
		if n > len(b) {
			c.Odd = true
			break
		}
		all = append(all, tlv{code, b[:n]})
		b = b[(n+3)/4*4:]
	}
	return all
}
