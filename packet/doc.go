// Package packet is a net.PacketConn for Ethernet frames on FreeBSD. It reads and writes them
// through bpf(4).
//
// Its methods and types are those of github.com/mdlayher/packet, which is for Linux alone. So a
// program for Linux runs on FreeBSD once it imports this package instead. DHCP servers and clients,
// and tools for ARP or LLDP, take such a PacketConn:
//
//	ifi, err := net.InterfaceByName("em0")
//	if err != nil {
//		return err
//	}
//	c, err := packet.Listen(ifi, packet.Datagram, 0x0800, nil) // IPv4
//
// A [Raw] Conn reads and writes whole frames. A [Datagram] Conn reads and writes what follows the
// Ethernet header. bpf(4) has no such mode, so the package adds the header to each frame that is
// written and removes it from each frame that is read.
//
// The folder clients of the module runs mdlayher/arp and insomniacslk/dhcp on it.
//
// # What a Conn reads
//
// The kernel passes only frames of the Conn's protocol, from the first frame on. The protocol is an
// EtherType, or [All]. A filter of [Config] or [Conn.SetBPF] can only narrow that.
//
// A Conn does not read what this host sends, itself included. [Config].OwnFrames changes that.
//
// A frame that comes with a VLAN tag has the EtherType 0x8100 here. Linux hides the tag.
//
// # Differences from packet sockets of Linux
//
//   - Protocols are EtherTypes, [All], or 0, with which a Conn reads nothing. The numbers of Linux
//     below 0x600 for frames without an EtherType are errors.
//   - A Datagram Conn of All or 0 can't write, because its frames have no EtherType.
//   - [Conn.WriteTo] takes addresses of other packages too.
//   - There is no SyscallConn. The reader keeps track of what it asks of its descriptor. A program
//     that flushes the descriptor, or changes its filter, would make it skip frames. The runtime
//     can't wait for the descriptor, so a RawConn could not do that either.
//   - [Conn.JoinGroup] takes multicast addresses alone. The groups of a program that ends without
//     Close stay, and two programs do not count a group together.
//
// # Without FreeBSD
//
// A Conn runs on the model of package bpftest too: see [Config].System. Without a model, [Listen]
// fails on other systems. errors.Is finds [errors.ErrUnsupported] in its error.
package packet
