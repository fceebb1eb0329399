package decode

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/human"
)

const (
	maxHeaders = 32  // a packet with more is not decoded further
	maxText    = 255 // bytes of a text in a packet
	maxRecords = 32  // questions or answers of DNS: compressed names would become megabytes
)

// decoder decodes one packet.
type decoder struct {
	s       *Summary // of the packet that is decoded; tunnels have several
	cut     bool     // the capture has only the beginning of the packet
	headers int      // decoded
	now     string   // the protocol that is decoded

	// The layers that most packets have are here, so that one allocation is enough for them.
	eth  layers.Ethernet
	ip4  layers.IPv4
	ip6  layers.IPv6
	tcp  layers.TCP
	udp  layers.UDP
	tags layers.Dot1Q
}

// Packet returns the summary of a packet. linkType is a LINKTYPE_ number, and wireLen the length of
// the packet before the capture cut it. Packet takes any bytes. What it can't decode is in
// Summary.Error.
func Packet(linkType uint16, data []byte, wireLen int) (top *Summary) {
	wireLen = max(wireLen, len(data))
	top = &Summary{wire: wireLen, length: wireLen}
	d := &decoder{s: top, cut: wireLen > len(data)}
	defer d.rescue()
	d.link(linkType, data)
	return top
}

// rescue makes the panic of a decoder an error of the packet.
func (d *decoder) rescue() {
	if r := recover(); r != nil {
		d.fail(fmt.Errorf("the decoder failed: %v", r))
	}
}

// SetTruncated is for gopacket's layers. What was cut shows in the lengths.
func (d *decoder) SetTruncated() {}

// enter notes the next header, and reports whether it shall be decoded.
func (d *decoder) enter(protocol string) bool {
	d.now = protocol
	if d.headers++; d.headers > maxHeaders {
		d.fail(errors.New("too many headers"))
		return false
	}
	d.s.Protocols = append(d.s.Protocols, protocol)
	return true
}

// layer decodes a header, and reports whether it is whole.
func (d *decoder) layer(protocol string, l gopacket.DecodingLayer, p []byte) bool {
	if !d.enter(protocol) {
		return false
	}
	if err := l.DecodeFromBytes(p, d); err != nil {
		d.fail(err)
		return false
	}
	return true
}

// other decodes a header for which gopacket has no DecodingLayer. It returns nil if the header is
// broken.
func (d *decoder) other(protocol string, t gopacket.LayerType, p []byte) gopacket.Layer {
	if !d.enter(protocol) {
		return nil
	}
	pkt := gopacket.NewPacket(p, t, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	l := pkt.Layer(t)
	if l == nil {
		err := errors.New("malformed")
		if e := pkt.ErrorLayer(); e != nil {
			err = e.Error()
		}
		d.fail(err)
	}
	return l
}

// fail notes why decoding ends. The first reason counts.
func (d *decoder) fail(err error) {
	if d.s.Error == nil {
		d.s.Error = &Error{Protocol: d.now, Reason: human.Printable(err.Error()), Cut: d.cut}
	}
}

// inside decodes a packet in a tunnel, or in an ICMP error. There it is cut by its sender.
func (d *decoder) inside(length int, decode func()) {
	outer, now := d.s, d.now
	d.s = &Summary{wire: length, length: length}
	outer.Inner = d.s
	decode()
	if len(d.s.Protocols) == 0 && d.s.Error == nil {
		outer.Inner = nil // of a kind that is not decoded
	}
	d.s, d.now = outer, now
}

// text returns a string of a packet in a form that a terminal can show.
func text(b []byte) string {
	if len(b) > maxText {
		return human.Printable(string(b[:maxText])) + "..."
	}
	return human.Printable(string(b))
}

// The numbers of link types whose packets begin with an IP header.
const (
	linkIPv4 = 228
	linkIPv6 = 229
)

// link decodes a packet of a link type.
func (d *decoder) link(linkType uint16, p []byte) {
	switch dlt := zbuf.LinkTypeToDLT(linkType); dlt {
	case zbuf.DLT_EN10MB:
		d.ethernet(p)
	case zbuf.DLT_NULL, zbuf.DLT_LOOP:
		d.family("loopback", p)
	case zbuf.DLT_ENC:
		d.enc(p)
	case zbuf.DLT_RAW, linkIPv4, linkIPv6:
		d.ip(p)
	case zbuf.DLT_PFLOG:
		d.pflog(p)
	case zbuf.DLT_PPP, zbuf.DLT_PPP_SERIAL, zbuf.DLT_PPP_BSDOS:
		d.ppp(p)
	case zbuf.DLT_PPP_ETHER:
		d.pppoe(p)
	case zbuf.DLT_IEEE802_11:
		d.wlan(p)
	case zbuf.DLT_IEEE802_11_RADIO:
		d.radiotap(p)
	case zbuf.DLT_LINUX_SLL:
		d.sll(p)
	case zbuf.DLT_C_HDLC:
		d.hdlc(p)
	case zbuf.DLT_MPLS:
		d.mpls(p)
	default:
		d.enter(strings.ToLower(zbuf.DLTName(dlt)))
	}
}
