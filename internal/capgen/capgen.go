// Package capgen makes capture files of known contents, byte by byte. Tests give them to readers of
// capture files.
package capgen

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"time"
)

// Format says in which form a file is written.
type Format struct {
	Pcapng    bool
	Nano      bool // time stamps in ns; else µs
	BigEndian bool
}

func (f Format) String() string {
	s := "pcap"
	if f.Pcapng {
		s = "pcapng"
	}
	if f.Nano {
		s += "-ns"
	} else {
		s += "-us"
	}
	if f.BigEndian {
		s += "-be"
	}
	return s
}

// Packet is one packet of a file.
type Packet struct {
	Interface int
	Time      time.Time
	Data      []byte
	WireLen   int

	// Only random files have the fields below.
	Out      bool
	Comments []string
}

// Interface is one interface of a pcapng file.
type Interface struct {
	Name     string
	LinkType uint16
	SnapLen  uint32

	// Only random files have the fields below.
	Description, Comment, Filter, OS string
}

// Interfaces are the interfaces of the files that Write makes. A pcap file has only the first one,
// without its name.
var Interfaces = []Interface{
	{Name: "em0", LinkType: 1, SnapLen: 262144},
	{Name: "tun0", LinkType: 101, SnapLen: 1500}, // raw IP
	{Name: "quiet0", LinkType: 1, SnapLen: 96},   // no packets
	{Name: "lo0", LinkType: 0, SnapLen: 0},       // BSD loopback
}

// Packets makes n packets of UDP over IPv4. They have all lengths from 0 to 9000 bytes, and some
// are cut. If several is set, they are on all interfaces but the quiet one. Their time stamps are
// not in order.
func Packets(n int, f Format, several bool, seed uint64) []Packet {
	rnd := rand.New(rand.NewPCG(seed, 1))
	t := time.Unix(1_700_000_000, 0)
	tick := time.Microsecond
	if f.Nano {
		tick = time.Nanosecond
	}
	out := make([]Packet, n)
	for i := range out {
		p := &out[i]
		t = t.Add(time.Duration(rnd.IntN(200_000)) / tick * tick)
		p.Time = t
		if rnd.IntN(50) == 0 { // processors do not agree on the time
			p.Time = t.Add(-time.Duration(rnd.IntN(1_000_000)) / tick * tick)
		}
		if several {
			p.Interface = []int{0, 0, 0, 1, 3}[rnd.IntN(5)]
		}
		size := []int{46, 46, 46, 200, 576, 1472, 1472, 8972}[rnd.IntN(8)]
		p.Data = packet(rnd, uint32(i), rnd.IntN(size+1), Interfaces[p.Interface].LinkType)
		p.WireLen = len(p.Data)
		switch rnd.IntN(100) {
		case 0:
			p.Data = p.Data[:0]
		case 1, 2, 3:
			p.Data = p.Data[:rnd.IntN(len(p.Data))]
		}
		if snap := int(Interfaces[p.Interface].SnapLen); snap > 0 {
			p.Data = p.Data[:min(len(p.Data), snap)]
		}
	}
	return out
}

// packet returns a datagram with a number in it and random contents.
func packet(rnd *rand.Rand, number uint32, payload int, linkType uint16) []byte {
	var b []byte
	switch linkType {
	case 1:
		b = append(b, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00"...)
	case 0:
		b = binary.LittleEndian.AppendUint32(b, 2) // AF_INET
	}
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}
	binary.BigEndian.PutUint16(ip[2:], uint16(28+payload))
	binary.BigEndian.PutUint16(ip[4:], uint16(number))
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, 9)
	b = binary.BigEndian.AppendUint16(b, uint16(8+payload))
	b = append(b, 0, 0) // no checksum
	end := len(b) + payload
	for len(b) < end {
		b = binary.LittleEndian.AppendUint64(b, rnd.Uint64())
	}
	return b[:end:end]
}

type order interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// Write writes packets as a file.
func Write(w io.Writer, f Format, packets []Packet) error {
	bw := bufio.NewWriter(w)
	var o order = binary.LittleEndian
	if f.BigEndian {
		o = binary.BigEndian
	}
	if f.Pcapng {
		writePcapng(bw, f, o, packets)
	} else {
		writePcap(bw, f, o, packets)
	}
	return bw.Flush()
}

func writePcap(w *bufio.Writer, f Format, o order, packets []Packet) {
	magic, tick := uint32(0xa1b2c3d4), 1000
	if f.Nano {
		magic, tick = 0xa1b23c4d, 1
	}
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(b, 2)
	b = o.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = o.AppendUint32(b, Interfaces[0].SnapLen)
	b = o.AppendUint32(b, uint32(Interfaces[0].LinkType))
	w.Write(b)
	for _, p := range packets {
		b = o.AppendUint32(b[:0], uint32(p.Time.Unix()))
		b = o.AppendUint32(b, uint32(p.Time.Nanosecond()/tick))
		b = o.AppendUint32(b, uint32(len(p.Data)))
		b = o.AppendUint32(b, uint32(p.WireLen))
		w.Write(append(b, p.Data...))
	}
}

func writePcapng(w *bufio.Writer, f Format, o order, packets []Packet) {
	b := o.AppendUint32(nil, 0x1a2b3c4d)
	b = o.AppendUint16(b, 1)
	b = o.AppendUint16(b, 0)
	b = o.AppendUint64(b, 1<<64-1)
	block(w, o, 0x0a0d0d0a, b)
	res, tick := byte(6), int64(1000)
	if f.Nano {
		res, tick = 9, 1
	}
	for _, i := range Interfaces {
		b = o.AppendUint16(b[:0], i.LinkType)
		b = o.AppendUint16(b, 0)
		b = o.AppendUint32(b, i.SnapLen)
		b = option(b, o, 2, []byte(i.Name))
		if f.Nano { // µs is the default of the format
			b = option(b, o, 9, []byte{res})
		}
		b = option(b, o, 0, nil)
		block(w, o, 1, b)
	}
	for _, p := range packets {
		ts := uint64(p.Time.UnixNano() / tick)
		b = o.AppendUint32(b[:0], uint32(p.Interface))
		b = o.AppendUint32(b, uint32(ts>>32))
		b = o.AppendUint32(b, uint32(ts))
		b = o.AppendUint32(b, uint32(len(p.Data)))
		b = o.AppendUint32(b, uint32(p.WireLen))
		b = pad(append(b, p.Data...))
		block(w, o, 6, b)
	}
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func option(b []byte, o order, code uint16, value []byte) []byte {
	b = o.AppendUint16(b, code)
	b = o.AppendUint16(b, uint16(len(value)))
	return pad(append(b, value...))
}

func block(w *bufio.Writer, o order, kind uint32, body []byte) {
	var head [8]byte
	o.PutUint32(head[:], kind)
	o.PutUint32(head[4:], uint32(12+len(body)))
	w.Write(head[:])
	w.Write(body)
	w.Write(head[4:])
}
