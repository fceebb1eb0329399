package gopacketbpf_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/gopacketbpf"
)

// A DHCP watcher says who asks for an address, and which address each gets.
func Example_dhcpWatcher() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Expression: "udp port 67 or udp port 68"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	h := gopacketbpf.New(ctx, r)
	defer h.Close()
	k.Interface("em0").Receive(dhcp(layers.DHCPMsgTypeDiscover, net.IPv4zero))
	k.Interface("em0").Receive(dhcp(layers.DHCPMsgTypeOffer, net.IPv4(192, 0, 2, 7)))
	k.Interface("em0").Receive(udp(67, 68)) // no DHCP
	k.Interface("em0").Receive(dhcp(layers.DHCPMsgTypeAck, net.IPv4(192, 0, 2, 7)))

	source := gopacket.NewZeroCopyPacketSource(h, h.LinkType())
	for packet := range source.Packets() {
		message, ok := packet.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
		if !ok {
			continue
		}
		for _, o := range message.Options {
			if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
				fmt.Println(message.ClientHWAddr, layers.DHCPMsgType(o.Data[0]), message.YourClientIP)
			}
		}
	}
	fmt.Println(h.Err())
	// Output:
	// 02:00:00:00:00:01 Discover 0.0.0.0
	// 02:00:00:00:00:01 Offer 192.0.2.7
	// 02:00:00:00:00:01 Ack 192.0.2.7
	// context deadline exceeded
}

// dhcp is a message between 02:00:00:00:00:01 and a server.
func dhcp(what layers.DHCPMsgType, yours net.IP) []byte {
	message := &layers.DHCPv4{HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		ClientHWAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, YourClientIP: yours,
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(what)})}}
	from, to := layers.UDPPort(68), layers.UDPPort(67)
	if message.Operation = layers.DHCPOpRequest; what != layers.DHCPMsgTypeDiscover {
		message.Operation, from, to = layers.DHCPOpReply, to, from
	}
	b := gopacket.NewSerializeBuffer()
	err := message.SerializeTo(b, gopacket.SerializeOptions{FixLengths: true})
	if err != nil {
		log.Fatal(err)
	}
	return frame(layers.IPProtocolUDP, &layers.UDP{SrcPort: from, DstPort: to}, b.Bytes())
}
