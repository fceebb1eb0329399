package filter

import (
	"fmt"
	"strconv"
	"strings"
)

// etherQuery lowers "ether host" and its kin.
func (l *lowerer) etherQuery(m *Match) (*form, error) {
	if m.Type == "net" {
		return nil, l.fail("Ethernet addresses have no nets", "",
			"ether host 00:11:22:33:44:55, or ether[0:2] = 0x11")
	}
	mac, err := l.mac(m)
	if err != nil {
		return nil, err
	}
	return l.etherAddress(m.Dir, mac)
}

func (l *lowerer) mac(m *Match) (mac [6]byte, err error) {
	switch m.ID.Kind {
	case tokMAC:
		return parseMAC(m.ID.Text), nil
	case tokName:
		if l.opt.Names.Ether == nil {
			return mac, l.fail("names of Ethernet addresses are not looked up here", "an Ethernet address",
				"ether host 00:11:22:33:44:55")
		}
		a, err := l.opt.Names.Ether(m.ID.Text)
		if err != nil || len(a) != 6 {
			return mac, l.fail(fmt.Sprintf("no Ethernet address is known as %q%s", m.ID.Text, because(err)),
				"", "")
		}
		return [6]byte(a), nil
	}
	return mac, l.fail(m.ID.Text+" is not an Ethernet address", "",
		"ether host 00:11:22:33:44:55, or host "+m.ID.Text)
}

// etherAddress returns the condition on the addresses of the link layer.
func (l *lowerer) etherAddress(dir string, mac [6]byte) (*form, error) {
	if !l.at.macs {
		return nil, l.fail(l.at.name+" has no Ethernet addresses", "", "host with an IP address")
	}
	at := func(off uint32) *form { return l.macAt(off, mac) }
	if l.at.ifMACs != nil {
		inner := at
		at = func(off uint32) *form { return and(l.at.ifMACs, inner(off)) }
	}
	wlan := l.at.framing == framingWLAN
	switch dir {
	case "", "src", "dst", "src and dst":
		if wlan {
			return side(dir, func() *form { return l.wlanSource(at) },
				func() *form { return l.wlanDestination(at) }), nil
		}
		return side(dir, func() *form { return at(6) }, func() *form { return at(0) }), nil
	}
	if !wlan {
		return nil, l.fail(fmt.Sprintf("%q is an address of 802.11 only", dir), `"src" or "dst"`, "")
	}
	return l.wlanAddress(dir, at), nil
}

// macAt compares the low four bytes first: they differ more often than the maker's prefix.
func (l *lowerer) macAt(off uint32, mac [6]byte) *form {
	at := l.at.header.plus(off)
	return and(equal(l.load(4, at.plus(2)), number(mac[2:])),
		equal(l.load(2, at), uint32(mac[0])<<8|uint32(mac[1])))
}

// broadcast lowers "broadcast".
func (l *lowerer) broadcast(proto string) (*form, error) {
	switch proto {
	case "":
		if !l.at.macs {
			return nil, l.fail(l.at.name+" has no broadcast address", "", "ip broadcast")
		}
		return l.etherAddress("dst", [6]byte{255, 255, 255, 255, 255, 255})
	case "ip":
		ip, err := l.carries(etherIP)
		if err != nil {
			return nil, err
		}
		host := ^l.opt.Netmask
		to := l.compute(aluAnd, l.load(4, l.at.networkHeader().plus(16)), l.constant(host))
		return and(ip, or(equal(to, 0), equal(to, host))), nil
	}
	return nil, l.fail(fmt.Sprintf("%q has no broadcast address", proto),
		`"ether broadcast" or "ip broadcast"`, "")
}

// multicast lowers "multicast".
func (l *lowerer) multicast(proto string) (*form, error) {
	net := l.at.networkHeader()
	switch proto {
	case "":
		if !l.at.macs {
			return nil, l.fail(l.at.name+" has no multicast addresses", "", "ip multicast or ip6 multicast")
		}
		group := func(off uint32) *form { return test(l.load(1, l.at.header.plus(off)), relBits, 1) }
		if l.at.framing == framingWLAN {
			return l.wlanDestination(group), nil
		}
		if l.at.ifMACs != nil {
			return and(l.at.ifMACs, group(0)), nil
		}
		return group(0), nil
	case "ip":
		ip, err := l.carries(etherIP)
		if err != nil {
			return nil, err
		}
		return and(ip, test(l.load(1, net.plus(16)), relAtLeast, 224)), nil
	case "ip6":
		ip6, err := l.carries(etherIPv6)
		if err != nil {
			return nil, err
		}
		return and(ip6, equal(l.load(1, net.plus(24)), 255)), nil
	}
	return nil, l.fail(fmt.Sprintf("%q has no multicast addresses", proto),
		`"ether multicast", "ip multicast" or "ip6 multicast"`, "")
}

// gateway lowers "gateway NAME": to or from the host's Ethernet address but not its IP addresses.
func (l *lowerer) gateway(m *Match) (*form, error) {
	if m.ID.Kind != tokName || l.opt.Names.Host == nil || l.opt.Names.Ether == nil {
		return nil,
			l.fail("gateway needs a name that is looked up both as a host and as an Ethernet address",
				"", "ether host 00:11:22:33:44:55 and not host 10.0.0.1")
	}
	switch m.Proto {
	case "", "ip", "arp", "rarp":
	default:
		return nil, l.fail(fmt.Sprintf("%q has no gateways", m.Proto), `"gateway" alone`, "")
	}
	mac, err := l.mac(m)
	if err != nil {
		return nil, err
	}
	ether, err := l.etherAddress("", mac)
	if err != nil {
		return nil, err
	}
	q, err := l.addressQuery(&Match{Proto: m.Proto, Type: "host", ID: m.ID, span: m.span})
	if err != nil {
		return nil, err
	}
	host, err := l.query(q)
	return and(ether, not(host)), err
}

// decnetQuery lowers "decnet host". DECnet has four forms of header, each with or without padding.
func (l *lowerer) decnetQuery(m *Match) (*form, error) {
	var area, node uint64
	ok := m.ID.Kind == tokQuad && m.ID.Bits < 0 && m.ID.Mask == ""
	if a, n, two := strings.Cut(m.ID.Text, "."); ok && two {
		var err1, err2 error
		area, err1 = strconv.ParseUint(a, 10, 6)
		node, err2 = strconv.ParseUint(n, 10, 10)
		ok = err1 == nil && err2 == nil
	}
	if !ok {
		return nil, l.fail(m.ID.Text+" is not a DECnet address",
			"an area up to 63, a dot and a node up to 1023",
			"decnet host 10.123")
	}
	switch m.Dir {
	case "", "src", "dst", "src and dst":
	default:
		return nil, l.fail(fmt.Sprintf("%q belongs to 802.11 addresses", m.Dir), `"src" or "dst"`, "")
	}
	decnet, err := l.carries(ethernetTypes["decnet"])
	if err != nil {
		return nil, err
	}
	addr := uint32(area<<10 | node)
	addr = addr>>8 | addr&0xff<<8 // little-endian on the wire
	net := l.at.networkHeader()
	at := func(short, long uint32) func() *form {
		return func() *form {
			flags := l.compute(aluAnd, l.load(1, net.plus(2)), l.constant(7))
			padded := l.compute(aluAnd, l.load(2, net.plus(2)), l.constant(0xff07))
			field := func(off uint32) *form { return equal(l.load(2, net.plus(off)), addr) }
			return or(and(equal(flags, 2), field(short)), and(equal(padded, 0x8102), field(short+1)),
				and(equal(flags, 6), field(long)), and(equal(padded, 0x8106), field(long+1)))
		}
	}
	return and(decnet, side(m.Dir, at(5, 17), at(3, 9))), nil
}
