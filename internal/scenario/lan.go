package scenario

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// The hosts of the network. The addresses and names are those that documents may use.
var (
	hostMAC, routerMAC = net.HardwareAddr{2, 0, 0x5e, 0, 0, 7}, net.HardwareAddr{2, 0, 0x5e, 0, 0, 1}
	broadcast          = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	host, router       = net.IP{192, 0, 2, 7}, net.IP{192, 0, 2, 1}
	web                = net.IP{198, 51, 100, 10}
)

type header = gopacket.SerializableLayer

// lan shows the packets of a host that joins a network, looks up a name and opens a web page.
func lan(ctx context.Context, _ *bpftest.Kernel, em0 *bpftest.Interface) {
	for _, f := range lanFrames() {
		if em0.InjectWait(ctx, bpftest.Packet{Data: f}) != nil {
			return
		}
	}
}

func lanFrames() [][]byte {
	const page = "www.example.com"
	message := func(t layers.DHCPMsgType, o ...layers.DHCPOption) *layers.DHCPv4 {
		d := &layers.DHCPv4{
			Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
			Xid: 0x5eed, ClientHWAddr: hostMAC,
			Options: append(layers.DHCPOptions{
				layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(t)}),
			}, o...),
		}
		if t == layers.DHCPMsgTypeOffer || t == layers.DHCPMsgTypeAck {
			d.Operation, d.YourClientIP = layers.DHCPOpReply, host
		}
		return d
	}
	named := layers.NewDHCPOption(layers.DHCPOptHostname, []byte("laptop"))
	wanted := layers.NewDHCPOption(layers.DHCPOptRequestIP, host)
	server := layers.NewDHCPOption(layers.DHCPOptServerID, router)
	lease := layers.NewDHCPOption(layers.DHCPOptLeaseTime, []byte{0, 0, 0x0e, 0x10})
	nobody, all := net.IPv4zero, net.IPv4bcast
	up, down := &layers.UDP{SrcPort: 68, DstPort: 67}, &layers.UDP{SrcPort: 67, DstPort: 68}

	question := []layers.DNSQuestion{{Name: []byte(page), Type: layers.DNSTypeA,
		Class: layers.DNSClassIN}}
	query := &layers.DNS{ID: 4660, RD: true, QDCount: 1, Questions: question}
	answer := &layers.DNS{ID: 4660, QR: true, RD: true, RA: true, QDCount: 1, ANCount: 1,
		Questions: question, Answers: []layers.DNSResourceRecord{{Name: []byte(page),
			Type: layers.DNSTypeA, Class: layers.DNSClassIN, TTL: 300, IP: web}}}

	arp := func(operation uint16, from net.IP, fromMAC net.HardwareAddr, to net.IP,
		toMAC net.HardwareAddr) *layers.ARP {
		return &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: operation, SourceHwAddress: fromMAC,
			SourceProtAddress: from, DstHwAddress: toMAC, DstProtAddress: to}
	}
	mss := []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4,
		OptionData: []byte{5, 0xb4}}}
	hello := gopacket.Payload(clientHello(page))
	out := func(l *layers.TCP) []byte {
		l.SrcPort, l.DstPort, l.Window = 49152, 443, 65535
		return ethernet(hostMAC, routerMAC, ipv4(host, web, layers.IPProtocolTCP), l)
	}
	in := func(l *layers.TCP) []byte {
		l.SrcPort, l.DstPort, l.Window = 443, 49152, 65535
		return ethernet(routerMAC, hostMAC, ipv4(web, host, layers.IPProtocolTCP), l)
	}
	sent := &layers.TCP{SrcPort: 49152, DstPort: 443, Window: 65535, ACK: true, PSH: true, Seq: 1001,
		Ack: 2001}
	return [][]byte{
		ethernet(hostMAC, broadcast, ipv4(nobody, all, layers.IPProtocolUDP), up,
			message(layers.DHCPMsgTypeDiscover, named)),
		ethernet(routerMAC, hostMAC, ipv4(router, host, layers.IPProtocolUDP), down,
			message(layers.DHCPMsgTypeOffer, server, lease)),
		ethernet(hostMAC, broadcast, ipv4(nobody, all, layers.IPProtocolUDP), up,
			message(layers.DHCPMsgTypeRequest, named, wanted, server)),
		ethernet(routerMAC, hostMAC, ipv4(router, host, layers.IPProtocolUDP), down,
			message(layers.DHCPMsgTypeAck, server, lease)),
		ethernet(hostMAC, broadcast, arp(layers.ARPRequest, host, hostMAC, router,
			make(net.HardwareAddr, 6))),
		ethernet(routerMAC, hostMAC, arp(layers.ARPReply, router, routerMAC, host, hostMAC)),
		ethernet(hostMAC, routerMAC, ipv4(host, router, layers.IPProtocolUDP),
			&layers.UDP{SrcPort: 49153, DstPort: 53}, query),
		ethernet(routerMAC, hostMAC, ipv4(router, host, layers.IPProtocolUDP),
			&layers.UDP{SrcPort: 53, DstPort: 49153}, answer),
		out(&layers.TCP{SYN: true, Seq: 1000, Options: mss}),
		in(&layers.TCP{SYN: true, ACK: true, Seq: 2000, Ack: 1001, Options: mss}),
		out(&layers.TCP{ACK: true, Seq: 1001, Ack: 2001}),
		ethernet(hostMAC, routerMAC, ipv4(host, web, layers.IPProtocolTCP), sent, hello),
		in(&layers.TCP{RST: true, ACK: true, Seq: 2001, Ack: 1001 + uint32(len(hello))}),
		ethernet(hostMAC, routerMAC, ipv4(host, web, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7,
				Seq: 1}, gopacket.Payload(make([]byte, 56))),
	}
}

func ipv4(src, dst net.IP, p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: src, DstIP: dst}
}

// ethernet makes a frame of what it carries, with lengths and checksums.
func ethernet(src, dst net.HardwareAddr, all ...header) []byte {
	typ := layers.EthernetTypeIPv4
	var ip gopacket.NetworkLayer
	for _, l := range all {
		switch l := l.(type) {
		case *layers.ARP:
			typ = layers.EthernetTypeARP
		case *layers.IPv4:
			ip = l
		case interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}:
			l.SetNetworkLayerForChecksum(ip)
		}
	}
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	err := gopacket.SerializeLayers(b, opts,
		append([]header{&layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: typ}}, all...)...)
	if err != nil {
		panic(fmt.Sprintf("a frame of the model: %v", err)) // of constants
	}
	return b.Bytes()
}

// clientHello makes the first message of a TLS client, which asks for a name.
func clientHello(name string) []byte {
	vector := func(lengthBytes int, parts ...string) string {
		n := 0
		for _, p := range parts {
			n += len(p)
		}
		s := string(binary.BigEndian.AppendUint32(nil, uint32(n))[4-lengthBytes:])
		for _, p := range parts {
			s += p
		}
		return s
	}
	sni := "\x00\x00" + vector(2, vector(2, "\x00", vector(2, name)))
	alpn := "\x00\x10" + vector(2, vector(2, vector(1, "h2")))
	versions := "\x00\x2b" + vector(2, vector(1, "\x03\x04\x03\x03"))
	hello := "\x03\x03" + string(make([]byte, 32)) + vector(1) + vector(2, "\x13\x01") +
		vector(1, "\x00") + vector(2, sni, alpn, versions)
	return []byte("\x16\x03\x01" + vector(2, "\x01"+vector(3, hello)))
}
