package filter

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// queryKind is the kind of field that a query looks at.
type queryKind uint8

const (
	queryNone  queryKind = iota
	queryIPv4            // IPv4 addresses in IPv4, ARP and RARP
	queryPorts           // ports of TCP, UDP and SCTP
	queryForm            // something that needs no gathering
)

// query is a Match whose value is known.
type query struct {
	kind   queryKind
	proto  string
	dir    string
	protos uint8 // of queryPorts: set of portTCP, …
	ranges []interval
	mask   uint32 // of queryIPv4: address & mask is compared; not gathered unless it is all ones
	form   *form
}

const (
	portTCP = 1 << iota
	portUDP
	portSCTP
)

// joins reports whether b asks the same fields as q.
func (q *query) joins(b *query) bool {
	return q.kind == b.kind && (q.kind == queryIPv4 && q.mask == 1<<32-1 || q.kind == queryPorts) &&
		q.proto == b.proto && q.dir == b.dir && q.dir != "src and dst" && q.protos == b.protos &&
		q.mask == b.mask
}

// query lowers a query.
func (l *lowerer) query(q query) (*form, error) {
	switch q.kind {
	case queryIPv4:
		return l.address4(&q)
	case queryPorts:
		return l.ports(&q)
	}
	return q.form, nil
}

// resolve makes a query of a Match.
func (l *lowerer) resolve(m *Match) (query, error) {
	l.here = m.span
	var q query
	var err error
	switch m.Type {
	case "port", "portrange":
		q, err = l.portQuery(m)
	case "proto":
		q.kind = queryForm
		q.form, err = l.protoQuery(m)
	case "protochain":
		err = l.fail("protochain needs a jump backwards, which no kernel takes", "",
			"ip6 proto for the first header, or ip6[40] and the like for the next one")
	case "gateway":
		q.kind = queryForm
		q.form, err = l.gateway(m)
	default:
		q, err = l.addressQuery(m)
	}
	return q, err
}

func (l *lowerer) addressQuery(m *Match) (query, error) {
	switch m.Proto {
	case "ether":
		f, err := l.etherQuery(m)
		return query{kind: queryForm, form: f}, err
	case "decnet":
		f, err := l.decnetQuery(m)
		return query{kind: queryForm, form: f}, err
	case "", "ip", "arp", "rarp", "ip6":
	default:
		return query{}, l.fail(fmt.Sprintf("%q has no addresses that can be compared", m.Proto),
			`no protocol, or "ip", "ip6", "arp", "rarp", "ether" or "decnet"`,
			fmt.Sprintf("%s and %s %s", m.Proto, m.Type, m.ID.Text))
	}
	switch m.Dir {
	case "", "src", "dst", "src and dst":
	default:
		return query{}, l.fail(fmt.Sprintf("%q belongs to 802.11 addresses", m.Dir), `"src" or "dst"`,
			"wlan "+m.Dir+" 00:11:22:33:44:55")
	}
	list, err := l.addresses(m)
	if err != nil {
		return query{}, err
	}
	var kids []*form
	for _, p := range list {
		if p.addr.Is4() {
			if m.Proto == "ip6" {
				return query{}, l.fail(m.ID.Text+" is an IPv4 address", "an IPv6 address", "ip host "+m.ID.Text)
			}
			q := p.query4(m)
			if len(list) == 1 {
				return q, nil
			}
			f, err := l.address4(&q)
			if err != nil {
				return q, err
			}
			kids = append(kids, f)
			continue
		}
		if m.Proto != "" && m.Proto != "ip6" {
			return query{}, l.fail(m.ID.Text+" is an IPv6 address", "an IPv4 address", "ip6 host "+m.ID.Text)
		}
		f, err := l.address6(m.Dir, p)
		if err != nil {
			return query{}, err
		}
		kids = append(kids, f)
	}
	return query{kind: queryForm, form: or(kids...)}, nil
}

// network is an address and the mask that says which of its bits count.
type network struct {
	addr netip.Addr
	mask [16]byte // the first four bytes for IPv4
}

func prefix(a netip.Addr, n int) network {
	p := network{addr: a}
	for i := range a.BitLen() / 8 {
		k := min(max(n-8*i, 0), 8)
		p.mask[i] = byte(uint(0xff00) >> k)
	}
	return p
}

func number(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// query4 returns the query for an IPv4 network.
func (p network) query4(m *Match) query {
	a := p.addr.As4()
	addr, mask := number(a[:]), number(p.mask[:4])
	q := query{kind: queryIPv4, proto: m.Proto, dir: m.Dir, mask: mask, ranges: []interval{{addr,
		addr}}}
	if bits.LeadingZeros32(^mask)+bits.TrailingZeros32(mask) == 32 && mask != 0 {
		q.ranges[0].hi = addr | ^mask
		q.mask = 1<<32 - 1
	}
	return q
}

// addresses returns the networks that the value of "host" or "net" stands for.
func (l *lowerer) addresses(m *Match) ([]network, error) {
	id := m.ID
	switch id.Kind {
	case tokNumber:
		// A number is an address, or a net with as many bytes as it needs.
		v, mask := id.Number, uint32(1<<32-1)
		if m.Type == "net" {
			for v != 0 && v&0xff000000 == 0 {
				v, mask = v<<8, mask<<8
			}
		}
		a := netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
		return []network{prefix(a, 32-bits.TrailingZeros32(mask))}, nil
	case tokQuad:
		return l.quad(m)
	case tokIPv6:
		a, err := netip.ParseAddr(id.Text)
		if err != nil {
			return nil, l.fail(id.Text+" is not an IPv6 address", "", "")
		}
		n := 128
		if id.Bits >= 0 {
			if id.Bits > 128 {
				return nil, l.fail(fmt.Sprintf("an IPv6 address has 128 bits, not %d", id.Bits), "/0 to /128",
					"")
			}
			n = id.Bits
			if p := netip.PrefixFrom(a, n).Masked(); p.Addr() != a {
				return nil, l.fail(fmt.Sprintf("%s has bits set beyond its first %d", id.Text, n), "",
					"net "+p.String())
			}
			if m.Type != "net" {
				return nil, l.onlyNets(m)
			}
		}
		return []network{prefix(a, n)}, nil
	case tokMAC:
		return nil, l.fail(id.Text+" is an Ethernet address", "an IP address", "ether host "+id.Text)
	}
	return l.lookup(m)
}

func (l *lowerer) onlyNets(m *Match) *Error {
	return l.fail("only a net has a length or a mask", `"net" instead of "host"`,
		"net "+l.source[m.pos:m.end])
}

// quad reads two to four numbers with dots. Missing ones are zero and do not count.
func (l *lowerer) quad(m *Match) ([]network, error) {
	a, n, ok := parseQuad(m.ID.Text)
	if !ok {
		return nil, l.fail(m.ID.Text+" is not an IPv4 address", "numbers from 0 to 255", "")
	}
	mask := uint32(1<<32-1) << (32 - 8*n)
	switch {
	case m.ID.Bits > 32:
		return nil, l.fail(fmt.Sprintf("an IPv4 address has 32 bits, not %d", m.ID.Bits), "/0 to /32", "")
	case m.ID.Bits >= 0:
		mask = uint32(uint64(0xffffffff00000000) >> m.ID.Bits)
	case m.ID.Mask != "":
		if mask, _, ok = parseQuad(m.ID.Mask); !ok {
			return nil, l.fail(m.ID.Mask+" is not a mask", "a mask such as 255.255.255.0", "")
		}
	}
	addr := netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
	if a&^mask != 0 {
		k := a & mask
		right := netip.AddrFrom4([4]byte{byte(k >> 24), byte(k >> 16), byte(k >> 8), byte(k)}).String()
		if m.ID.Bits >= 0 {
			right += "/" + strconv.Itoa(m.ID.Bits)
		} else {
			right += " mask " + m.ID.Mask
		}
		return nil, l.fail(m.ID.Text+" has bits set that the mask leaves out", "", "net "+right)
	}
	if m.Type != "net" && (m.ID.Bits >= 0 || m.ID.Mask != "") {
		return nil, l.onlyNets(m)
	}
	p := network{addr: addr}
	p.mask = [16]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}
	return []network{p}, nil
}

// parseQuad returns the number that dotted parts stand for, and the number of parts.
func parseQuad(s string) (a uint32, n int, ok bool) {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		v, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return 0, 0, false
		}
		a = a<<8 | uint32(v)
	}
	return a << (32 - 8*len(parts)), len(parts), true
}

func (l *lowerer) lookup(m *Match) ([]network, error) {
	name := m.ID.Text
	if m.Type == "net" {
		if l.opt.Names.Net == nil {
			return nil, l.fail("names of nets are not looked up here", "a net in numbers", "net 10.0.0.0/8")
		}
		p, err := l.opt.Names.Net(name)
		if err != nil || !p.IsValid() {
			return nil, l.fail(fmt.Sprintf("no net is known as %q%s", name, because(err)), "",
				"net 10.0.0.0/8")
		}
		return []network{prefix(p.Masked().Addr().Unmap(), p.Bits())}, nil
	}
	if l.opt.Names.Host == nil {
		return nil, l.fail("names of hosts are not looked up here", "an address", "host 10.0.0.1")
	}
	addrs, err := l.opt.Names.Host(name)
	if err != nil || len(addrs) == 0 {
		return nil, l.fail(fmt.Sprintf("no host is known as %q%s", name, because(err)), "",
			"host 10.0.0.1")
	}
	var list []network
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.Is4() && m.Proto == "ip6" || a.Is6() && m.Proto != "" && m.Proto != "ip6" {
			continue
		}
		list = append(list, prefix(a, a.BitLen()))
	}
	if len(list) == 0 {
		return nil, l.fail(fmt.Sprintf("%q has no address that %q can be compared with", name, m.Proto),
			"", "")
	}
	return list, nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// side applies a comparison to the source and destination fields that dir names.
func side(dir string, src, dst func() *form) *form {
	switch dir {
	case "src":
		return src()
	case "dst":
		return dst()
	case "src and dst":
		return and(src(), dst())
	}
	return or(src(), dst())
}

func (l *lowerer) address4(q *query) (*form, error) {
	var kids []*form
	for _, f := range []struct {
		proto    string
		src, dst uint32
	}{{"ip", 12, 16}, {"arp", 14, 24}, {"rarp", 14, 24}} {
		if q.proto != "" && q.proto != f.proto {
			continue
		}
		if l.at.labels > 0 && q.proto == "" && f.proto != "ip" {
			continue
		}
		carries, err := l.carries(ethernetTypes[f.proto])
		if err != nil {
			return nil, err
		}
		at := func(off uint32) func() *form {
			return func() *form {
				v := l.load(4, l.at.networkHeader().plus(off))
				if q.mask == 0 {
					return always
				}
				if q.mask != 1<<32-1 {
					return equal(l.compute(aluAnd, v, l.constant(q.mask)), q.ranges[0].lo)
				}
				return in(v, q.ranges)
			}
		}
		kids = append(kids, and(carries, side(q.dir, at(f.src), at(f.dst))))
	}
	return or(kids...), nil
}

func (l *lowerer) address6(dir string, p network) (*form, error) {
	carries, err := l.carries(etherIPv6)
	if err != nil {
		return nil, err
	}
	a := p.addr.As16()
	at := func(off uint32) func() *form {
		return func() *form {
			f := &form{op: formAnd}
			for i := uint32(0); i < 16; i += 4 {
				mask := number(p.mask[i:])
				if mask == 0 {
					break
				}
				w := number(a[i:])
				f.kids = append(f.kids, in(l.load(4, l.at.networkHeader().plus(off+i)), []interval{{w,
					w | ^mask}}))
			}
			return f
		}
	}
	return and(carries, side(dir, at(8), at(24))), nil
}
