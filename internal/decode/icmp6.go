package decode

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var icmpMessages = map[uint8]string{
	0: "echo reply", 3: "unreachable", 4: "source quench", 5: "redirect", 8: "echo request",
	9: "router advertisement", 10: "router solicitation", 11: "time exceeded",
	12: "parameter problem", 13: "time stamp query", 14: "time stamp reply",
}

var unreachable = []string{
	"net", "host", "protocol", "port", "need to frag", "source route failed", "unknown net",
	"unknown host", "isolated", "net admin prohibited", "host admin prohibited", "net tos", "host tos",
	"admin prohibited filter", "host precedence", "precedence cutoff",
}

// icmpMessage names a message. Where the code matters it is part of the name.
func icmpMessage(tc layers.ICMPv4TypeCode) string {
	t, c := tc.Type(), tc.Code()
	m, ok := icmpMessages[t]
	switch {
	case !ok:
		return fmt.Sprintf("type %d code %d", t, c)
	case t == layers.ICMPv4TypeDestinationUnreachable:
		return name(c, unreachable...) + " unreachable"
	case t == layers.ICMPv4TypeTimeExceeded:
		return "time exceeded " + name(c, "in-transit", "in reassembly")
	case t == layers.ICMPv4TypeRedirect:
		return "redirect " + name(c, "net", "host", "net tos", "host tos")
	}
	return m
}

var icmp6Messages = map[uint8]string{
	1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem",
	128: "echo request", 129: "echo reply", 130: "listener query", 131: "listener report",
	132: "listener done", 133: "router solicitation", 134: "router advertisement",
	135: "neighbor solicitation", 136: "neighbor advertisement", 137: "redirect",
	143: "v2 listener report",
}

func icmp6Message(t, c uint8) string {
	m, ok := icmp6Messages[t]
	switch {
	case !ok:
		return fmt.Sprintf("type %d code %d", t, c)
	case t == layers.ICMPv6TypeDestinationUnreachable:
		return name(c, "no route", "admin prohibited", "beyond scope", "address", "port",
			"source policy", "rejected route") + " unreachable"
	case t == layers.ICMPv6TypeTimeExceeded:
		return "time exceeded " + name(c, "in-transit", "in reassembly")
	}
	return m
}

func (d *decoder) icmp6(p []byte, length int, whole bool, net gopacket.NetworkLayer) {
	var l layers.ICMPv6
	if !d.layer("icmp6", &l, p) {
		return
	}
	t := l.TypeCode.Type()
	m := &ICMP{Type: t, Code: l.TypeCode.Code(), Length: length}
	m.Message = icmp6Message(m.Type, m.Code)
	d.s.ICMP = m
	if whole && l.SetNetworkLayerForChecksum(net) == nil {
		m.Checksum = sum(&l, &l.Contents)
	}
	body := l.Payload
	var options layers.ICMPv6Options
	var target []byte
	var err error
	switch t {
	case layers.ICMPv6TypeEchoRequest, layers.ICMPv6TypeEchoReply:
		var e layers.ICMPv6Echo
		if err = e.DecodeFromBytes(body, d); err == nil {
			m.ID, m.Seq = &e.Identifier, &e.SeqNumber
		}
	case layers.ICMPv6TypeRouterSolicitation:
		var r layers.ICMPv6RouterSolicitation
		err = r.DecodeFromBytes(body, d)
		options = r.Options
	case layers.ICMPv6TypeRouterAdvertisement:
		var r layers.ICMPv6RouterAdvertisement
		err = r.DecodeFromBytes(body, d)
		options = r.Options
	case layers.ICMPv6TypeNeighborSolicitation:
		var n layers.ICMPv6NeighborSolicitation
		err = n.DecodeFromBytes(body, d)
		options, target = n.Options, n.TargetAddress
	case layers.ICMPv6TypeNeighborAdvertisement:
		var n layers.ICMPv6NeighborAdvertisement
		err = n.DecodeFromBytes(body, d)
		options, target = n.Options, n.TargetAddress
	case layers.ICMPv6TypeRedirect:
		var r layers.ICMPv6Redirect
		err = r.DecodeFromBytes(body, d)
		options, target = r.Options, r.TargetAddress
	case layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6TypePacketTooBig,
		layers.ICMPv6TypeTimeExceeded, layers.ICMPv6TypeParameterProblem:
		if len(body) < 4 {
			err = fmt.Errorf("%d bytes, the header has 8", len(p))
			break
		}
		if t == layers.ICMPv6TypePacketTooBig {
			m.MTU = binary.BigEndian.Uint32(body)
		}
		d.quoted(body[4:])
	case layers.ICMPv6TypeMLDv1MulticastListenerQueryMessage,
		layers.ICMPv6TypeMLDv1MulticastListenerReportMessage,
		layers.ICMPv6TypeMLDv1MulticastListenerDoneMessage:
		var r layers.MLDv1Message
		if err = r.DecodeFromBytes(body, d); err == nil {
			d.s.IGMP = &IGMP{Message: m.Message, Groups: []netip.Addr{address(r.MulticastAddress)}}
		}
	case layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2:
		var r layers.MLDv2MulticastListenerReportMessage
		if err = r.DecodeFromBytes(body, d); err == nil {
			d.s.IGMP = &IGMP{Message: m.Message}
			for _, g := range r.MulticastAddressRecords {
				d.s.IGMP.Groups = append(d.s.IGMP.Groups, address(g.MulticastAddress))
			}
		}
	}
	if err != nil {
		d.fail(err)
	}
	if a := address(target); a.IsValid() {
		m.Target = &a
	}
	m.options(options)
}

// options takes over what is of interest in the options of neighbour discovery.
func (m *ICMP) options(options layers.ICMPv6Options) {
	const prefixInfo = 30 // bytes, without type and length
	for _, o := range options {
		switch {
		case o.Type <= layers.ICMPv6OptTargetAddress && len(o.Data) >= macLen:
			m.MAC = mac(o.Data[:macLen])
		case o.Type == layers.ICMPv6OptPrefixInfo && len(o.Data) >= prefixInfo:
			m.Prefixes = append(m.Prefixes,
				netip.PrefixFrom(address(o.Data[14:30]), int(min(o.Data[0], 128))).String())
		case o.Type == layers.ICMPv6OptMTU && len(o.Data) >= 6:
			m.MTU = binary.BigEndian.Uint32(o.Data[2:6])
		}
	}
}
