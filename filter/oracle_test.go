package filter

import (
	"net/netip"
	"strconv"
	"strings"
)

// The oracle decides whether an expression matches a packet by walking the tree, as the manual page
// describes the primitives. It shares nothing with the compiler but the parser. It is slow.

// The oracle panics with cut when it needs a byte that the packet does not have.
type cut struct{}

// spot is an offset: what is known from the link type, and what the packet adds.
type spot struct{ fixed, added uint32 }

func (s spot) plus(n uint32) spot { return spot{s.fixed + n, s.added} }

// scene is where the layers are at one primitive. Each place is a function of the packet.
type scene struct {
	link     string // how the protocol field is read: ether, family, pf, ip, ppp, sll, sll2, wlan
	dlt      uint32
	header   func(*oracle) spot
	proto    func(*oracle) spot
	payload  func(*oracle) spot
	llc      uint32 // length of the LLC header before a network header
	osi      uint32
	labels   uint32
	macs     bool
	isFrame  func(*oracle) bool
	radiotap bool
}

// oracle holds a packet and what the expression's words made of the layers.
type oracle struct {
	sample
	inet6  uint32
	scenes map[Node]scene // at each primitive
	loads  map[*Load]scene
	now    scene
}

func at(n uint32) func(*oracle) spot { return func(*oracle) spot { return spot{fixed: n} } }

// oracleFor prepares an expression. It returns nil if the oracle does not know the answer.
func oracleFor(e *Expr, dlt, inet6 uint32) *oracle {
	o := &oracle{inet6: inet6, scenes: map[Node]scene{}, loads: map[*Load]scene{}}
	s := scene{dlt: dlt, header: at(0), proto: at(0), payload: at(0)}
	switch dlt {
	case DLTEthernet:
		s.link, s.proto, s.payload, s.osi, s.macs = "ether", at(12), at(14), 3, true
	case DLTNull, DLTLoop:
		s.link, s.payload = "family", at(4)
	case DLTEnc:
		s.link, s.payload = "family", at(12)
	case DLTRaw:
		s.link = "ip"
	case DLTPPP, DLTPPPSerial:
		s.link, s.proto, s.payload = "ppp", at(2), at(4)
	case DLTPPPEther:
		s.link, s.proto, s.payload = "ppp", at(6), at(8)
	case DLTLinuxSLL:
		s.link, s.proto, s.payload, s.osi = "sll", at(14), at(16), 3
	case DLTLinuxSLL2:
		s.link, s.payload = "sll2", at(20)
	case DLTPFLog:
		s.link, s.proto = "pf", at(1)
		s.payload = func(o *oracle) spot { return spot{added: (o.get(spot{}, 1) + 3) / 4 * 4} }
	case DLTWLAN, DLTWLANRadio:
		s.link, s.macs, s.llc, s.osi, s.radiotap = "wlan", true, 8, 3, dlt == DLTWLANRadio
		if s.radiotap {
			s.header = func(o *oracle) spot {
				return spot{added: o.get(spot{fixed: 2},
					1) + 256*o.get(spot{fixed: 3}, 1)}
			}
		}
		header := s.header
		s.payload = func(o *oracle) spot {
			h := header(o)
			n := h.added
			if o.get(h, 1)&0x80 != 0 {
				n += 2
			}
			if dlt == DLTWLANRadio && o.padded() {
				n = (n + 3) / 4 * 4
			}
			return spot{24, n}
		}
		payload := s.payload
		s.proto = func(o *oracle) spot { return payload(o).plus(6) }
	}
	o.now = s
	o.walk(e.Root)
	return o
}

// padded reports whether the radiotap header's flags say that the frame's header is padded.
func (o *oracle) padded() bool {
	present := o.get(spot{fixed: 4}, 4)
	if present&0x80 != 0 || present&0x02000000 == 0 {
		return false
	}
	if present&0x01000000 != 0 {
		return o.get(spot{fixed: 16}, 1)&0x20 != 0
	}
	return o.get(spot{fixed: 8}, 1)&0x20 != 0
}

// walk notes the layers at each primitive, from left to right.
func (o *oracle) walk(n Node) {
	switch n := n.(type) {
	case *And:
		o.walk(n.X)
		o.walk(n.Y)
	case *Or:
		o.walk(n.X)
		o.walk(n.Y)
	case *Not:
		o.walk(n.X)
	case *Word:
		o.scenes[n] = o.now
		o.move(n)
	case nil:
	default:
		o.scenes[n] = o.now
	}
}

// move says how a word shifts the layers behind it.
func (o *oracle) move(w *Word) {
	old := o.now
	switch w.Name {
	case "vlan":
		o.now.proto = func(o *oracle) spot { return old.proto(o).plus(4) }
		o.now.payload = func(o *oracle) spot { return old.payload(o).plus(4) }
	case "mpls":
		o.now.labels++
	case "pppoes":
		ppp := func(o *oracle) spot { return old.network(o).plus(6) }
		o.now = scene{link: "ppp", dlt: old.dlt, header: ppp, proto: ppp,
			payload: func(o *oracle) spot { return ppp(o).plus(2) }}
	case "geneve", "vxlan":
		udp := func(o *oracle) spot {
			net := old.network(o)
			// Which family it is, is read from the field that announced it; nothing is assumed of others.
			if o.announcesIPv6(&old) {
				o.get(net, 1)
				return spot{net.fixed, net.added + 40}
			}
			return spot{net.fixed, net.added + o.get(net, 1)%16*4}
		}
		o.now = scene{link: "ether", dlt: old.dlt, osi: 3, macs: true}
		if w.Name == "vxlan" {
			o.now.header = func(o *oracle) spot { return udp(o).plus(16) }
			o.now.proto = func(o *oracle) spot { return udp(o).plus(28) }
			o.now.payload = func(o *oracle) spot { return udp(o).plus(30) }
			return
		}
		frame := func(o *oracle) bool { return o.get(udp(o).plus(10), 2) == 0x6558 }
		behind := func(o *oracle) spot {
			u := udp(o)
			return spot{u.fixed + 16, u.added + o.get(u.plus(8), 1)%64*4}
		}
		o.now.isFrame = frame
		o.now.header = behind
		o.now.proto = func(o *oracle) spot {
			o.get(udp(o).plus(8), 1)
			if frame(o) {
				return behind(o).plus(12)
			}
			return udp(o).plus(10)
		}
		o.now.payload = func(o *oracle) spot {
			b := behind(o)
			if frame(o) {
				return b.plus(14)
			}
			return b
		}
	}
}

func (o *oracle) announcesIPv6(s *scene) bool {
	if s.labels == 0 {
		switch s.link {
		case "ether", "wlan", "sll", "sll2":
			return o.get(s.proto(o), 2)&1 != 0 // 0x86dd, not 0x800
		case "ppp":
			return o.get(s.proto(o), 2)&2 != 0 // 0x57, not 0x21
		}
	}
	return o.get(s.network(o), 1)&0x20 != 0
}

func (s *scene) network(o *oracle) spot { return s.payload(o).plus(s.llc + 4*s.labels) }

// get returns n bytes of the packet.
func (o *oracle) get(s spot, n uint32) uint32 {
	a := uint64(s.fixed) + uint64(s.added)
	if a+uint64(n) > uint64(len(o.data)) {
		panic(cut{})
	}
	var v uint32
	for _, b := range o.data[a : a+uint64(n)] {
		v = v*256 + uint32(b)
	}
	return v
}

// matches reports whether the packet matches.
func (o *oracle) matches(e *Expr, s sample) (yes bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(cut); !ok {
				panic(r)
			}
			yes = false
		}
	}()
	o.sample = s
	return e.Root == nil || o.eval(e.Root)
}

func (o *oracle) eval(n Node) bool {
	switch n := n.(type) {
	case *Not:
		return !o.eval(n.X)
	case *And:
		return o.run(flatten(n, false), false)
	case *Or:
		return o.run(flatten(n, true), true)
	case *Match:
		o.now = o.scenes[n]
		return o.match([]*Match{n})
	case *Word:
		o.now = o.scenes[n]
		return o.word(n)
	}
	o.now = o.scenes[n]
	return o.compare(n.(*Compare))
}

func flatten(n Node, or bool) []Node {
	if x, ok := n.(*And); ok && !or {
		return append(flatten(x.X, or), flatten(x.Y, or)...)
	}
	if x, ok := n.(*Or); ok && or {
		return append(flatten(x.X, or), flatten(x.Y, or)...)
	}
	return []Node{n}
}

// run evaluates what "or" (or "and") joins. Neighbours that compare the same fields with different
// values are one question.
func (o *oracle) run(list []Node, or bool) bool {
	for i := 0; i < len(list); {
		m, kind := groupOf(list[i], or)
		if m == nil {
			if o.eval(list[i]) == or {
				return or
			}
			i++
			continue
		}
		group := []*Match{m}
		for i++; i < len(list); i++ {
			next, k := groupOf(list[i], or)
			if next == nil || k != kind {
				break
			}
			group = append(group, next)
		}
		o.now = o.scenes[m]
		if o.match(group) {
			return or
		}
	}
	return !or
}

// groupOf returns the Match in n and what fields it looks at, if it can be asked with others.
func groupOf(n Node, or bool) (*Match, string) {
	if !or {
		x, ok := n.(*Not)
		if !ok {
			return nil, ""
		}
		n = x.X
	}
	m, ok := n.(*Match)
	if !ok || m.Dir == "src and dst" {
		return nil, ""
	}
	switch m.Type {
	case "port", "portrange":
		return m, "port " + m.Proto + " " + m.Dir
	case "host", "net":
		if m.Proto != "ether" && m.Proto != "decnet" && m.ID.Kind != tokIPv6 {
			if a := ipv4Of(m); a.mask != 0 && ^a.mask&(^a.mask+1) == 0 {
				return m, "address " + m.Proto + " " + m.Dir
			}
		}
	}
	return nil, ""
}

// sides applies test to the fields that a direction names.
func sides(dir string, src, dst func() bool) bool {
	switch dir {
	case "src":
		return src()
	case "dst":
		return dst()
	case "src and dst":
		return src() && dst()
	}
	return src() || dst()
}

type masked struct{ addr, mask uint32 }

// ipv4Of reads an IPv4 address, a net in one of its forms, or a number.
func ipv4Of(m *Match) masked {
	var parts []string
	if m.ID.Kind == tokNumber {
		n := m.ID.Number
		if m.Type == "host" || n == 0 {
			return masked{n, ^uint32(0)}
		}
		bytes := 0
		for x := n; x != 0; x >>= 8 {
			bytes++
		}
		return masked{n << (32 - 8*bytes), ^uint32(0) << (32 - 8*bytes)}
	}
	read := func(s string) uint32 {
		parts = strings.Split(s, ".")
		var a uint32
		for i := range 4 {
			a *= 256
			if i < len(parts) {
				v, _ := strconv.Atoi(parts[i])
				a += uint32(v)
			}
		}
		return a
	}
	a := read(m.ID.Text)
	mask := ^uint32(0) << (32 - 8*len(parts))
	if m.ID.Bits >= 0 {
		mask = uint32(^uint64(0) << (32 - m.ID.Bits))
	} else if m.ID.Mask != "" {
		mask = read(m.ID.Mask)
	}
	return masked{a, mask}
}

// match evaluates matches that look at the same fields.
func (o *oracle) match(group []*Match) bool {
	m := group[0]
	switch m.Type {
	case "port", "portrange":
		return o.ports(group)
	case "proto":
		return o.proto(m)
	}
	switch m.Proto {
	case "ether":
		mac := macOf(m.ID.Text)
		is := func(off uint32) bool {
			h := o.now.header(o).plus(off)
			return o.get(h.plus(2), 4) == number(mac[2:]) && o.get(h, 2) == uint32(mac[0])*256+uint32(mac[1])
		}
		return o.ether(m.Dir, is)
	case "decnet":
		area, node, _ := strings.Cut(m.ID.Text, ".")
		a, _ := strconv.Atoi(area)
		n, _ := strconv.Atoi(node)
		return o.decnet(m.Dir, uint32(n&0xff)<<8|uint32(a<<2|n>>8))
	}
	if m.ID.Kind == tokIPv6 {
		if !o.carries(0x86dd) {
			return false
		}
		n := 128
		if m.ID.Bits >= 0 {
			n = m.ID.Bits
		}
		want := netip.MustParseAddr(m.ID.Text).As16()
		is := func(off uint32) bool {
			for i := 0; i < n; i += 32 {
				mask := ^uint32(0)
				if n-i < 32 {
					mask <<= 32 - (n - i)
				}
				if o.get(o.now.network(o).plus(off+uint32(i/8)), 4)&mask != number(want[i/8:]) {
					return false
				}
			}
			return true
		}
		return sides(m.Dir, func() bool { return is(8) }, func() bool { return is(24) })
	}
	for _, f := range []struct {
		name      string
		ether     uint32
		src, dest uint32
	}{{"ip", 0x800, 12, 16}, {"arp", 0x806, 14, 24}, {"rarp", 0x8035, 14, 24}} {
		if m.Proto != "" && m.Proto != f.name || o.now.labels > 0 && f.name != "ip" ||
			!o.carries(f.ether) {
			continue
		}
		is := func(off uint32) bool {
			for _, g := range group {
				a := ipv4Of(g)
				if a.mask == 0 || o.get(o.now.network(o).plus(off), 4)&a.mask == a.addr {
					return true
				}
			}
			return false
		}
		return sides(m.Dir, func() bool { return is(f.src) }, func() bool { return is(f.dest) })
	}
	return false
}

func macOf(s string) (mac [6]byte) {
	for i, p := range strings.Split(s, ":") {
		v, _ := strconv.ParseUint(p, 16, 8)
		mac[i] = byte(v)
	}
	return mac
}

func (o *oracle) ports(group []*Match) bool {
	m := group[0]
	wanted := map[string][]uint32{"tcp": {6}, "udp": {17}, "sctp": {132}, "": {6, 17, 132}}[m.Proto]
	net := o.now.network
	var transport spot
	isOne := func(v uint32) bool {
		for _, w := range wanted {
			if v == w {
				return true
			}
		}
		return false
	}
	switch {
	case o.carries(0x86dd):
		if !isOne(o.get(net(o).plus(6), 1)) {
			return false
		}
		transport = net(o).plus(40)
	case o.carries(0x800):
		if !isOne(o.get(net(o).plus(9), 1)) || o.get(net(o).plus(6), 2)&0x1fff != 0 {
			return false
		}
		n := net(o)
		transport = spot{n.fixed, n.added + o.get(n, 1)%16*4}
	default:
		return false
	}
	is := func(off uint32) bool {
		p := o.get(transport.plus(off), 2)
		for _, g := range group {
			lo, hi := g.ID.Number, g.ID.Number
			if g.ID.Kind == tokName {
				a, b, _ := strings.Cut(g.ID.Text, "-")
				x, _ := strconv.Atoi(a)
				y, _ := strconv.Atoi(b)
				lo, hi = uint32(min(x, y)), uint32(max(x, y))
			}
			if p >= lo && p <= hi {
				return true
			}
		}
		return false
	}
	return sides(m.Dir, func() bool { return is(0) }, func() bool { return is(2) })
}
