package decode

import (
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// address returns an IP address, or the zero value if b is not as long as one.
func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// ip decodes an IP packet. If another one surrounds it, it is the inner packet of a tunnel.
func (d *decoder) ip(p []byte) {
	if d.s.Network != nil {
		d.inside(len(p), func() { d.ip(p) })
		return
	}
	switch {
	case len(p) > 0 && p[0]>>4 == 4:
		d.ipv4(p)
	case len(p) > 0 && p[0]>>4 == 6:
		d.ipv6(p)
	default:
		d.now = "ip"
		d.fail(errVersion)
	}
}

// verifier is a layer with a checksum over all of its bytes.
type verifier interface {
	VerifyChecksum() (error, gopacket.ChecksumVerificationResult)
}

// sum says whether the checksum of a layer is right. To compute it, gopacket appends the payload to
// the header. So the header may have no room behind it, which is the packet's own memory.
func sum(l verifier, header *[]byte) string {
	*header = slices.Clip(*header)
	err, r := l.VerifyChecksum()
	switch {
	case err != nil:
		return ""
	case r.Valid:
		return "ok"
	}
	return "bad"
}

func (d *decoder) ipv4(p []byte) {
	l := &d.ip4
	if !d.layer("ipv4", l, p) {
		return
	}
	id := l.Id
	n := &Network{
		Protocol: "ipv4", Src: address(l.SrcIP), Dst: address(l.DstIP), Length: int(l.Length),
		TTL: l.TTL, TOS: l.TOS, ID: &id, DF: l.Flags&layers.IPv4DontFragment != 0,
		Next: uint8(l.Protocol), Checksum: sum(l, &l.Contents),
	}
	d.s.Network = n
	payload := n.Length - len(l.Contents)
	whole := len(l.Payload) >= payload
	if more := l.Flags&layers.IPv4MoreFragments != 0; more || l.FragOffset > 0 {
		n.Fragment = &Fragment{
			ID: uint32(id), Offset: int(l.FragOffset) * 8, Length: payload, More: more,
		}
	}
	d.protocol(l.Protocol, l.Payload, payload, whole, l)
}

func (d *decoder) ipv6(p []byte) {
	l := &d.ip6
	if !d.layer("ipv6", l, p) {
		return
	}
	n := &Network{
		Protocol: "ipv6", Src: address(l.SrcIP), Dst: address(l.DstIP), TTL: l.HopLimit,
		TOS: l.TrafficClass, Flow: l.FlowLabel, Length: int(l.Length) + len(l.Contents),
		Next: uint8(l.NextHeader),
	}
	d.s.Network = n
	next, rest, payload := l.NextHeader, l.Payload, int(l.Length)
	if l.HopByHop != nil { // gopacket takes it for a part of the header
		d.enter("hop-by-hop")
		next, payload = l.HopByHop.NextHeader, payload-l.HopByHop.ActualLength
		if l.Length == 0 {
			n.Length = len(l.Contents) + l.HopByHop.ActualLength + len(rest)
			payload = len(rest)
		}
	}
	d.extensions(n, next, rest, payload)
}

// extensions decodes the headers between IPv6 and the protocol that it carries.
func (d *decoder) extensions(n *Network, next layers.IPProtocol, p []byte, length int) {
	for {
		n.Next = uint8(next)
		switch next {
		case layers.IPProtocolIPv6Fragment:
			var f layers.IPv6Fragment
			if !d.layer("fragment", &f, p) {
				return
			}
			length -= len(f.Contents)
			next, p = f.NextHeader, f.Payload
			n.Fragment = &Fragment{ID: f.Identification, Offset: int(f.FragmentOffset) * 8,
				Length: length, More: f.MoreFragments}
			n.Next = uint8(next)
			if f.FragmentOffset > 0 {
				d.protocol(next, p, length, false, &d.ip6)
				return
			}
		case layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6Routing,
			layers.IPProtocolIPv6HopByHop:
			var s layers.IPv6ExtensionSkipper
			name := map[layers.IPProtocol]string{
				layers.IPProtocolIPv6Destination: "destination-options",
				layers.IPProtocolIPv6Routing:     "routing",
				layers.IPProtocolIPv6HopByHop:    "hop-by-hop",
			}[next]
			if !d.enter(name) {
				return
			}
			if err := s.DecodeFromBytes(p, d); err != nil {
				d.fail(err)
				return
			}
			length -= len(s.Contents)
			next, p = s.NextHeader, s.Payload
		default:
			d.protocol(next, p, length, len(p) >= length && n.Fragment == nil, &d.ip6)
			return
		}
	}
}

// protocols are the names of what is not decoded further.
var protocols = map[layers.IPProtocol]string{
	layers.IPProtocolESP: "esp", layers.IPProtocolOSPF: "ospf", layers.IPProtocolVRRP: "vrrp",
	layers.IPProtocolRUDP: "rudp", 103: "pim", 240: "pfsync",
}

// protocol decodes what an IP packet carries. length is its length on the wire. If whole is true,
// all of it is there. net is the header that belongs to its checksum.
func (d *decoder) protocol(
	proto layers.IPProtocol, p []byte, length int, whole bool, net gopacket.NetworkLayer,
) {
	n := d.s.Network
	n.Next = uint8(proto)
	if n.Fragment != nil {
		whole = false
		if n.Fragment.Offset > 0 {
			return // the header is in another packet
		}
	}
	switch proto {
	case layers.IPProtocolTCP:
		d.transportTCP(p, length, whole, net)
	case layers.IPProtocolUDP:
		d.transportUDP(p, length, whole, net)
	case layers.IPProtocolSCTP:
		var l layers.SCTP
		if d.layer("sctp", &l, p) {
			d.s.Transport = &Transport{Protocol: "sctp", SrcPort: uint16(l.SrcPort),
				DstPort: uint16(l.DstPort), Length: length - len(l.Contents)}
		}
	case layers.IPProtocolICMPv4:
		d.icmp(p, length, whole)
	case layers.IPProtocolICMPv6:
		d.icmp6(p, length, whole, net)
	case layers.IPProtocolIGMP:
		d.igmp(p)
	case layers.IPProtocolIPv4, layers.IPProtocolIPv6, layers.IPProtocolIPIP:
		d.ip(p)
	case layers.IPProtocolGRE:
		var l layers.GRE
		if d.layer("gre", &l, p) {
			d.tunnel(uint16(l.Protocol), l.Payload)
		}
	case layers.IPProtocolEtherIP:
		var l layers.EtherIP
		if d.layer("etherip", &l, p) {
			d.inside(len(l.Payload), func() { d.ethernet(l.Payload) })
		}
	case layers.IPProtocolAH:
		var l layers.IPSecAH
		if d.layer("ah", &l, p) {
			d.protocol(l.NextHeader, l.Payload, length-len(l.Contents), whole, net)
		}
	case layers.IPProtocolNoNextHeader:
	default:
		if name, ok := protocols[proto]; ok {
			d.enter(name)
		}
	}
}

// tunnel decodes the packet in a tunnel that has an EtherType.
func (d *decoder) tunnel(t uint16, p []byte) {
	switch layers.EthernetType(t) {
	case layers.EthernetTypePPP:
		d.inside(len(p), func() { d.ppp(p) })
	case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6:
		d.ip(p)
	default:
		d.inside(len(p), func() { d.etherType(t, p) })
	}
}

func (d *decoder) icmp(p []byte, length int, whole bool) {
	var l layers.ICMPv4
	if !d.layer("icmp", &l, p) {
		return
	}
	m := &ICMP{
		Type: l.TypeCode.Type(), Code: l.TypeCode.Code(), Length: length,
		Message: icmpMessage(l.TypeCode),
	}
	d.s.ICMP = m
	if whole {
		m.Checksum = sum(&l, &l.Contents)
	}
	switch m.Type {
	case layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoReply:
		m.ID, m.Seq = &l.Id, &l.Seq
		return
	case layers.ICMPv4TypeRedirect:
		gateway := address(p[4:8])
		m.Target = &gateway
	case layers.ICMPv4TypeDestinationUnreachable:
		if m.Code == layers.ICMPv4CodeFragmentationNeeded {
			m.MTU = uint32(l.Seq)
		}
	case layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem,
		layers.ICMPv4TypeSourceQuench:
	default:
		return
	}
	d.quoted(l.Payload)
}

// quoted decodes the beginning of a packet in an ICMP error.
func (d *decoder) quoted(p []byte) {
	cut, now := d.cut, d.now
	d.cut = true
	d.ip(p)
	d.cut, d.now = cut, now
}

func (d *decoder) igmp(p []byte) {
	switch l := d.other("igmp", layers.LayerTypeIGMP, p).(type) {
	case *layers.IGMPv1or2:
		m := &IGMP{Message: map[layers.IGMPType]string{
			layers.IGMPMembershipQuery: "query", layers.IGMPMembershipReportV1: "v1-report",
			layers.IGMPMembershipReportV2: "v2-report", layers.IGMPLeaveGroup: "leave",
		}[l.Type]}
		if g := address(l.GroupAddress); !g.IsUnspecified() {
			m.Groups = []netip.Addr{g}
		}
		d.s.IGMP = m
	case *layers.IGMP:
		m := &IGMP{Message: "v3-report"}
		if l.Type == layers.IGMPMembershipQuery {
			m.Message = "v3-query"
			if g := address(l.GroupAddress); g.IsValid() && !g.IsUnspecified() {
				m.Groups = []netip.Addr{g}
			}
		}
		for _, r := range l.GroupRecords {
			m.Groups = append(m.Groups, address(r.MulticastAddress))
		}
		d.s.IGMP = m
	}
}
