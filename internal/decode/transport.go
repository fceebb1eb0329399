package decode

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The ports that say what a packet carries.
const (
	portDNS    = 53
	portMDNS   = 5353
	portLLMNR  = 5355
	portDHCP   = 67
	portDHCPc  = 68
	portDHCP6c = 546
	portDHCP6  = 547
	portVXLAN  = 4789

	tcpHeader = 20 // without options
	udpHeader = 8
)

// ports notes the ports, which come first. An ICMP error may have no more of a packet.
func (d *decoder) ports(protocol string, p []byte) *Transport {
	t := &Transport{Protocol: protocol}
	if len(p) >= 4 {
		t.SrcPort, t.DstPort = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
		d.s.Transport = t
	}
	return t
}

func either(t *Transport, ports ...uint16) bool {
	for _, p := range ports {
		if t.SrcPort == p || t.DstPort == p {
			return true
		}
	}
	return false
}

func (d *decoder) transportTCP(p []byte, length int, whole bool, net gopacket.NetworkLayer) {
	l := &d.tcp
	ok := d.layer("tcp", l, p)
	t := d.ports("tcp", p)
	if len(p) < tcpHeader {
		return
	}
	seq, window := l.Seq, l.Window
	t.Flags, t.Seq, t.Window = tcpFlags(l), &seq, &window
	t.Length = max(0, length-max(tcpHeader, int(l.DataOffset)*4))
	if l.ACK {
		ack := l.Ack
		t.Ack = &ack
	}
	if l.URG {
		t.Urgent = l.Urgent
	}
	for _, o := range l.Options { // in front of what is broken or cut
		t.Options = append(t.Options, tcpOption(o))
	}
	if !ok {
		return
	}
	if whole && l.SetNetworkLayerForChecksum(net) == nil {
		t.Checksum = sum(l, &l.Contents)
	}
	data := l.Payload
	switch {
	case either(t, portDNS) && len(data) > 2:
		if n := int(binary.BigEndian.Uint16(data)); n+2 <= len(data) {
			d.dns(data[2:n+2], n)
		}
	case len(data) > 5 && data[0] == tlsHandshake && data[1] == 3:
		d.tls(data)
	}
}

func tcpFlags(l *layers.TCP) (names []string) {
	for _, f := range []struct {
		set  bool
		name string
	}{
		{l.FIN, "fin"}, {l.SYN, "syn"}, {l.RST, "rst"}, {l.PSH, "psh"}, {l.ACK, "ack"},
		{l.URG, "urg"}, {l.ECE, "ece"}, {l.CWR, "cwr"}, {l.NS, "ae"},
	} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return names
}

// tcpOption formats an option as tcpdump does.
func tcpOption(o layers.TCPOption) string {
	b := o.OptionData
	switch o.OptionType {
	case layers.TCPOptionKindEndList:
		return "eol"
	case layers.TCPOptionKindNop:
		return "nop"
	case layers.TCPOptionKindMSS:
		if len(b) == 2 {
			return fmt.Sprint("mss ", binary.BigEndian.Uint16(b))
		}
	case layers.TCPOptionKindWindowScale:
		if len(b) == 1 {
			return fmt.Sprint("wscale ", b[0])
		}
	case layers.TCPOptionKindSACKPermitted:
		return "sackOK"
	case layers.TCPOptionKindTimestamps:
		if len(b) == 8 {
			return fmt.Sprintf("TS val %d ecr %d", binary.BigEndian.Uint32(b),
				binary.BigEndian.Uint32(b[4:]))
		}
	case layers.TCPOptionKindSACK:
		if len(b)%8 == 0 {
			var s strings.Builder
			fmt.Fprintf(&s, "sack %d ", len(b)/8)
			for ; len(b) > 0; b = b[8:] {
				fmt.Fprintf(&s, "{%d:%d}", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]))
			}
			return s.String()
		}
	case layers.TCPOptionKindMultipathTCP:
		return fmt.Sprint("mptcp ", len(b)+2)
	}
	if len(b) == 0 {
		return fmt.Sprint("unknown-", uint8(o.OptionType))
	}
	return fmt.Sprintf("unknown-%d 0x%x", o.OptionType, b)
}

func (d *decoder) transportUDP(p []byte, length int, whole bool, net gopacket.NetworkLayer) {
	l := &d.udp
	ok := d.layer("udp", l, p)
	t := d.ports("udp", p)
	if len(p) < udpHeader {
		return
	}
	t.Length = max(0, int(l.Length)-udpHeader)
	if l.Length == 0 { // a jumbogram
		t.Length = max(0, length-udpHeader)
	}
	if !ok {
		return
	}
	if f := d.s.Network.Fragment; f == nil && int(l.Length) > length {
		d.fail(fmt.Errorf("length %d, the IP packet has %d", l.Length, length))
	}
	// Without a checksum, there is nothing to verify.
	if whole && l.Checksum != 0 && l.SetNetworkLayerForChecksum(net) == nil {
		t.Checksum = sum(l, &l.Contents)
	}
	data := l.Payload
	switch {
	case len(data) == 0:
	case either(t, portDNS, portMDNS, portLLMNR):
		d.dns(data, t.Length)
	case either(t, portDHCP, portDHCPc):
		d.dhcp(data)
	case either(t, portDHCP6, portDHCP6c):
		d.dhcp6(data)
	case t.DstPort == portVXLAN:
		var v layers.VXLAN
		if d.layer("vxlan", &v, data) {
			d.inside(len(v.Payload), func() { d.ethernet(v.Payload) })
		}
	}
}
