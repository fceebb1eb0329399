package filter

// carries reports whether the link layer announces a protocol.
func (o *oracle) carries(t uint32) bool {
	s := o.now
	if s.labels > 0 {
		version := map[uint32]uint32{0x800: 4, 0x86dd: 6}[t]
		return o.get(s.network(o).plus(^uint32(1)), 1)&1 == 1 && o.get(s.network(o), 1)>>4 == version
	}
	field := func() uint32 { return o.get(s.proto(o), 2) }
	snap := func(oui, t uint32) bool {
		p := s.payload(o)
		return o.get(p.plus(4), 4) == oui<<16|t && o.get(p, 4) == 0xaaaa0300|oui>>16
	}
	sap := func() bool {
		if t == 0xfe || t == 0xf0 {
			return o.get(s.payload(o), 2) == t*257
		}
		return o.get(s.payload(o), 1) == t
	}
	switch s.link {
	case "ether":
		switch {
		case t == 0x809b:
			return field() == t || field() <= 1500 && snap(0x080007, t)
		case t == 0x80f3:
			return field() == t || field() <= 1500 && snap(0, t)
		case t > 1500:
			return field() == t
		case t == 0xe0:
			return field() == 0x8137 || field() <= 1500 &&
				(snap(0, 0x8137) || o.get(s.payload(o), 1) == 0xe0 || o.get(s.payload(o), 2) == 0xffff)
		}
		return field() <= 1500 && sap()
	case "wlan":
		if o.get(s.header(o), 1)&0xc != 8 {
			return false
		}
		switch {
		case t == 0x809b:
			return snap(0x080007, t)
		case t > 1500:
			return field() == t
		}
		return sap()
	case "sll":
		switch {
		case t == 0x809b:
			return field() == t || field() == 4 && snap(0x080007, t)
		case t == 0x80f3:
			return field() == t || field() == 4 && snap(0, t)
		case t > 1500:
			return field() == t
		case t == 0xe0:
			return field() == 0x8137 || field() == 1 || field() == 4 && (o.get(s.payload(o), 1) == 0xe0 ||
				snap(0, 0x8137))
		}
		return field() == 4 && sap()
	case "sll2":
		return field() == t
	case "ppp":
		for _, p := range [][2]uint32{{0x800, 0x21}, {0x86dd, 0x57}, {0x6003, 0x27}, {0x809b, 0x29},
			{0x600, 0x25},
			{0xfe, 0x23}, {0x42, 0x31}, {0xe0, 0x2b}, {0x8847, 0x281}} {
			if p[0] == t {
				t = p[1]
				break
			}
		}
		return field() == t
	case "ip":
		return t == 0x800 && o.get(spot{}, 1)>>4 == 4 || t == 0x86dd && o.get(spot{}, 1)>>4 == 6
	}
	family := map[uint32]uint32{0x800: 2, 0x86dd: o.inet6}[t]
	if family == 0 {
		return false
	}
	if s.link == "pf" {
		return o.get(spot{fixed: 1}, 1) == family
	}
	v := o.get(spot{}, 4)
	if s.dlt != DLTLoop {
		v = v>>24 | v>>8&0xff00 | v<<8&0xff0000 | v<<24
	}
	return v == family
}

func (o *oracle) ip4(proto uint32) bool {
	return o.carries(0x800) && o.get(o.now.network(o).plus(9), 1) == proto
}

func (o *oracle) ip6(proto uint32) bool {
	if !o.carries(0x86dd) {
		return false
	}
	next := o.get(o.now.network(o).plus(6), 1)
	return next == proto || next == 44 && o.get(o.now.network(o).plus(40), 1) == proto
}

var oracleProtos = map[string]uint32{"icmp": 1, "igmp": 2, "tcp": 6, "igrp": 9, "udp": 17,
	"esp": 50, "ah": 51,
	"icmp6": 58, "pim": 103, "vrrp": 112, "carp": 112, "sctp": 132}

var oracleEther = map[string]uint32{"ip": 0x800, "ip6": 0x86dd, "arp": 0x806, "rarp": 0x8035,
	"atalk": 0x809b,
	"aarp":  0x80f3, "decnet": 0x6003, "lat": 0x6004, "sca": 0x6007, "moprc": 0x6002, "mopdl": 0x6001,
	"iso": 0xfe,
	"stp": 0x42, "ipx": 0xe0, "netbeui": 0xf0, "pppoed": 0x8863}

func (o *oracle) proto(m *Match) bool {
	n := m.ID.Number
	if m.ID.Kind == tokName {
		n = oracleProtos[m.ID.Text]
		if m.Proto == "ether" {
			n = oracleEther[m.ID.Text]
		}
	}
	switch m.Proto {
	case "ether":
		return o.carries(n)
	case "ip":
		return o.ip4(n)
	case "ip6":
		return o.ip6(n)
	}
	return o.ip4(n) || o.ip6(n)
}

func (o *oracle) decnet(dir string, addr uint32) bool {
	if !o.carries(0x6003) {
		return false
	}
	net := o.now.network(o)
	is := func(short, long uint32) func() bool {
		return func() bool {
			b := func() uint32 { return o.get(net.plus(2), 1) & 7 }
			h := func() uint32 { return o.get(net.plus(2), 2) & 0xff07 }
			eq := func(off uint32) bool { return o.get(net.plus(off), 2) == addr }
			return b() == 2 && eq(short) || h() == 0x8102 && eq(short+1) || b() == 6 && eq(long) ||
				h() == 0x8106 && eq(long+1)
		}
	}
	return sides(dir, is(5, 17), is(3, 9))
}

// ether applies is to the offset of the address that a direction names.
func (o *oracle) ether(dir string, is func(off uint32) bool) bool {
	if o.now.isFrame != nil {
		inner := is
		is = func(off uint32) bool { return o.now.isFrame(o) && inner(off) }
	}
	if o.now.link != "wlan" {
		return sides(dir, func() bool { return is(6) }, func() bool { return is(0) })
	}
	b := func(n uint32) uint32 { return o.get(o.now.header(o).plus(n), 1) }
	data := func() bool { return b(0)&8 != 0 }
	second := func() bool {
		fc := b(0)
		return !(fc&0xc == 4 && (fc&0xf0 == 0xc0 || fc&0xf0 == 0xd0)) && is(10)
	}
	switch dir {
	case "addr1":
		return is(4)
	case "addr2":
		return second()
	case "addr3":
		return b(0)&0xc != 4 && is(16)
	case "addr4":
		return b(1)&3 == 3 && is(24)
	case "ra":
		return data() && is(4)
	case "ta":
		return data() && second()
	}
	src := func() bool {
		switch {
		case b(0)&4 != 0:
			return false
		case !data(), b(1)&2 == 0:
			return is(10)
		case b(1)&1 == 0:
			return is(16)
		}
		return is(24)
	}
	dst := func() bool {
		switch {
		case b(0)&4 != 0:
			return false
		case !data(), b(1)&1 == 0:
			return is(4)
		}
		return is(16)
	}
	return sides(dir, src, dst)
}

// word evaluates a primitive that is a word.
func (o *oracle) word(w *Word) bool {
	s := o.now
	var arg uint32
	if len(w.Args) > 0 {
		arg = w.Args[0].Number
	}
	pf := func(off, n uint32) uint32 { return o.get(spot{fixed: off}, n) }
	switch w.Name {
	case "less":
		return uint32(o.wire) <= arg
	case "greater":
		return uint32(o.wire) >= arg
	case "broadcast":
		if w.Proto == "ip" {
			if !o.carries(0x800) {
				return false
			}
			a := o.get(s.network(o).plus(16), 4)
			return a == 0 || a == 0xffffffff
		}
		return o.ether("dst", func(off uint32) bool {
			h := s.header(o).plus(off)
			return o.get(h.plus(2), 4) == 0xffffffff && o.get(h, 2) == 0xffff
		})
	case "multicast":
		switch w.Proto {
		case "ip":
			return o.carries(0x800) && o.get(s.network(o).plus(16), 1) >= 224
		case "ip6":
			return o.carries(0x86dd) && o.get(s.network(o).plus(24), 1) == 255
		}
		return o.ether("dst", func(off uint32) bool { return o.get(s.header(o).plus(off), 1)&1 == 1 })
	case "vlan":
		return (o.carries(0x8100) || o.carries(0x88a8) || o.carries(0x9100)) &&
			(len(w.Args) == 0 || o.get(s.network(o), 2)&0xfff == arg)
	case "mpls":
		if s.labels > 0 {
			if o.get(s.network(o).plus(^uint32(1)), 1)&1 != 0 {
				return false
			}
		} else if !o.carries(0x8847) {
			return false
		}
		return len(w.Args) == 0 || o.get(s.network(o), 4)>>12 == arg
	case "pppoes":
		return o.carries(0x8864) && (len(w.Args) == 0 || o.get(s.network(o).plus(2), 2) == arg)
	case "geneve", "vxlan":
		var udp spot
		net := s.network
		switch {
		case o.carries(0x800):
			if o.get(net(o).plus(9), 1) != 17 || o.get(net(o).plus(6), 2)&0x1fff != 0 {
				return false
			}
			udp = spot{net(o).fixed, net(o).added + o.get(net(o), 1)%16*4}
		case o.carries(0x86dd):
			if o.get(net(o).plus(6), 1) != 17 {
				return false
			}
			udp = net(o).plus(40)
		default:
			return false
		}
		if w.Name == "vxlan" {
			return o.get(udp.plus(2), 2) == 4789 && o.get(udp.plus(8), 1)&8 != 0 &&
				(len(w.Args) == 0 || o.get(udp.plus(12), 4)>>8 == arg)
		}
		return o.get(udp.plus(2), 2) == 6081 && o.get(udp.plus(8), 1)>>6 == 0 &&
			(len(w.Args) == 0 || o.get(udp.plus(12), 4)>>8 == arg)
	case "inbound", "outbound":
		in := w.Name == "inbound"
		switch s.link {
		case "sll":
			return (pf(0, 2) == 4) != in
		case "sll2":
			return (pf(10, 1) == 4) != in
		}
		return in && pf(60, 1) == 1 || !in && pf(60, 1) == 2
	case "llc":
		if s.link == "wlan" {
			if o.get(s.header(o), 1)&0xc != 8 {
				return false
			}
		} else if o.get(s.proto(o), 2) > 1500 || o.get(s.payload(o), 2) == 0xffff {
			return false
		}
		if len(w.Args) == 0 {
			return true
		}
		c := o.get(s.payload(o).plus(2), 1)
		switch w.Args[0].Text {
		case "i":
			return c&1 == 0
		case "s":
			return c&3 == 1
		case "u":
			return c&3 == 3
		case "rr", "rnr", "rej":
			return c&0xf == map[string]uint32{"rr": 1, "rnr": 5, "rej": 9}[w.Args[0].Text]
		}
		return c&0xef == map[string]uint32{"ui": 3, "ua": 0x63, "disc": 0x43, "sabme": 0x6f, "test": 0xe3,
			"xid":  0xaf,
			"frmr": 0x87}[w.Args[0].Text]
	case "rnr":
		return pf(36, 4) == arg
	case "srnr":
		return pf(40, 4) == arg
	case "reason":
		if w.Args[0].Kind == tokName {
			arg = map[string]uint32{"match": 0, "short": 3}[w.Args[0].Text]
		}
		return pf(3, 1) == arg
	case "action":
		return pf(2, 1) == map[string]uint32{"pass": 0, "block": 1, "nat": 4}[w.Args[0].Text]
	case "ifname", "rset":
		off := map[string]uint32{"ifname": 4, "rset": 20}[w.Name]
		pf(off+uint32(len(w.Args[0].Text))-1, 1)
		for i, c := range []byte(w.Args[0].Text) {
			if pf(off+uint32(i), 1) != uint32(c) {
				return false
			}
		}
		return true
	case "dir":
		if w.Args[0].Kind == tokName {
			arg = map[string]uint32{"nods": 0, "tods": 1, "fromds": 2, "dstods": 3}[w.Args[0].Text]
		}
		return o.get(s.header(o).plus(1), 1)&3 == arg
	case "type", "subtype":
		fc := o.get(s.header(o), 1)
		text := w.Args[len(w.Args)-1].Text
		switch text {
		case "mgt", "ctl", "data":
			return fc&0xc == map[string]uint32{"mgt": 0, "ctl": 4, "data": 8}[text]
		}
		return fc&0xfc == map[string]uint32{"beacon": 0x80, "null": 0x48}[text]
	}
	return o.protocolWord(w.Name)
}

func (o *oracle) protocolWord(name string) bool {
	s := o.now
	if t, ok := oracleEther[name]; ok {
		return o.carries(t)
	}
	switch name {
	case "icmp", "igmp", "igrp", "vrrp", "carp":
		return o.ip4(oracleProtos[name])
	case "icmp6":
		return o.ip6(58)
	case "tcp", "udp", "sctp", "pim", "ah", "esp":
		return o.ip4(oracleProtos[name]) || o.ip6(oracleProtos[name])
	}
	if !o.carries(0xfe) {
		return false
	}
	osi := s.payload(o).plus(s.osi + 4*s.labels)
	p := o.get(osi, 1)
	switch name {
	case "clnp":
		return p == 0x81
	case "esis":
		return p == 0x82
	}
	if p != 0x83 || name == "isis" {
		return p == 0x83
	}
	// Levels: hello 15 and 16 (17 is both), link state 18 and 20, sequence numbers 24 to 27.
	switch pdu := o.get(osi.plus(4), 1); name {
	case "l1":
		return pdu == 15 || pdu == 17 || pdu == 18 || pdu == 24 || pdu == 26
	case "l2":
		return pdu == 16 || pdu == 17 || pdu == 20 || pdu == 25 || pdu == 27
	case "iih":
		return pdu >= 15 && pdu <= 17
	case "lsp":
		return pdu == 18 || pdu == 20
	case "snp":
		return pdu >= 24 && pdu <= 27
	case "csnp":
		return pdu == 24 || pdu == 25
	default:
		return pdu == 26 || pdu == 27
	}
}

// compare evaluates a relation: first that the protocols are there, then the numbers.
func (o *oracle) compare(c *Compare) bool {
	if !o.present(c.X) || !o.present(c.Y) {
		return false
	}
	x, y := o.arith(c.X), o.arith(c.Y)
	switch c.Op {
	case "=":
		return x == y
	case "!=":
		return x != y
	case "<":
		return x < y
	case ">":
		return x > y
	case "<=":
		return x <= y
	}
	return x >= y
}

// present reports whether every protocol that a calculation indexes is there.
func (o *oracle) present(a Arith) bool {
	switch a := a.(type) {
	case *Negative:
		return o.present(a.X)
	case *Binary:
		return o.present(a.X) && o.present(a.Y)
	case *Load:
		if !o.present(a.Index) {
			return false
		}
		switch a.Proto {
		case "ether", "radio":
			return true
		case "icmp6":
			return o.carries(0x86dd) && o.get(o.now.network(o).plus(6), 1) == 58
		}
		if p, ok := oracleProtos[a.Proto]; ok {
			return o.ip4(p) && o.get(o.now.network(o).plus(6), 2)&0x1fff == 0
		}
		return o.carries(oracleEther[a.Proto])
	}
	return true
}

func constant(a Arith) bool {
	switch a := a.(type) {
	case *Const:
		return true
	case *Negative:
		return constant(a.X)
	case *Binary:
		return constant(a.X) && constant(a.Y)
	}
	return false
}

func (o *oracle) arith(a Arith) uint32 {
	switch a := a.(type) {
	case *Const:
		return a.Value
	case *Length:
		return uint32(o.wire)
	case *Negative:
		return -o.arith(a.X)
	case *Binary:
		x, y := o.arith(a.X), o.arith(a.Y)
		switch a.Op {
		case "+":
			return x + y
		case "-":
			return x - y
		case "*":
			return x * y
		case "&":
			return x & y
		case "|":
			return x | y
		case "^":
			return x ^ y
		case "<<":
			return x << (y % 32)
		case ">>":
			return x >> (y % 32)
		}
		if y == 0 {
			panic(cut{})
		}
		if a.Op == "/" {
			return x / y
		}
		return x % y
	}
	l := a.(*Load)
	var s spot
	switch l.Proto {
	case "ether":
		s = o.now.header(o)
	case "radio":
	case "icmp6":
		s = o.now.network(o).plus(40)
	default:
		s = o.now.network(o)
		if _, ok := oracleProtos[l.Proto]; ok {
			s.added += o.get(s, 1) % 16 * 4
		}
	}
	if constant(l.Index) {
		s.fixed += o.arith(l.Index)
	} else {
		s.added += o.arith(l.Index)
	}
	return o.get(s, l.Size)
}
