// Package gopacketbpf gives the packets of a [bpf.Reader] to programs that use gopacket
// (github.com/gopacket/gopacket).
//
//	import (
//		"github.com/gopacket/gopacket"
//
//		"github.com/zbuf-go/zbuf/bpf"
//		"github.com/zbuf-go/zbuf/gopacketbpf"
//	)
//
//	r, err := bpf.Open("em0", bpf.Config{Expression: "tcp port 80", Promiscuous: true})
//	if err != nil {
//		return err
//	}
//	h := gopacketbpf.New(ctx, r)
//	defer h.Close()
//	source := gopacket.NewZeroCopyPacketSource(h, h.LinkType())
//	for packet := range source.Packets() {
//		use(packet)
//	}
//	return h.Err() // why the channel was closed
//
// A gopacket.PacketSource copies each packet that it decodes. So NewZeroCopyPacketSource copies a
// packet once, and NewPacketSource twice. Do not set NoCopy of a source that
// NewZeroCopyPacketSource has made, and then call Packets: the packets in the channel would refer
// to memory that the reader has given back. With NoCopy call NextPacket, and use each packet before
// the next call.
//
// # Errors
//
// The channel of PacketSource.Packets is closed when a read returns io.EOF. PacketSource discards
// most other errors and reads again after 5 ms. So the reading methods of a [Handle] sort the
// errors of the Reader:
//   - An error that ends the capture becomes io.EOF, and so does every later read. Close, an
//     interface that has gone, and a context that is done end it, and every error that is not
//     listed below. [Handle.Err] returns the error itself.
//   - [bpf.ErrCorrupt] is returned once. The next read goes on with the next buffer. PacketSource
//     discards it, so Handle.Err has it too, from then on.
//   - [os.ErrDeadlineExceeded], after the time of [bpf.Reader.SetReadDeadline], is returned as it
//     is. It is a net.Error with Timeout, which PacketSource takes for a pause. A later deadline,
//     or none, lets reads go on.
//   - [bpf.ErrLeaseOut] is returned as it is: somebody else is reading. Nothing is lost.
//
// docs/moving.md of the module shows how to move a program over from gopacket's packages pcap and
// bsdbpf.
package gopacketbpf
