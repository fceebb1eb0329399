package filter

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Link types of which the compiler knows the headers. The numbers are FreeBSD's DLT numbers.
const (
	DLTNull      = 0   // lo0, tun: the address family in host order
	DLTEthernet  = 1   // DLT_EN10MB
	DLTPPP       = 9   // ng_ppp, ppp
	DLTRaw       = 12  // an IP packet without a link header
	DLTPPPSerial = 50  // PPP in HDLC framing
	DLTPPPEther  = 51  // PPP over Ethernet without the Ethernet header
	DLTRawFile   = 101 // DLTRaw as files number it
	DLTWLAN      = 105 // DLT_IEEE802_11
	DLTLoop      = 108 // the address family in network order
	DLTEnc       = 109 // enc0
	DLTLinuxSLL  = 113 // Linux's "any" device, in files
	DLTPFLog     = 117 // pflog0
	DLTWLANRadio = 127 // DLT_IEEE802_11_RADIO
	DLTIPv4      = 228
	DLTIPv6      = 229
	DLTLinuxSLL2 = 276
)

const (
	defaultSnap   = 262144
	defaultLimit  = 512
	freebsdInet6  = 28
	familyInet    = 2
	maximumLength = 1 << 20 // bytes of an expression
)

// AnyInet6 as [Options].AFInet6 stands for the numbers of every system: FreeBSD's 28, the 24 of
// NetBSD and OpenBSD, the 30 of Darwin and Linux's 10. Use it for files, because a file does not
// name the system that wrote it.
const AnyInet6 = ^uint32(0)

// inet6Numbers lists the numbers that AnyInet6 stands for.
var inet6Numbers = []uint32{10, 24, freebsdInet6, 30}

// Options describe the link type and the system for which [Compile] makes a program. The zero value
// is right for FreeBSD's lo0.
type Options struct {
	// LinkType is the DLT number of the interface or file.
	LinkType uint32
	// SnapLen is the number of bytes of a matching packet that the program asks for. 0 stands for
	// 262144.
	SnapLen uint32
	// Netmask is the IPv4 netmask of the interface, for "ip broadcast". 0 means that it is unknown.
	// Then only 0.0.0.0 and 255.255.255.255 are broadcast addresses.
	Netmask uint32
	// MaxInstructions is the longest program allowed. 0 stands for 512, FreeBSD's limit.
	MaxInstructions int
	// AFInet6 is the number of the address family INET6 in the headers of [DLTNull], [DLTLoop],
	// [DLTEnc] and [DLTPFLog]. 0 stands for 28, FreeBSD's number. See [AnyInet6].
	AFInet6 uint32
	// ByteOrder is that of the host that captured, for [DLTNull] and [DLTEnc]. nil stands for this
	// host's.
	ByteOrder binary.ByteOrder
	// Names looks up the names that are no keywords. Without it, no expression makes the compiler
	// touch a file or the network.
	Names Names
	// NoOptimize makes the program follow the expression, test by test.
	NoOptimize bool
}

// Names are functions that look up names. Each may be nil. If one returns an error, [Compile]
// refuses the expression.
type Names struct {
	Host  func(name string) ([]netip.Addr, error)     // "host NAME" and "gateway NAME"
	Net   func(name string) (netip.Prefix, error)     // "net NAME"
	Ether func(name string) (net.HardwareAddr, error) // "ether host NAME" and "gateway NAME"
	Proto func(name string) (number uint8, err error) // "ip proto NAME"
	Port  func(name string) (tcp, udp int, err error) // "port NAME"; -1 if the protocol has none
}

func (o Options) order() binary.ByteOrder {
	if o.ByteOrder != nil {
		return o.ByteOrder
	}
	return binary.NativeEndian
}

func (o Options) inet6() []uint32 {
	switch o.AFInet6 {
	case 0:
		return []uint32{freebsdInet6}
	case AnyInet6:
		return inet6Numbers
	}
	return []uint32{o.AFInet6}
}

func (o Options) limit() int {
	if o.MaxInstructions > 0 {
		return o.MaxInstructions
	}
	return defaultLimit
}

func (o Options) snap() uint32 {
	if o.SnapLen > 0 {
		return o.SnapLen
	}
	return defaultSnap
}
