package decode

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Part is a part of a line, for which a terminal may have a colour.
type Part int

// The parts of a line.
const (
	Plain Part = iota
	Source
	Destination
	Protocol
	Name  // of a host, as a packet has it
	Alarm // a connection is refused, or something is not there
	Fault // a packet that is broken or cut
)

// Style says how lines look.
type Style struct {
	Link    bool                             // with the link header
	Verbose int                              // 0, 1 or 2: more of the headers
	Paint   func(p Part, text string) string // nil for no colours
}

// AppendLine appends a line of text about a packet to b, without a line feed.
func (s *Summary) AppendLine(b []byte, style Style) []byte {
	l := line{b: b, Style: style}
	l.summary(s)
	return l.b
}

type line struct {
	Style
	b []byte
}

func (l *line) add(format string, args ...any) { l.b = fmt.Appendf(l.b, format, args...) }

// put writes a part of a line in its colour.
func (l *line) put(p Part, text string) {
	if l.Paint != nil && p != Plain {
		text = l.Paint(p, text)
	}
	l.b = append(l.b, text...)
}

func (l *line) summary(s *Summary) {
	known := s.ARP != nil || s.STP != nil || s.LLDP != nil || s.Network != nil
	l.link(s, known)
	if p := s.PFLog; p != nil {
		l.add("rule %d", p.Rule)
		if p.Ruleset != "" {
			l.add(".%s", p.Ruleset)
		}
		if p.Subrule != nil {
			l.add(".%d", *p.Subrule)
		}
		part := Plain
		if p.Action == "block" {
			part = Alarm
		}
		l.add("/%d(%s): ", p.reason, p.Reason)
		l.put(part, p.Action)
		l.add(" %s on %s: ", p.Direction, p.Interface)
	}
	switch {
	case s.ARP != nil:
		l.arp(s)
	case s.STP != nil:
		l.stp(s)
	case s.LLDP != nil:
		l.put(Protocol, "LLDP")
		l.add(", chassis %s, port %s, ", s.LLDP.Chassis, s.LLDP.Port)
		if s.LLDP.System != "" {
			l.add("system ")
			l.put(Name, s.LLDP.System)
			l.add(", ")
		}
		l.add("ttl %d, length %d", s.LLDP.TTL, s.length)
	case s.Network != nil:
		l.network(s)
	case s.WLAN != nil:
		l.b = bytes.TrimSuffix(l.b, []byte(": "))
		l.add(", length %d", s.wire)
	case s.Link == nil || !slices.Contains([]string{"ethernet", "vlan", "sll"}, s.last()):
		l.put(Protocol, strings.ToUpper(s.last()))
		l.add(", length %d", s.length)
	default:
		l.b = bytes.TrimSuffix(bytes.TrimSuffix(l.b, []byte(": ")), []byte(", "))
	}
	if e := s.Error; e != nil && e.Cut {
		l.put(Fault, fmt.Sprintf(" [cut in %s]", e.Protocol))
	} else if e != nil {
		l.put(Fault, fmt.Sprintf(" [broken %s: %s]", e.Protocol, e.Reason))
	}
}

func (s *Summary) last() string {
	if len(s.Protocols) == 0 {
		return "data"
	}
	return s.Protocols[len(s.Protocols)-1]
}

// link writes the link header, if it shall be there or nothing else says what the packet is.
func (l *line) link(s *Summary, known bool) {
	if s.Link != nil && (l.Link || !known) {
		l.put(Source, s.Link.Src.String())
		if s.Link.Dst != nil {
			l.add(" > ")
			l.put(Destination, s.Link.Dst.String())
		}
		if s.Link.Type >= firstEtherType {
			l.add(", ethertype %s", etherTypeName(s.Link.Type))
		} else {
			l.add(", 802.3")
		}
		l.add(", length %d: ", s.wire)
	}
	if l.Link && known && s.header > 0 && s.Link == nil && s.WLAN == nil {
		l.add("%s, length %d: ", s.Protocols[0], s.wire)
	}
	if w := s.WLAN; w != nil && (l.Link || !known) {
		l.wlan(w)
	}
	for _, v := range s.VLANs {
		l.add("vlan %d, ", v.ID)
		if l.Link {
			l.add("p %d, ", v.Priority)
			if v.DropEligible {
				l.add("DEI, ")
			}
			if v.typ >= firstEtherType {
				l.add("ethertype %s, ", etherTypeName(v.typ))
			}
		}
	}
}

var etherTypes = map[uint16]string{
	0x800: "IPv4", 0x806: "ARP", 0x86dd: "IPv6", 0x8100: "802.1Q", 0x88a8: "802.1Q-QinQ",
	0x8847: "MPLS unicast", 0x8848: "MPLS multicast", 0x8863: "PPPoE D", 0x8864: "PPPoE S",
	0x88cc: "LLDP", 0x888e: "EAPOL", 0x9000: "Loopback", 0x6558: "TEB",
}

func etherTypeName(t uint16) string {
	name, ok := etherTypes[t]
	if !ok {
		name = "Unknown"
	}
	return fmt.Sprintf("%s (0x%04x)", name, t)
}

func (l *line) wlan(w *WLAN) {
	l.put(Protocol, fmt.Sprintf("802.11 %s", w.Type))
	if w.SSID != nil {
		l.add(" (")
		l.put(Name, *w.SSID)
		l.add(")")
	}
	l.add(", ")
	if len(w.Sender) > 0 {
		l.put(Source, w.Sender.String())
		l.add(" > ")
	}
	l.put(Destination, w.Receiver.String())
	if w.Protected {
		l.add(", protected")
	}
	l.add(": ")
}

func (l *line) arp(s *Summary) {
	a := s.ARP
	l.put(Protocol, "ARP")
	switch a.Operation {
	case "request":
		l.add(", Request who-has ")
		l.put(Destination, a.Target.String())
		if strings.Trim(a.TargetMAC.String(), "0:") != "" {
			l.add(" (%s)", a.TargetMAC)
		}
		l.add(" tell ")
		l.put(Source, a.Sender.String())
	case "reply":
		l.add(", Reply ")
		l.put(Source, a.Sender.String())
		l.add(" is-at %s", a.SenderMAC)
	default:
		l.add(", %s, %s (%s) > %s (%s)", a.Operation, a.Sender, a.SenderMAC, a.Target, a.TargetMAC)
	}
	l.add(", length %d", s.length)
}

func (l *line) stp(s *Summary) {
	t := s.STP
	l.put(Protocol, "STP")
	l.add(" %s, %s", t.Version, t.Message)
	if t.Bridge != "" {
		l.add(", bridge %s.%04x, root %s, cost %d", t.Bridge, t.Port, t.Root, t.Cost)
		if t.TopologyChange {
			l.put(Alarm, ", topology change")
		}
	}
	l.add(", length %d", s.length)
}

// network writes an IP packet.
func (l *line) network(s *Summary) {
	n, t, inner := s.Network, s.Transport, ": "
	if !l.Link || s.Link == nil {
		l.add("%s ", map[string]string{"ipv4": "IP", "ipv6": "IP6"}[n.Protocol])
	}
	l.flow(s)
	l.add(": ")
	switch {
	case s.ICMP != nil:
		l.icmp(s)
	case s.IGMP != nil:
		l.put(Protocol, "IGMP")
		l.add(" %s", s.IGMP.Message)
		l.groups(s.IGMP)
	case t == nil && s.Inner != nil && s.last() == n.Protocol:
		inner = ""
	case t == nil:
		l.put(Protocol, strings.ToUpper(protocolName(s)))
		l.add(", length %d", n.payload(s))
	case t.Protocol == "tcp":
		l.tcp(s)
	case s.DNS != nil:
		l.dns(s.DNS)
	case s.DHCP != nil:
		l.dhcp(s.DHCP)
		l.add(", length %d", t.Length)
	default:
		l.put(Protocol, strings.ToUpper(t.Protocol))
		l.add(", length %d", t.Length)
	}
	if f := n.Fragment; f != nil {
		more := ""
		if f.More {
			more = "+"
		}
		l.add(" (frag %d:%d@%d%s)", f.ID, f.Length, f.Offset, more)
	}
	if l.Verbose > 0 {
		l.header(s)
	}
	if s.Inner != nil && s.ICMP == nil {
		style := l.Style
		style.Link = s.Inner.Link != nil
		l.b = s.Inner.AppendLine(append(l.b, inner...), style)
	}
}

// flow writes who sends a packet to whom.
func (l *line) flow(s *Summary) {
	src, dst := s.Network.Src.String(), s.Network.Dst.String()
	if t := s.Transport; t != nil {
		src, dst = fmt.Sprint(src, ".", t.SrcPort), fmt.Sprint(dst, ".", t.DstPort)
	}
	l.put(Source, src)
	l.add(" > ")
	l.put(Destination, dst)
}

// payload is the number of bytes behind the IP header, or of a fragment.
func (n *Network) payload(s *Summary) int {
	if n.Fragment != nil {
		return n.Fragment.Length
	}
	return max(0, n.Length-map[string]int{"ipv4": 20, "ipv6": 40}[n.Protocol])
}

// protocolName names what an IP packet without a known header carries.
func protocolName(s *Summary) string {
	if last := s.last(); last != s.Network.Protocol && last != "fragment" {
		return last
	}
	switch s.Network.Next {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 1:
		return "icmp"
	case 58:
		return "icmp6"
	}
	return fmt.Sprint("ip-proto-", s.Network.Next)
}

// header writes what -v adds: the rest of the headers.
func (l *line) header(s *Summary) {
	n := s.Network
	l.add(" (ttl %d", n.TTL)
	if n.TOS != 0 {
		l.add(", tos %#x", n.TOS)
	}
	if n.ID != nil {
		l.add(", id %d", *n.ID)
	}
	if n.DF {
		l.add(", DF")
	}
	if n.Flow != 0 {
		l.add(", flow %#05x", n.Flow)
	}
	if l.Verbose > 1 {
		l.add(", length %d", n.Length)
	}
	sums := []string{n.Checksum}
	if s.Transport != nil {
		sums = append(sums, s.Transport.Checksum)
	}
	if s.ICMP != nil {
		sums = append(sums, s.ICMP.Checksum)
	}
	for i, c := range sums {
		if c == "bad" {
			l.put(Fault, fmt.Sprintf(", wrong checksum of %s", []string{"IP", s.last()}[i]))
		}
	}
	l.add(")")
}
