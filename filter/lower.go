package filter

import (
	"fmt"
	"strconv"
)

// lowerer turns a tree into a form: it resolves qualifiers, names and layers, from left to right.
type lowerer struct {
	*pool
	opt    Options
	source string
	at     layers
	here   span // of the primitive being lowered, for errors
}

func (l *lowerer) fail(problem, expected, hint string) *Error {
	return &Error{Expression: l.source, Pos: l.here.pos, End: l.here.end,
		Problem: problem, Expected: expected, Hint: hint}
}

// node lowers a condition.
func (l *lowerer) node(n Node) (*form, error) {
	switch n := n.(type) {
	case *Not:
		f, err := l.node(n.X)
		if err != nil {
			return nil, err
		}
		return not(f), nil
	case *And, *Or:
		_, isOr := n.(*Or)
		return l.spine(operands(n, isOr, nil), isOr)
	case *Match:
		q, err := l.resolve(n)
		if err != nil {
			return nil, err
		}
		return l.query(q)
	case *Word:
		l.here = n.span
		return l.word(n)
	}
	return l.compare(n.(*Compare))
}

// operands lists the conditions that a run of the same operator joins, in order.
func operands(n Node, isOr bool, list []Node) []Node {
	var x, y Node
	switch n := n.(type) {
	case *And:
		if isOr {
			return append(list, n)
		}
		x, y = n.X, n.Y
	case *Or:
		if !isOr {
			return append(list, n)
		}
		x, y = n.X, n.Y
	default:
		return append(list, n)
	}
	return operands(y, isOr, operands(x, isOr, list))
}

// spine lowers operands of one operator. Neighbours that ask the same fields for other values are
// one question: "port 80 or port 443" asks whether the source port is 80 or 443, and then the
// destination port. So do "not port 80 and not port 443".
func (l *lowerer) spine(list []Node, isOr bool) (*form, error) {
	f := &form{op: formAnd, kids: make([]*form, 0, len(list))}
	if isOr {
		f.op = formOr
	}
	var open query // gathers neighbours
	gathering := false
	flush := func() error {
		if !gathering {
			return nil
		}
		gathering = false
		k, err := l.query(open)
		if err != nil {
			return err
		}
		if !isOr {
			k = not(k)
		}
		f.kids = append(f.kids, k)
		return nil
	}
	for _, n := range list {
		m, ok := n.(*Match)
		if not, isNot := n.(*Not); isNot && !isOr {
			m, ok = not.X.(*Match)
		} else if !isOr {
			ok = false
		}
		if ok {
			q, err := l.resolve(m)
			if err != nil {
				return nil, err
			}
			if gathering && open.joins(&q) {
				open.ranges = append(open.ranges, q.ranges...)
				continue
			}
			if err := flush(); err != nil {
				return nil, err
			}
			open, gathering = q, true
			continue
		}
		if err := flush(); err != nil {
			return nil, err
		}
		k, err := l.node(n)
		if err != nil {
			return nil, err
		}
		f.kids = append(f.kids, k)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if len(f.kids) == 1 {
		return f.kids[0], nil
	}
	return f, nil
}

// word lowers a primitive that is a word.
func (l *lowerer) word(w *Word) (*form, error) {
	var arg uint32
	if len(w.Args) > 0 {
		arg = w.Args[0].Number
	}
	switch w.Name {
	case "less":
		return not(test(l.make(value{op: opLength}), relGreater, arg)), nil
	case "greater":
		return test(l.make(value{op: opLength}), relAtLeast, arg), nil
	case "broadcast":
		return l.broadcast(w.Proto)
	case "multicast":
		return l.multicast(w.Proto)
	case "inbound", "outbound":
		return l.direction(w.Name)
	case "vlan":
		return l.vlan(w)
	case "mpls":
		return l.mpls(w)
	case "pppoed":
		return l.carries(etherPPPoED)
	case "pppoes":
		return l.pppoes(w)
	case "geneve", "vxlan":
		return l.tunnel(w)
	case "llc":
		return l.llcType(w)
	case "ifname", "rset", "rnr", "srnr", "reason", "action":
		return l.pf(w)
	case "type", "subtype", "dir":
		return l.wlanWord(w)
	}
	if f, err := l.protocol(w.Name); f != nil || err != nil {
		return f, err
	}
	on := "ATM"
	switch w.Name {
	case "fisu", "lssu", "lsssu", "msu", "sio", "opc", "dpc", "sls",
		"hfisu", "hlssu", "hmsu", "hsio", "hopc", "hdpc", "hsls":
		on = "SS7"
	}
	return nil, l.fail(fmt.Sprintf("%q exists only on %s links, which FreeBSD does not capture",
		w.Name, on), "", "")
}

// ethernetTypes are the protocols that the link layer names.
var ethernetTypes = map[string]uint32{
	"ip": etherIP, "ip6": etherIPv6, "arp": etherARP, "rarp": etherRARP, "atalk": etherAtalk,
	"aarp": etherAARP, "decnet": etherDECnet, "lat": 0x6004, "sca": 0x6007, "moprc": 0x6002,
	"mopdl": 0x6001,
	"iso":   sapISO, "stp": sapSTP, "ipx": sapIPX, "netbeui": sapNetBEUI,
}

// isisTypes are the IS-IS PDU types that a word stands for.
var isisTypes = map[string][]uint32{
	"l1": {0x0f, 0x11, 0x12, 0x18, 0x1a}, "l2": {0x10, 0x11, 0x14, 0x19, 0x1b}, "iih": {0x0f, 0x10,
		0x11},
	"lsp": {0x12, 0x14}, "snp": {0x18, 0x19, 0x1a, 0x1b}, "csnp": {0x18, 0x19}, "psnp": {0x1a, 0x1b},
}

// protocol lowers the name of a protocol. The form is nil if no protocol has the name.
func (l *lowerer) protocol(name string) (*form, error) {
	if t, ok := ethernetTypes[name]; ok {
		return l.carries(t)
	}
	switch name {
	case "tcp", "udp", "sctp", "pim", "ah", "esp":
		return l.ipProtocol("", ipProtocols[name])
	case "icmp", "igmp", "igrp", "vrrp", "carp":
		return l.ipProtocol("ip", ipProtocols[name])
	case "icmp6":
		return l.ipProtocol("ip6", 58)
	case "clnp", "esis", "isis":
		return l.osi(osiTypes[name])
	}
	types := isisTypes[name]
	if types == nil {
		return nil, nil
	}
	return l.isis(types...)
}

func (l *lowerer) osi(proto uint32) (*form, error) {
	iso, err := l.carries(sapISO)
	if err != nil {
		return nil, err
	}
	return and(iso, equal(l.load(1, l.at.payload.plus(l.at.osi)), proto)), nil
}

func (l *lowerer) isis(types ...uint32) (*form, error) {
	isis, err := l.osi(0x83)
	if err != nil {
		return nil, err
	}
	ranges := make([]interval, len(types))
	for i, t := range types {
		ranges[i] = interval{t, t}
	}
	return and(isis, in(l.load(1, l.at.payload.plus(l.at.osi+4)), ranges)), nil
}

// ipProtocol returns the condition that a packet is of an IP protocol: over IPv4, over IPv6, or
// either. IPv6 looks past one fragment header.
func (l *lowerer) ipProtocol(family string, proto uint32) (*form, error) {
	net := l.at.networkHeader()
	var kids []*form
	if family != "ip6" {
		ip, err := l.carries(etherIP)
		if err != nil {
			return nil, err
		}
		kids = append(kids, and(ip, equal(l.load(1, net.plus(9)), proto)))
	}
	if family != "ip" {
		ip6, err := l.carries(etherIPv6)
		if err != nil {
			return nil, err
		}
		next := l.load(1, net.plus(6))
		kids = append(kids, and(ip6, or(equal(next, proto), and(equal(next, 44), equal(l.load(1,
			net.plus(40)), proto)))))
	}
	return or(kids...), nil
}

// compare lowers a relation.
func (l *lowerer) compare(c *Compare) (*form, error) {
	var checks []*form
	x, err := l.arith(c.X, &checks)
	if err != nil {
		return nil, err
	}
	y, err := l.arith(c.Y, &checks)
	if err != nil {
		return nil, err
	}
	op := c.Op
	if x.op == opConst && y.op != opConst {
		x, y = y, x
		switch op[0] {
		case '<':
			op = ">" + op[1:]
		case '>':
			op = "<" + op[1:]
		}
	}
	f := &form{op: formTest, v: x, w: y}
	switch op {
	case ">", "<=":
		f.rel = relGreater
	case ">=", "<":
		f.rel = relAtLeast
	}
	if op == "!=" || op == "<=" || op == "<" {
		f = not(f)
	}
	return and(append(checks, f)...), nil
}

// arith lowers a number. It adds to checks the conditions under which its fields exist.
func (l *lowerer) arith(a Arith, checks *[]*form) (*value, error) {
	switch a := a.(type) {
	case *Const:
		return l.constant(a.Value), nil
	case *Length:
		return l.make(value{op: opLength}), nil
	case *Negative:
		x, err := l.arith(a.X, checks)
		if err != nil {
			return nil, err
		}
		return l.negative(x), nil
	case *Binary:
		x, err := l.arith(a.X, checks)
		if err != nil {
			return nil, err
		}
		y, err := l.arith(a.Y, checks)
		if err != nil {
			return nil, err
		}
		alu := operators[a.Op]
		if _, ok := fold(alu, 1, y.k); y.op == opConst && !ok {
			l.here = a.Y.where()
			if alu == aluDiv || alu == aluMod {
				return nil, l.fail("division by zero", "a divisor that is not 0", "")
			}
			return nil, l.fail(fmt.Sprintf("a shift by %d leaves nothing of 32 bits", y.k),
				"a count from 0 to 31", "")
		}
		return l.compute(alu, x, y), nil
	}
	return l.field(a.(*Load), checks)
}

// operators are the ALU operations of the language.
var operators = map[string]uint16{"+": aluAdd, "-": aluSub, "*": aluMul, "/": aluDiv, "%": aluMod,
	"&": aluAnd,
	"|": aluOr, "^": aluXor, "<<": aluLsh, ">>": aluRsh}

// osiTypes are the OSI protocols that the language knows.
var osiTypes = map[string]uint32{"clnp": 0x81, "esis": 0x82, "isis": 0x83, "es-is": 0x82,
	"is-is": 0x83}

// field lowers a load of a header's bytes.
func (l *lowerer) field(a *Load, checks *[]*form) (*value, error) {
	index, err := l.arith(a.Index, checks)
	if err != nil {
		return nil, err
	}
	l.here = a.span
	at, err := l.headerOf(a.Proto, checks)
	if err != nil {
		return nil, err
	}
	if c := index.b; index.op == opALU && index.alu == aluAdd && c.op == opConst &&
		c.k < 1<<16 && index.a.ceiling < 1<<31 {
		return l.load(a.Size, l.moved(at, index.a).plus(c.k)), nil
	}
	return l.load(a.Size, l.moved(at, index)), nil
}

// headerOf returns the place of a protocol's header, and adds the checks that it exists.
func (l *lowerer) headerOf(proto string, checks *[]*form) (place, error) {
	net := l.at.networkHeader()
	switch proto {
	case "ether":
		return l.at.header, nil
	case "radio":
		if !l.at.radio {
			return net, l.fail("these packets have no radiotap header", "",
				"a capture with link type IEEE802_11_RADIO")
		}
		return place{}, nil
	case "ip", "ip6", "arp", "rarp", "atalk", "decnet", "lat", "sca", "moprc", "mopdl":
		f, err := l.carries(ethernetTypes[proto])
		*checks = append(*checks, f)
		return net, err
	case "tcp", "udp", "sctp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp":
		f, err := l.ipProtocol("ip", ipProtocols[proto])
		if err != nil {
			return net, err
		}
		*checks = append(*checks, f, not(test(l.load(2, net.plus(6)), relBits, 0x1fff)))
		return l.moved(net, l.headerLen(net)), nil
	case "icmp6":
		f, err := l.carries(etherIPv6)
		if err != nil {
			return net, err
		}
		*checks = append(*checks, f, equal(l.load(1, net.plus(6)), 58))
		return net.plus(40), nil
	}
	return net, l.fail(strconv.Quote(proto)+" has no bytes to index",
		"a protocol such as ip, tcp or ether",
		"the header before it, as in ip[20]")
}
