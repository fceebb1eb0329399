package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ipProtocols are the IP protocols that the language knows by name.
var ipProtocols = map[string]uint32{
	"icmp": 1, "igmp": 2, "tcp": 6, "igrp": 9, "udp": 17, "esp": 50, "ah": 51, "icmp6": 58,
	"ipv6-icmp": 58, "pim": 103, "vrrp": 112, "carp": 112, "sctp": 132,
}

func (l *lowerer) portQuery(m *Match) (query, error) {
	q := query{kind: queryPorts, dir: m.Dir}
	switch m.Proto {
	case "":
	case "tcp":
		q.protos = portTCP
	case "udp":
		q.protos = portUDP
	case "sctp":
		q.protos = portSCTP
	default:
		return q, l.fail(fmt.Sprintf("%q has no ports", m.Proto),
			`no protocol, or "tcp", "udp" or "sctp"`,
			fmt.Sprintf("%s and %s %s", m.Proto, m.Type, m.ID.Text))
	}
	switch m.Dir {
	case "", "src", "dst", "src and dst":
	default:
		return q, l.fail(fmt.Sprintf("%q belongs to 802.11 addresses", m.Dir), `"src" or "dst"`, "")
	}
	if m.ID.Kind != tokNumber && m.ID.Kind != tokName {
		return q, l.fail(fmt.Sprintf("%q is not a port", m.ID.Text), "a number from 0 to 65535 or a name",
			"")
	}
	if m.Type == "portrange" && m.ID.Kind == tokName {
		return l.portRange(q, m)
	}
	if m.ID.Kind == tokNumber {
		if m.ID.Number > 65535 {
			return q, l.fail(fmt.Sprintf("port %d does not exist", m.ID.Number), "a number from 0 to 65535",
				"")
		}
		q.ranges = []interval{{m.ID.Number, m.ID.Number}}
		q.setProtos(portTCP | portUDP | portSCTP)
		return q, nil
	}
	if lo, hi, ok := strings.Cut(m.ID.Text, "-"); ok && isNumber(lo) && isNumber(hi) {
		return q, l.fail(fmt.Sprintf("%q is a range of ports", m.ID.Text), "", "portrange "+m.ID.Text)
	}
	tcp, udp, err := l.portName(m.ID.Text)
	if err != nil {
		return q, err
	}
	switch {
	case q.protos == portTCP && tcp < 0, q.protos == portUDP && udp < 0:
		return q, l.fail(fmt.Sprintf("%q is no port of %s", m.ID.Text, m.Proto), "", "port "+m.ID.Text)
	case q.protos == portUDP, q.protos == 0 && tcp < 0:
		q.setProtos(portUDP)
		tcp = udp
	case q.protos == portSCTP && tcp < 0:
		tcp = udp
	case q.protos == 0 && udp < 0:
		q.setProtos(portTCP)
	case q.protos == 0 && tcp != udp:
		return l.bothPorts(q, tcp, udp)
	}
	q.setProtos(portTCP | portUDP | portSCTP)
	q.ranges = []interval{{uint32(tcp), uint32(tcp)}}
	return q, nil
}

func (q *query) setProtos(protos uint8) {
	if q.protos == 0 {
		q.protos = protos
	}
}

// bothPorts lowers a name that stands for different ports of TCP and UDP.
func (l *lowerer) bothPorts(q query, tcp, udp int) (query, error) {
	a, b := q, q
	a.protos, a.ranges = portTCP, []interval{{uint32(tcp), uint32(tcp)}}
	b.protos, b.ranges = portUDP, []interval{{uint32(udp), uint32(udp)}}
	x, err := l.ports(&a)
	if err != nil {
		return q, err
	}
	y, err := l.ports(&b)
	return query{kind: queryForm, form: or(x, y)}, err
}

func (l *lowerer) portName(name string) (tcp, udp int, err error) {
	if l.opt.Names.Port == nil {
		return 0, 0, l.fail("names of ports are not looked up here", "a number from 0 to 65535",
			"port 443")
	}
	tcp, udp, err = l.opt.Names.Port(name)
	if err != nil || tcp < 0 && udp < 0 || tcp > 65535 || udp > 65535 {
		return 0, 0, l.fail(fmt.Sprintf("no port is known as %q%s", name, because(err)),
			"a number from 0 to 65535", "")
	}
	return tcp, udp, nil
}

// portRange reads "LO-HI". Each may be a number or a name.
func (l *lowerer) portRange(q query, m *Match) (query, error) {
	lo, hi, ok := strings.Cut(m.ID.Text, "-")
	if !ok {
		return q, l.fail(fmt.Sprintf("%q is not a range of ports", m.ID.Text),
			"two ports with a dash between them",
			"portrange 6000-6008, or port "+m.ID.Text)
	}
	var ends [2]uint32
	for i, s := range []string{lo, hi} {
		if isNumber(s) {
			v, err := strconv.ParseUint(s, 0, 32)
			if err != nil || v > 65535 {
				return q, l.fail(fmt.Sprintf("port %s does not exist", s), "numbers from 0 to 65535", "")
			}
			ends[i] = uint32(v)
			continue
		}
		tcp, udp, err := l.portName(s)
		if err != nil {
			return q, err
		}
		ends[i] = uint32(max(tcp, udp))
	}
	q.ranges = []interval{{min(ends[0], ends[1]), max(ends[0], ends[1])}}
	q.setProtos(portTCP | portUDP | portSCTP)
	return q, nil
}

// ports lowers a question for ports, first over IPv6 and then over IPv4.
func (l *lowerer) ports(q *query) (*form, error) {
	var protos []interval
	for i, p := range []uint32{6, 17, 132} {
		if q.protos&(1<<i) != 0 {
			protos = append(protos, interval{p, p})
		}
	}
	net := l.at.networkHeader()
	ip6, err := l.carries(etherIPv6)
	if err != nil {
		return nil, err
	}
	ip, err := l.carries(etherIP)
	if err != nil {
		return nil, err
	}
	at := func(p place) func() *form {
		return func() *form { return in(l.load(2, p), q.ranges) }
	}
	transport := net.plus(40)
	six := and(ip6, in(l.load(1, net.plus(6)), protos), side(q.dir, at(transport),
		at(transport.plus(2))))
	transport = l.moved(net, l.headerLen(net))
	four := and(ip, in(l.load(1, net.plus(9)), protos), not(test(l.load(2, net.plus(6)), relBits,
		0x1fff)),
		side(q.dir, at(transport), at(transport.plus(2))))
	return or(six, four), nil
}

// protoQuery lowers "proto".
func (l *lowerer) protoQuery(m *Match) (*form, error) {
	var names map[string]uint32
	switch m.Proto {
	case "", "ip", "ip6":
		names = ipProtocols
	case "ether":
		names = ethernetTypes
	case "iso":
		names = osiTypes
	case "isis":
	default:
		return nil, l.fail(fmt.Sprintf("%q says nothing of the protocol above it", m.Proto),
			`"ip", "ip6", "ether", "iso", "isis" or nothing before "proto"`, "")
	}
	v := m.ID.Number
	switch m.ID.Kind {
	case tokNumber:
	case tokName:
		known, ok := names[m.ID.Text]
		switch {
		case ok:
			v = known
		case m.Proto == "ether" && m.ID.Text == "loopback":
			v = 0x9000
		case m.Proto == "" || m.Proto == "ip" || m.Proto == "ip6":
			if l.opt.Names.Proto == nil {
				return nil, l.fail(fmt.Sprintf("%q is not a protocol that the language knows", m.ID.Text),
					"a number, or one of "+list(ipProtocols), "")
			}
			n, err := l.opt.Names.Proto(m.ID.Text)
			if err != nil {
				return nil, l.fail(fmt.Sprintf("no IP protocol is known as %q%s", m.ID.Text, because(err)),
					"a number", "")
			}
			v = uint32(n)
		default:
			return nil, l.fail(fmt.Sprintf("%q is not a protocol that the language knows", m.ID.Text),
				"a number, or one of "+list(names), "")
		}
	default:
		return nil, l.fail(fmt.Sprintf("%q is not a protocol", m.ID.Text), "a number or a name", "")
	}
	switch m.Proto {
	case "ether":
		return l.carries(v)
	case "iso":
		return l.osi(v)
	case "isis":
		return l.isis(v)
	}
	return l.ipProtocol(m.Proto, v)
}

// list names the keys of a table for a message.
func list(m map[string]uint32) string {
	var names []string
	for k := range m {
		if keywords[k] {
			k = `\` + k
		}
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
