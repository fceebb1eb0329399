package filter

import "math/bits"

// tunnel lowers "geneve" and "vxlan": a packet within UDP, and everything to the right is in it.
func (l *lowerer) tunnel(w *Word) (*form, error) {
	if err := l.limit(w, "network identifier", 1<<24-1); err != nil {
		return nil, err
	}
	geneve := w.Name == "geneve"
	port := uint32(4789)
	if geneve {
		port = 6081
	}
	net := l.at.networkHeader()
	behind := func(udp place) *form {
		f := and(equal(l.load(2, udp.plus(2)), port))
		if geneve { // version 0
			f.kids = append(f.kids, equal(l.compute(aluAnd, l.load(1, udp.plus(8)), l.constant(0xc0)), 0))
		} else { // the identifier is valid
			f.kids = append(f.kids, test(l.load(1, udp.plus(8)), relBits, 8))
		}
		if len(w.Args) > 0 {
			vni := w.Args[0].Number << 8
			f.kids = append(f.kids, in(l.load(4, udp.plus(12)), []interval{{vni, vni | 0xff}}))
		}
		return f
	}
	ip, err := l.carries(etherIP)
	if err != nil {
		return nil, err
	}
	ip6, err := l.carries(etherIPv6)
	if err != nil {
		return nil, err
	}
	f := or(
		and(ip, equal(l.load(1, net.plus(9)), 17), not(test(l.load(2, net.plus(6)), relBits, 0x1fff)),
			behind(l.moved(net, l.headerLen(net)))),
		and(ip6, equal(l.load(1, net.plus(6)), 17), behind(net.plus(40))))

	// The place of the UDP header is one value for both families, so one program does for both.
	header := l.headerLen(net)
	length := l.compute(aluXor, header, l.compute(aluAnd, l.compute(aluXor, header, l.constant(40)),
		l.negative(l.isIPv6())))
	outer := l.moved(net, length).plus(8)
	l.at = layers{name: "Ethernet", framing: framingEther, osi: 3, macs: true}
	if !geneve {
		l.at.header = outer.plus(8)
		l.at.proto, l.at.payload = l.at.header.plus(12), l.at.header.plus(14)
		return f, nil
	}
	options := l.compute(aluLsh, l.compute(aluAnd, l.load(1, outer), l.constant(0x3f)), l.constant(2))
	// 1 if an Ethernet frame is inside, and 0 if a network header follows at once.
	inner := l.load(2, outer.plus(2))
	ethernet := l.compute(aluRsh, l.compute(aluSub, l.compute(aluXor, inner, l.constant(0x6558)),
		l.constant(1)),
		l.constant(31))
	l.at.header = l.moved(outer, options).plus(8)
	l.at.proto = l.moved(outer, l.compute(aluMul, l.compute(aluAdd, options, l.constant(18)),
		ethernet)).plus(2)
	l.at.payload = l.moved(l.at.header, l.compute(aluMul, ethernet, l.constant(14)))
	l.at.ifMACs = equal(inner, 0x6558)
	return f, nil
}

// isIPv6 returns 1 behind a link layer that announces IPv6 and 0 behind one that announces IPv4.
func (l *lowerer) isIPv6() *value {
	a := &l.at
	field, four, six := l.load(1, a.networkHeader()), uint32(0x40), uint32(0x60)
	if a.labels == 0 {
		switch a.framing {
		case framingEther, framingWLAN, framingSLL, framingSLL2:
			field, four, six = l.load(2, a.proto), etherIP, etherIPv6
		case framingPPP:
			field, four, six = l.load(2, a.proto), pppProtocol(etherIP), pppProtocol(etherIPv6)
		}
	}
	bit := uint32(bits.TrailingZeros32(six &^ four))
	return l.compute(aluAnd, l.compute(aluRsh, field, l.constant(bit)), l.constant(1))
}
