// Package filter compiles the expressions of pcap-filter(7), such as "tcp port 80 and host
// 10.0.0.1", to programs for bpf(4). It is written in Go and needs no libpcap.
//
//	program, err := filter.Compile("tcp port 80", filter.Options{LinkType: filter.DLTEthernet})
//
// The link type decides where headers are. It must be that of the interface or file. The compiler
// knows the headers of Ethernet, the loopback interface ([DLTNull], [DLTLoop]), raw IP, PPP,
// enc(4), pflog(4), 802.11 with and without radiotap, and Linux's cooked captures. For other link
// types an expression can use len, less, greater and the packet's bytes, as in link[4:2] = 5.
//
// # The language
//
// The compiler takes the language of libpcap 1.10.3's manual page, and vxlan. The manual leaves
// some questions open. These rules decide them:
//
//   - A program evaluates an expression from left to right. "and" and "or" bind equally. If the
//     left side decides, the program does not evaluate the right side.
//   - A byte beyond the captured packet refuses the packet, in every expression: "not ip[100] = 1"
//     also refuses a packet of 60 bytes. FreeBSD's kernel has one exception, for half words of
//     packets that come from an interface: docs/kernel.md has it.
//   - Neighbours that ask the same fields for other values are one question. "port 80 or port 443"
//     first asks whether the source port is one of them, and then the destination port.
//   - Numbers have 32 bits and wrap around. A division by zero refuses the packet. A shift by a
//     calculated count takes the count modulo 32.
//   - vlan, mpls, pppoes, geneve and vxlan move the headers for everything to their right, also
//     across "or" and brackets.
//   - inbound and outbound need a link header that tells the direction: that of pflog(4) or of
//     Linux's cooked captures. Elsewhere set the Direction of the reader's configuration.
//   - The compiler refuses protochain. It needs a jump backwards, and no kernel takes one.
//   - Comments are not part of the language. [StripComments] removes them from the text of a file.
//
// # Names
//
// The compiler reads no file and asks no server. It knows the protocols that have a keyword. Every
// other name goes to the functions in [Options].Names.
//
// # Programs
//
// A compiled program is valid for every BSD and for Linux: it only jumps forward and uses no
// extension. A [VM] runs it as FreeBSD's kernel does. [VM.Trace] shows the way of a packet through
// it. [Disassemble] prints it as tcpdump -d does.
//
// Errors are of type [*Error]. An Error has the problem, its place, and a hint what to write
// instead.
//
// docs/filter.md follows one expression through the compiler.
package filter
