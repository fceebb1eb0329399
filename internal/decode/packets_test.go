package decode_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// The numbers of link types in files.
const (
	linkNull     = 0
	linkEthernet = 1
	linkPPP      = 9
	linkRaw      = 101
	linkHDLC     = 104
	linkWLAN     = 105
	linkLoop     = 108
	linkENC      = 109
	linkPFLog    = 117
	linkRadiotap = 127
)

// A sample is a packet and what is said of it.
type sample struct {
	name string
	link uint16
	data []byte
	line string // without the link header
	full string // with -e and -v, or empty
}

var (
	hostA, hostB = net.IP{10, 0, 0, 1}, net.IP{10, 0, 0, 2}
	hostC        = net.ParseIP("2001:db8::1")
	hostD        = net.ParseIP("2001:db8::2")
	macA         = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	macB         = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

type made = gopacket.SerializableLayer

// build makes a packet of layers. Lengths and checksums are right.
func build(t testing.TB, all ...made) []byte {
	t.Helper()
	for i, l := range all {
		network, ok := l.(gopacket.NetworkLayer)
		if !ok {
			continue
		}
		for _, upper := range all[i+1:] {
			if _, again := upper.(gopacket.NetworkLayer); again {
				break
			}
			if u, ok := upper.(interface {
				SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
			}); ok {
				require.NoError(t, u.SetNetworkLayerForChecksum(network))
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(b, opts, all...))
	return b.Bytes()
}

func ether(typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: typ}
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: hostA, DstIP: hostB}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: hostC, DstIP: hostD}
}

func udp(src, dst layers.UDPPort) *layers.UDP { return &layers.UDP{SrcPort: src, DstPort: dst} }

func tag(id uint16, typ layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: id, Priority: 3, Type: typ}
}

type raw = gopacket.Payload

func option(kind layers.TCPOptionKind, data ...byte) layers.TCPOption {
	return layers.TCPOption{OptionType: kind, OptionLength: uint8(len(data) + 2), OptionData: data}
}

func syn() *layers.TCP {
	nop := layers.TCPOption{OptionType: layers.TCPOptionKindNop, OptionLength: 1}
	return &layers.TCP{
		SrcPort: 49152, DstPort: 443, Seq: 1000, SYN: true, Window: 65535,
		Options: []layers.TCPOption{
			option(layers.TCPOptionKindMSS, 5, 0xb4), nop, option(layers.TCPOptionKindWindowScale, 6),
			option(layers.TCPOptionKindSACKPermitted),
			option(layers.TCPOptionKindTimestamps, 0, 0, 0, 9, 0, 0, 0, 0),
		},
	}
}

func question(name string, t layers.DNSType) layers.DNSQuestion {
	return layers.DNSQuestion{Name: []byte(name), Type: t, Class: layers.DNSClassIN}
}

func dhcp(message layers.DHCPMsgType, options ...layers.DHCPOption) *layers.DHCPv4 {
	return &layers.DHCPv4{
		Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		Xid: 0x1234, ClientHWAddr: macA,
		Options: append(layers.DHCPOptions{
			layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(message)}),
		}, options...),
	}
}

// frames returns packets that Ethernet carries.
func frames(t testing.TB) []sample {
	ip, ipv6 := ether(layers.EthernetTypeIPv4), ether(layers.EthernetTypeIPv6)
	arp := func(op uint16, target net.HardwareAddr) []byte {
		return build(t, ether(layers.EthernetTypeARP), &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6,
			ProtAddressSize: 4, Operation: op, SourceHwAddress: macA, SourceProtAddress: hostA.To4(),
			DstHwAddress: target, DstProtAddress: hostB.To4(),
		})
	}
	refused := build(t, ip4(layers.IPProtocolUDP), udp(4444, 53), raw("x"))
	return []sample{
		{"ARP request", linkEthernet, arp(1, make(net.HardwareAddr, 6)), "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 46", "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype ARP (0x0806), length 60: ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 46"},
		{"ARP reply", linkEthernet, arp(2, macB), "ARP, Reply 10.0.0.1 is-at 02:00:00:00:00:01, length 46", ""},
		{"TCP SYN with options", linkEthernet, build(t, ip, ip4(layers.IPProtocolTCP), syn()), "IP 10.0.0.1.49152 > 10.0.0.2.443: Flags [S], seq 1000, win 65535, options [mss 1460,nop,wscale 6,sackOK,TS val 9 ecr 0], length 0", "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 74: 10.0.0.1.49152 > 10.0.0.2.443: Flags [S], seq 1000, win 65535, options [mss 1460,nop,wscale 6,sackOK,TS val 9 ecr 0], length 0 (ttl 64, id 7)"},
		{"TCP data", linkEthernet, build(t, ip, ip4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 80, DstPort: 5000, Seq: 1<<32 - 2, Ack: 7, ACK: true, PSH: true, Window: 512}, raw("hello")), "IP 10.0.0.1.80 > 10.0.0.2.5000: Flags [P.], seq 4294967294:3, ack 7, win 512, length 5", ""},
		{"TCP RST", linkEthernet, build(t, ip, ip4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 80, DstPort: 5000, Seq: 9, RST: true, ECE: true, CWR: true, URG: true, Urgent: 4}), "IP 10.0.0.1.80 > 10.0.0.2.5000: Flags [RUEW], seq 9, win 0, urg 4, length 0", ""},
		{"TCP over IPv6", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolTCP), syn()), "IP6 2001:db8::1.49152 > 2001:db8::2.443: Flags [S], seq 1000, win 65535, options [mss 1460,nop,wscale 6,sackOK,TS val 9 ecr 0], length 0", ""},
		{"UDP", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(1000, 2000), raw("hello, world")), "IP 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 12", ""},
		{"UDP with a tag", linkEthernet, build(t, ether(layers.EthernetTypeDot1Q), tag(5, layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(1000, 2000), raw("x")), "vlan 5, IP 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 1", "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 802.1Q (0x8100), length 60: vlan 5, p 3, ethertype IPv4 (0x0800), 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 1 (ttl 64, id 7)"},
		{"UDP with two tags", linkEthernet, build(t, ether(layers.EthernetTypeQinQ), tag(5, layers.EthernetTypeDot1Q), tag(6, layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(1000, 2000), raw("x")), "vlan 5, vlan 6, IP 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 1", ""},
		{"ping", linkEthernet, build(t, ip, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 3, Seq: 4}, raw("12345678")), "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 3, seq 4, length 16", ""},
		{"port unreachable", linkEthernet, build(t, ip, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, raw(refused[:28])), "IP 10.0.0.1 > 10.0.0.2: ICMP port unreachable [10.0.0.1.4444 > 10.0.0.2.53 udp], length 36", ""},
		{"ping over IPv6", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, &layers.ICMPv6Echo{Identifier: 3, SeqNumber: 4}), "IP6 2001:db8::1 > 2001:db8::2: ICMP6, echo request, id 3, seq 4, length 8", ""},
		{"neighbour solicitation", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)}, &layers.ICMPv6NeighborSolicitation{TargetAddress: hostD, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: macA}}}), "IP6 2001:db8::1 > 2001:db8::2: ICMP6, neighbor solicitation, who has 2001:db8::2, length 32", "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv6 (0x86dd), length 86: 2001:db8::1 > 2001:db8::2: ICMP6, neighbor solicitation, who has 2001:db8::2, mac 02:00:00:00:00:01, length 32 (ttl 64)"},
		{"neighbour advertisement", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(136, 0)}, &layers.ICMPv6NeighborAdvertisement{TargetAddress: hostD}), "IP6 2001:db8::1 > 2001:db8::2: ICMP6, neighbor advertisement, tgt is 2001:db8::2, length 24", ""},
		{"router advertisement", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(134, 0)}, &layers.ICMPv6RouterAdvertisement{HopLimit: 64, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptMTU, Data: []byte{0, 0, 0, 0, 5, 0xdc}}, {Type: layers.ICMPv6OptPrefixInfo, Data: append([]byte{64, 0xc0, 13: 0}, net.ParseIP("2001:db8::")...)}}}), "IP6 2001:db8::1 > 2001:db8::2: ICMP6, router advertisement, mtu 1500, prefix 2001:db8::/64, length 56", ""},
		{"IPv6 extension headers", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolIPv6Destination), raw{17, 0, 1, 4, 0, 0, 0, 0}, raw{0x3, 0xe8, 0x7, 0xd0, 0, 9, 0, 0, 'x'}), "IP6 2001:db8::1.1000 > 2001:db8::2.2000: UDP, length 1", ""},
		{"first fragment", linkEthernet, build(t, ip, fragment(0, true), udp(1000, 2000), raw("12345678")), "IP 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 8 (frag 7:16@0+)", ""},
		{"last fragment", linkEthernet, build(t, ip, fragment(2, false), raw("12345678")), "IP 10.0.0.1 > 10.0.0.2: UDP, length 8 (frag 7:8@16)", ""},
		{"IPv6 fragment", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolIPv6Fragment), &layers.IPv6Fragment{NextHeader: layers.IPProtocolUDP, FragmentOffset: 2, MoreFragments: true, Identification: 99}, raw("12345678")), "IP6 2001:db8::1 > 2001:db8::2: UDP, length 8 (frag 99:8@16+)", ""},
		{"DNS query", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(5000, 53), &layers.DNS{ID: 4660, RD: true, QDCount: 1, Questions: []layers.DNSQuestion{question("example.com", layers.DNSTypeA)}}), "IP 10.0.0.1.5000 > 10.0.0.2.53: 4660+ A? example.com. (29)", ""},
		{"DNS answer", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(53, 5000), &layers.DNS{ID: 4660, QR: true, RD: true, RA: true, QDCount: 1, ANCount: 1, Questions: []layers.DNSQuestion{question("example.com", layers.DNSTypeA)}, Answers: []layers.DNSResourceRecord{{Name: []byte("example.com"), Type: layers.DNSTypeA, Class: layers.DNSClassIN, TTL: 300, IP: hostB}}}), "IP 10.0.0.1.53 > 10.0.0.2.5000: 4660 A? example.com. 1/0/0 A 10.0.0.2 (56)", "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 98: 10.0.0.1.53 > 10.0.0.2.5000: 4660 A? example.com. 1/0/0 example.com. [300s] A 10.0.0.2 (56) (ttl 64, id 7)"},
		{"DNS no such name", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(53, 5000), &layers.DNS{ID: 1, QR: true, AA: true, RA: true, ResponseCode: layers.DNSResponseCodeNXDomain, QDCount: 1, Questions: []layers.DNSQuestion{question("nowhere.invalid", layers.DNSTypeAAAA)}}), "IP 10.0.0.1.53 > 10.0.0.2.5000: 1 NXDomain* AAAA? nowhere.invalid. 0/0/0 (33)", ""},
		{"DNS over TCP", linkEthernet, build(t, ip, ip4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 5000, DstPort: 53, Seq: 1, Ack: 1, ACK: true, Window: 9}, overTCP(build(t, &layers.DNS{ID: 2, RD: true, QDCount: 1, Questions: []layers.DNSQuestion{question("a.example", layers.DNSTypeNS)}}))), "IP 10.0.0.1.5000 > 10.0.0.2.53: Flags [.], seq 1:30, ack 1, win 9, length 29: 2+ NS? a.example. (27)", ""},
		{"DNS name that commands a terminal", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(5000, 53), &layers.DNS{ID: 3, QDCount: 1, Questions: []layers.DNSQuestion{question("\x1b]0;owned\a\u202e\xff", layers.DNSTypeA)}}), `IP 10.0.0.1.5000 > 10.0.0.2.53: 3 A? \x1b]0;owned\a\u202e\xff. (32)`, ""},
		{"DHCP discover", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(68, 67), dhcp(layers.DHCPMsgTypeDiscover, layers.NewDHCPOption(layers.DHCPOptHostname, []byte("printer\x1b[31m")), layers.NewDHCPOption(layers.DHCPOptRequestIP, hostB))), `IP 10.0.0.1.68 > 10.0.0.2.67: DHCP Discover from 02:00:00:00:00:01 named printer\x1b[31m, asks for 10.0.0.2, length 264`, ""},
		{"DHCP ack", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(67, 68), acknowledged()), "IP 10.0.0.1.67 > 10.0.0.2.68: DHCP Ack from 02:00:00:00:00:01, gets 10.0.0.2, server 10.0.0.1, lease 3600s, length 256", ""},
		{"DHCPv6", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolUDP), udp(546, 547), raw{1, 0, 0, 9, 0, 39, 0, 6, 0, 4, 'h', 'o', 's', 't'}), "IP6 2001:db8::1.546 > 2001:db8::2.547: DHCP6 Solicit named host, length 14", ""},
		{"IGMP report", linkEthernet, build(t, ip, ip4(layers.IPProtocolIGMP), raw{0x16, 0, 9, 4, 224, 0, 0, 251}), "IP 10.0.0.1 > 10.0.0.2: IGMP v2-report 224.0.0.251", ""},
		{"IGMPv3 report", linkEthernet, build(t, ip, ip4(layers.IPProtocolIGMP), raw{0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3}), "IP 10.0.0.1 > 10.0.0.2: IGMP v3-report 239.1.2.3", ""},
		{"MLD report", linkEthernet, build(t, ipv6, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(143, 0)}, append(raw{0, 0, 0, 1, 4, 0, 0, 0}, net.ParseIP("ff02::fb")...)), "IP6 2001:db8::1 > 2001:db8::2: ICMP6, v2 listener report ff02::fb, length 28", ""},
		{"ESP", linkEthernet, build(t, ip, ip4(layers.IPProtocolESP), raw("0123456789")), "IP 10.0.0.1 > 10.0.0.2: ESP, length 10", ""},
		{"unknown IP protocol", linkEthernet, build(t, ip, ip4(253), raw("0123")), "IP 10.0.0.1 > 10.0.0.2: IP-PROTO-253, length 4", ""},
		{"IP in IP", linkEthernet, build(t, ip, ip4(layers.IPProtocolIPv4), ip4(layers.IPProtocolIPv6), ip6(layers.IPProtocolUDP), udp(1, 2), raw("x")), "IP 10.0.0.1 > 10.0.0.2: IP 10.0.0.1 > 10.0.0.2: IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 1", ""},
		{"GRE", linkEthernet, build(t, ip, ip4(layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeIPv4}, ip4(layers.IPProtocolUDP), udp(1, 2), raw("x")), "IP 10.0.0.1 > 10.0.0.2: GRE, length 33: IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 1", ""},
		{"VXLAN", linkEthernet, build(t, ip, ip4(layers.IPProtocolUDP), udp(9, 4789), &layers.VXLAN{ValidIDFlag: true, VNI: 8}, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(1, 2), raw("x")), "IP 10.0.0.1.9 > 10.0.0.2.4789: UDP, length 68: 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 60: 10.0.0.1.1 > 10.0.0.2.2: UDP, length 1", ""},
		{"MPLS", linkEthernet, build(t, ether(layers.EthernetTypeMPLSUnicast), &layers.MPLS{Label: 16, StackBottom: true, TTL: 9}, ip4(layers.IPProtocolUDP), udp(1, 2), raw("x")), "IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 1", ""},
		{"PPPoE", linkEthernet, build(t, ether(layers.EthernetTypePPPoESession), &layers.PPPoE{Version: 1, Type: 1, SessionId: 1}, &layers.PPP{PPPType: layers.PPPTypeIPv4}, ip4(layers.IPProtocolUDP), udp(1, 2), raw("x")), "IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 1", ""},
		{"STP", linkEthernet, build(t, &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: layers.EthernetTypeLLC}, &layers.LLC{DSAP: 0x42, SSAP: 0x42, Control: 3}, &layers.STP{TC: true, RouteID: layers.STPSwitchID{Priority: 0x8000, HwAddr: macA}, BridgeID: layers.STPSwitchID{Priority: 0x8000, SysID: 1, HwAddr: macB}, Cost: 4, PortID: 0x8001}), "STP 802.1d, config, bridge 8001.02:00:00:00:00:02.8001, root 8000.02:00:00:00:00:01, cost 4, topology change, length 38", ""},
		{"LLDP", linkEthernet, build(t, ether(layers.EthernetTypeLinkLayerDiscovery), &layers.LinkLayerDiscovery{ChassisID: layers.LLDPChassisID{Subtype: layers.LLDPChassisIDSubTypeMACAddr, ID: macA}, PortID: layers.LLDPPortID{Subtype: layers.LLDPPortIDSubtypeIfaceName, ID: []byte("ge-0/0/1")}, TTL: 120, Values: []layers.LinkLayerDiscoveryValue{{Type: layers.LLDPTLVSysName, Length: 3, Value: []byte("sw\x9b")}}}), `LLDP, chassis 02:00:00:00:00:01, port ge-0/0/1, system sw\x9b, ttl 120, length 46`, ""},
		{"unknown EtherType", linkEthernet, build(t, ether(0x88b5), raw("0123")), "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype Unknown (0x88b5), length 60", ""},
		{"wrong checksum", linkEthernet, spoiled(build(t, ip, ip4(layers.IPProtocolUDP), udp(1000, 2000), raw("x"))), "IP 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 1", "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 60: 10.0.0.1.1000 > 10.0.0.2.2000: UDP, length 1 (ttl 64, id 7, wrong checksum of udp)"},
	}
}

func fragment(offset uint16, more bool) *layers.IPv4 {
	l := ip4(layers.IPProtocolUDP)
	l.FragOffset = offset
	if more {
		l.Flags = layers.IPv4MoreFragments
	}
	return l
}

func overTCP(message []byte) raw {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

func acknowledged() *layers.DHCPv4 {
	d := dhcp(layers.DHCPMsgTypeAck, layers.NewDHCPOption(layers.DHCPOptServerID, hostA),
		layers.NewDHCPOption(layers.DHCPOptLeaseTime, []byte{0, 0, 0x0e, 0x10}))
	d.Operation, d.YourClientIP = layers.DHCPOpReply, hostB
	return d
}

// spoiled changes the byte of UDP's data, which is the last but for padding.
func spoiled(b []byte) []byte {
	b[14+20+8]++
	return b
}

// others returns packets of other link types.
func others(t testing.TB) []sample {
	ping := build(t, ip4(layers.IPProtocolUDP), udp(1, 2), raw("x"))
	ping6 := build(t, ip6(layers.IPProtocolUDP), udp(1, 2), raw("x"))
	const v4 = "IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 1"
	const v6 = "IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 1"
	behind := func(header string, p []byte) []byte { return append([]byte(header), p...) }
	llc := "\xaa\xaa\x03\x00\x00\x00\x08\x00"
	wlan := "\x08\x01\x00\x00\x02\x00\x00\x00\x00\x09\x02\x00\x00\x00\x00\x01" +
		"\x02\x00\x00\x00\x00\x02\x00\x00"
	beacon := "\x80\x00\x00\x00\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01" +
		"\x02\x00\x00\x00\x00\x01\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x64\x00\x11\x04\x00\x05ca\x07fe"
	log := make([]byte, 64)
	copy(log, []byte{61, 2, 1, 0})
	copy(log[4:], "em0")
	binary.BigEndian.PutUint32(log[36:], 3)
	binary.BigEndian.PutUint32(log[40:], 1<<32-1)
	log[60] = 1
	log14 := append(bytes.Clone(log), 0, 0, 0, 0, 0, 0, 0, 0) // FreeBSD 14 has 8 bytes more
	log14[0], log14[2], log14[60] = 69, 0, 2
	copy(log14[20:], "guests")
	binary.BigEndian.PutUint32(log14[40:], 5)
	return []sample{
		{"NULL of FreeBSD", linkNull, behind("\x02\x00\x00\x00", ping), v4, "loopback, length 33: " + v4 + " (ttl 64, id 7)"},
		{"NULL, IPv6 of FreeBSD", linkNull, behind("\x1c\x00\x00\x00", ping6), v6, ""},
		{"NULL, big-endian", linkNull, behind("\x00\x00\x00\x1e", ping6), v6, ""},
		{"LOOP", linkLoop, behind("\x00\x00\x00\x02", ping), v4, ""},
		{"LOOP, unknown family", linkLoop, behind("\x00\x00\x00\x63", ping), "LOOPBACK, length 29 [broken loopback: address family 99]", ""},
		{"ENC", linkENC, behind("\x02\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00", ping), v4, ""},
		{"RAW", linkRaw, ping, v4, ""},
		{"RAW, IPv6", linkRaw, ping6, v6, ""},
		{"RAW, nothing", linkRaw, nil, "DATA, length 0 [broken ip: neither IPv4 nor IPv6]", ""},
		{"PPP", linkPPP, behind("\xff\x03\x00\x21", ping), v4, ""},
		{"PPP, LCP", linkPPP, []byte("\xff\x03\xc0\x21\x01\x01\x00\x04"), "PPP, length 4", ""},
		{"HDLC", linkHDLC, behind("\x0f\x00\x86\xdd", ping6), v6, ""},
		{"PFLOG", linkPFLog, behind(string(log), ping), "rule 3/0(match): block in on em0: " + v4, ""},
		{"PFLOG of FreeBSD 14", linkPFLog, behind(string(log14), ping6), "rule 3.guests.5/0(match): pass out on em0: " + v6, ""},
		{"802.11 data", linkWLAN, behind(wlan+llc, ping), v4, "802.11 data, 02:00:00:00:00:01 > 02:00:00:00:00:09: IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 1 (ttl 64, id 7)"},
		{"802.11 beacon", linkWLAN, []byte(beacon), `802.11 beacon (ca\afe), 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, length 43`, ""},
		{"802.11 behind radiotap", linkRadiotap, behind("\x00\x00\x08\x00\x00\x00\x00\x00"+wlan+llc, ping), v4, ""},
		{"802.11 with padding", linkRadiotap, behind("\x00\x00\x09\x00\x02\x00\x00\x00\x20\x88"+wlan[1:]+"\x00\x00\x00\x00"+llc, ping), v4, ""},
		{"unknown link type", 147, []byte("0123"), "USER0, length 4", ""},
	}
}

func samples(t testing.TB) []sample { return append(frames(t), others(t)...) }
