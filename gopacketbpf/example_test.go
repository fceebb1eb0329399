package gopacketbpf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/gopacket/gopacket/reassembly"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/gopacketbpf"
)

// The loop over Packets, and what to do when it has ended. Look for ErrCorrupt first: PacketSource
// has discarded it.
func ExampleNew() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Expression: "udp port 53"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	h := gopacketbpf.New(ctx, r)
	defer h.Close()
	k.Interface("em0").Receive(udp(40000, 53))
	k.Interface("em0").Receive(udp(40000, 123))

	source := gopacket.NewZeroCopyPacketSource(h, h.LinkType())
	for packet := range source.Packets() {
		fmt.Println(packet.NetworkLayer().NetworkFlow(), packet.TransportLayer().TransportFlow())
	}
	switch err := h.Err(); {
	case errors.Is(err, bpf.ErrCorrupt):
		log.Fatal(err) // packets are missing
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrClosed):
		fmt.Println("over:", err)
	default:
		log.Fatal(err)
	}
	// Output:
	// 192.0.2.1->192.0.2.2 40000->53
	// over: context deadline exceeded
}

// A stream prints what one side of a TCP connection has sent, in its order.
type stream struct{ flow gopacket.Flow }

func (stream) Accept(
	*layers.TCP, gopacket.CaptureInfo, reassembly.TCPFlowDirection, reassembly.Sequence, *bool,
	reassembly.AssemblerContext,
) bool {
	return true
}

func (s stream) ReassembledSG(sg reassembly.ScatterGather, _ reassembly.AssemblerContext) {
	if n, _ := sg.Lengths(); n > 0 {
		fmt.Printf("%v: %q\n", s.flow, sg.Fetch(n))
	}
}

func (stream) ReassemblyComplete(reassembly.AssemblerContext) bool { return true }

type streams struct{}

func (streams) New(
	_, tcp gopacket.Flow, _ *layers.TCP, _ reassembly.AssemblerContext,
) reassembly.Stream {
	return stream{tcp}
}

// captureInfo gives package reassembly the facts about a packet.
type captureInfo gopacket.CaptureInfo

func (c captureInfo) GetCaptureInfo() gopacket.CaptureInfo { return gopacket.CaptureInfo(c) }

// TCP segments that come out of order are put together by gopacket's package reassembly.
func Example_reassembly() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Expression: "tcp port 80"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	h := gopacketbpf.New(ctx, r)
	defer h.Close()
	for _, segment := range []layers.TCP{
		{Seq: 99, SYN: true},
		{Seq: 100, ACK: true, BaseLayer: layers.BaseLayer{Payload: []byte("GET ")}},
		{Seq: 112, ACK: true, BaseLayer: layers.BaseLayer{Payload: []byte("HTTP/1.0\r\n\r\n")}},
		{Seq: 104, ACK: true, BaseLayer: layers.BaseLayer{Payload: []byte("/a.html ")}},
	} {
		k.Interface("em0").Receive(tcp(segment))
	}

	assembler := reassembly.NewAssembler(reassembly.NewStreamPool(streams{}))
	source := gopacket.NewZeroCopyPacketSource(h, h.LinkType())
	for packet := range source.Packets() {
		if tcp, ok := packet.TransportLayer().(*layers.TCP); ok {
			assembler.AssembleWithContext(packet.NetworkLayer().NetworkFlow(), tcp,
				captureInfo(packet.Metadata().CaptureInfo))
		}
	}
	assembler.FlushAll()
	fmt.Println(h.Err())
	// Output:
	// 40000->80: "GET "
	// 40000->80: "/a.html HTTP/1.0\r\n\r\n"
	// context deadline exceeded
}

// Package pcapgo writes a file of what is captured. ReadPacketDataTo copies each packet into memory
// of the program, so nothing is allocated for a packet.
func Example_pcapgo() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	k.AddInterface("tun0", zbuf.DLT_RAW)
	r, err := bpf.Open("tun0", bpf.Config{System: k, SnapLen: 64})
	if err != nil {
		log.Fatal(err)
	}
	h := gopacketbpf.New(context.Background(), r)
	defer h.Close()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6789, time.UTC)
	k.Interface("tun0").ReceiveAt(at, ipv4, len(ipv4))

	var file bytes.Buffer
	w := pcapgo.NewWriterNanos(&file)
	if err := w.WriteFileHeader(64, h.LinkType()); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 64)
	ci, err := h.ReadPacketDataTo(buf)
	if err != nil {
		log.Fatal(err)
	}
	if err := w.WritePacket(ci, buf[:ci.CaptureLength]); err != nil {
		log.Fatal(err)
	}

	in, err := pcapgo.NewReader(&file)
	if err != nil {
		log.Fatal(err)
	}
	data, ci, err := in.ReadPacketData()
	fmt.Println(in.LinkType(), ci.Timestamp, len(data), err)
	// Output: Raw 2026-01-02 03:04:05.000006789 +0000 UTC 20 <nil>
}

// udp is a datagram from 192.0.2.1 to 192.0.2.2.
func udp(from, to layers.UDPPort) []byte {
	return frame(layers.IPProtocolUDP, &layers.UDP{SrcPort: from, DstPort: to}, nil)
}

// tcp is a segment from port 40000 of 192.0.2.1 to port 80 of 192.0.2.2.
func tcp(s layers.TCP) []byte {
	s.SrcPort, s.DstPort, s.Window = 40000, 80, 1024
	return frame(layers.IPProtocolTCP, &s, s.Payload)
}

func frame(proto layers.IPProtocol, transport gopacket.SerializableLayer, payload []byte) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: []byte{192, 0, 2, 1},
		DstIP: []byte{192, 0, 2, 2}}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6),
			EthernetType: layers.EthernetTypeIPv4}, ip, transport, gopacket.Payload(payload))
	if err != nil {
		log.Fatal(err)
	}
	return b.Bytes()
}
