package filter

import (
	"encoding/binary"
	"fmt"
)

// framing is the way in which a link layer names the protocol that follows.
type framing uint8

const (
	framingNone   framing = iota // it does not
	framingEther                 // an Ethernet type, or a length and an LLC header
	framingFamily                // an address family, 4 bytes
	framingPF                    // an address family, 1 byte
	framingIP                    // only IP, by its version
	framingPPP                   // a PPP protocol number
	framingSLL                   // an Ethernet type, or 4 for an LLC header
	framingSLL2                  // an Ethernet type
	framingWLAN                  // an LLC header in data frames
)

// layers has the places of the headers at one point of an expression. vlan, mpls, pppoes, geneve
// and vxlan move them for everything to their right.
type layers struct {
	name    string
	framing framing
	header  place  // the link header, for ether[…] and Ethernet addresses
	proto   place  // the field that says which protocol follows
	payload place  // behind the link header; the LLC header, if there is one
	network uint32 // from payload to the network header: behind the LLC header, if that is fixed
	osi     uint32 // from payload to an OSI header
	macs    bool   // the header has Ethernet addresses
	ifMACs  *form  // condition that it has them, if not always
	radio   bool   // the packet begins with a radiotap header
	mpls    bool   // PPP that can carry MPLS
	labels  int    // MPLS labels so far
}

const (
	etherIP     = 0x800
	etherARP    = 0x806
	etherRARP   = 0x8035
	etherIPv6   = 0x86dd
	etherAtalk  = 0x809b
	etherDECnet = 0x6003
	etherXNS    = 0x600
	etherAARP   = 0x80f3
	etherIPX    = 0x8137
	etherMPLS   = 0x8847
	etherPPPoED = 0x8863
	etherPPPoES = 0x8864
	sapSTP      = 0x42
	sapIPX      = 0xe0
	sapNetBEUI  = 0xf0
	sapISO      = 0xfe
	maxLength   = 1500 // larger values are Ethernet types
)

// linkLayers returns the places of the headers of a link type.
func (l *lowerer) linkLayers(dlt uint32) (layers, error) {
	at := func(n uint32) place { return place{off: n} }
	switch dlt {
	case DLTEthernet:
		return layers{name: "Ethernet", framing: framingEther, proto: at(12), payload: at(14), osi: 3,
			macs: true}, nil
	case DLTNull, DLTLoop:
		return layers{name: "the loopback interface", framing: framingFamily, payload: at(4)}, nil
	case DLTEnc:
		return layers{name: "enc(4)", framing: framingFamily, payload: at(12)}, nil
	case DLTRaw, DLTRawFile, DLTIPv4, DLTIPv6:
		return layers{name: "raw IP", framing: framingIP}, nil
	case DLTPPP, DLTPPPSerial:
		return layers{name: "PPP", framing: framingPPP, proto: at(2), payload: at(4),
			mpls: dlt == DLTPPP}, nil
	case DLTPPPEther:
		return layers{name: "PPP", framing: framingPPP, proto: at(6), payload: at(8)}, nil
	case DLTLinuxSLL:
		return layers{name: "Linux's cooked capture", framing: framingSLL, proto: at(14), payload: at(16),
			osi: 3}, nil
	case DLTLinuxSLL2:
		return layers{name: "Linux's cooked capture", framing: framingSLL2, payload: at(20)}, nil
	case DLTPFLog:
		length := l.compute(aluAnd, l.compute(aluAdd, l.load(1, at(0)), l.constant(3)),
			l.constant(^uint32(3)))
		return layers{name: "pflog(4)", framing: framingPF, proto: at(1), payload: place{base: length}},
			nil
	case DLTWLAN, DLTWLANRadio:
		return l.wlanLayers(dlt == DLTWLANRadio), nil
	}
	return layers{name: fmt.Sprintf("link type %d", dlt)}, nil
}

// wlanLayers returns the layers of 802.11 frames. The header has 24 bytes, and two more with a QoS
// field. A radiotap header before it may say that it is filled up to a multiple of 4.
func (l *lowerer) wlanLayers(radio bool) layers {
	w := layers{name: "802.11", framing: framingWLAN, network: 8, osi: 3, macs: true, radio: radio}
	if radio {
		high := l.compute(aluLsh, l.load(1, place{off: 3}), l.constant(8))
		w.header.base = l.compute(aluOr, high, l.load(1, place{off: 2}))
	}
	qos := l.compute(aluRsh, l.compute(aluAnd, l.load(1, w.header), l.constant(0x80)), l.constant(6))
	w.payload = l.moved(w.header, qos)
	if radio {
		w.payload.base = l.make(value{op: opPadded, a: w.payload.base})
	}
	w.payload.off += 24
	w.proto = w.payload.plus(6)
	return w
}

// networkHeader returns the place of the network header.
func (a *layers) networkHeader() place { return a.payload.plus(a.network) }

// dataFrame returns the condition that an 802.11 frame carries data.
func (l *lowerer) dataFrame() *form {
	fc := l.load(1, l.at.header)
	return and(not(test(fc, relBits, 4)), test(fc, relBits, 8))
}

// carries returns the condition that the link layer carries a protocol, given by its Ethernet type
// or, below 1501, by its LLC service access point.
func (l *lowerer) carries(proto uint32) (*form, error) {
	a := &l.at
	if a.labels > 0 {
		if proto != etherIP && proto != etherIPv6 {
			return nil, l.fail("behind an MPLS label only IPv4 and IPv6 can be told", "",
				"ip or ip6, or the fields by offset")
		}
		bottom := l.load(1, a.networkHeader().plus(^uint32(1)))
		return and(test(bottom, relBits, 1), l.version(proto)), nil
	}
	switch a.framing {
	case framingEther:
		if proto > maxLength {
			switch proto {
			case etherAtalk, etherAARP:
				return or(equal(l.load(2, a.proto), proto), and(l.llc(), l.snap(proto))), nil
			}
			return equal(l.load(2, a.proto), proto), nil
		}
		if proto == sapIPX {
			return or(equal(l.load(2, a.proto), etherIPX), and(l.llc(), or(l.snap(etherIPX),
				equal(l.load(1, a.payload), sapIPX), equal(l.load(2, a.payload), 0xffff)))), nil
		}
		return and(l.llc(), l.sap(proto)), nil
	case framingWLAN:
		data := l.dataFrame()
		switch {
		case proto == etherAtalk:
			return and(data, l.snap(proto)), nil
		case proto > maxLength:
			return and(data, equal(l.load(2, a.proto), proto)), nil
		}
		return and(data, l.sap(proto)), nil
	case framingSLL:
		field := l.load(2, a.proto)
		llc := equal(field, 4)
		switch {
		case proto == etherAtalk, proto == etherAARP:
			return or(equal(field, proto), and(llc, l.snap(proto))), nil
		case proto > maxLength:
			return equal(field, proto), nil
		case proto == sapIPX:
			return or(equal(field, etherIPX), equal(field, 1), and(llc,
				or(equal(l.load(1, a.payload), sapIPX), l.snap(etherIPX)))), nil
		}
		return and(llc, l.sap(proto)), nil
	case framingSLL2:
		return equal(l.load(2, a.proto), proto), nil
	case framingPPP:
		return equal(l.load(2, a.proto), pppProtocol(proto)), nil
	case framingIP:
		switch {
		case l.opt.LinkType == DLTIPv4 && proto == etherIP, l.opt.LinkType == DLTIPv6 &&
			proto == etherIPv6:
			return always, nil
		case l.opt.LinkType == DLTIPv4, l.opt.LinkType == DLTIPv6, proto != etherIP && proto != etherIPv6:
			return never, nil
		}
		return l.version(proto), nil
	case framingFamily, framingPF:
		return l.family(proto), nil
	}
	return nil, l.fail(fmt.Sprintf("the compiler does not know the headers of %s", a.name),
		"len, less, greater and link[…]", "the bytes by offset, as in link[14] = 5")
}

// family returns the condition that the link header has the address family of a protocol.
func (l *lowerer) family(proto uint32) *form {
	var families []uint32
	switch proto {
	case etherIP:
		families = []uint32{familyInet}
	case etherIPv6:
		families = l.opt.inet6()
	default:
		return never
	}
	var any []*form
	for _, family := range families {
		switch {
		case l.at.framing == framingPF:
			any = append(any, equal(l.load(1, l.at.proto), family))
			continue
		case l.opt.LinkType != DLTLoop:
			var b [4]byte
			l.opt.order().PutUint32(b[:], family)
			family = binary.BigEndian.Uint32(b[:])
		}
		any = append(any, equal(l.load(4, l.at.proto), family))
	}
	return or(any...)
}

// version returns the condition that the network header begins with the version of IP.
func (l *lowerer) version(proto uint32) *form {
	v := uint32(0x40)
	if proto == etherIPv6 {
		v = 0x60
	}
	return equal(l.compute(aluAnd, l.load(1, l.at.networkHeader()), l.constant(0xf0)), v)
}

// llc returns the condition that an Ethernet frame has a length and so an LLC header.
func (l *lowerer) llc() *form { return not(test(l.load(2, l.at.proto), relGreater, maxLength)) }

// sap returns the condition on the service access points of an LLC header.
func (l *lowerer) sap(proto uint32) *form {
	if proto == sapISO || proto == sapNetBEUI {
		return equal(l.load(2, l.at.payload), proto<<8|proto)
	}
	return equal(l.load(1, l.at.payload), proto)
}

// snap returns the condition that an LLC header is in SNAP form, with that type.
func (l *lowerer) snap(proto uint32) *form {
	oui := uint32(0)
	if proto == etherAtalk {
		oui = 0x080007
	}
	return and(equal(l.load(4, l.at.payload.plus(4)), oui<<16|proto),
		equal(l.load(4, l.at.payload), 0xaaaa0300|oui>>16))
}

// pppProtocol returns the PPP protocol number for an Ethernet type or service access point.
func pppProtocol(proto uint32) uint32 {
	switch proto {
	case etherIP:
		return 0x21
	case etherIPv6:
		return 0x57
	case etherDECnet:
		return 0x27
	case etherAtalk:
		return 0x29
	case etherXNS:
		return 0x25
	case etherMPLS:
		return 0x281
	case sapISO:
		return 0x23
	case sapSTP:
		return 0x31
	case sapIPX:
		return 0x2b
	}
	return proto
}
