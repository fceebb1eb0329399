package filter

import (
	"fmt"
	"slices"
	"strings"
)

// direction lowers inbound and outbound, where the link header tells the direction.
func (l *lowerer) direction(name string) (*form, error) {
	var out *form
	switch {
	case l.at.framing == framingSLL:
		out = equal(l.load(2, place{}), 4)
	case l.at.framing == framingSLL2:
		out = equal(l.load(1, place{off: 10}), 4)
	case l.at.framing == framingPF:
		if name == "inbound" {
			return equal(l.load(1, place{off: 60}), 1), nil
		}
		return equal(l.load(1, place{off: 60}), 2), nil
	default:
		return nil, l.fail("packets of "+l.at.name+" do not say in which direction they went", "",
			"no "+name+" here; set Config.Direction (bpfctl: --direction), which the kernel applies")
	}
	if name == "inbound" {
		out = not(out)
	}
	return out, nil
}

// limit refuses an argument above most.
func (l *lowerer) limit(w *Word, what string, most uint32) error {
	if len(w.Args) > 0 && w.Args[0].Number > most {
		return l.fail(fmt.Sprintf("%s %d does not exist", what, w.Args[0].Number),
			fmt.Sprintf("a number up to %d", most), "")
	}
	return nil
}

// vlan lowers "vlan": a tag, and everything to the right is behind it.
func (l *lowerer) vlan(w *Word) (*form, error) {
	if l.at.labels > 0 {
		return nil, l.fail("a VLAN tag cannot follow an MPLS label", "", "vlan before mpls")
	}
	if l.at.framing != framingEther && l.at.framing != framingWLAN {
		return nil, l.fail("packets of "+l.at.name+" have no VLAN tags", "", "")
	}
	if err := l.limit(w, "VLAN", 4095); err != nil {
		return nil, err
	}
	f := &form{op: formOr}
	for _, t := range []uint32{0x8100, 0x88a8, 0x9100} {
		k, err := l.carries(t)
		if err != nil {
			return nil, err
		}
		f.kids = append(f.kids, k)
	}
	if len(w.Args) > 0 {
		tag := l.compute(aluAnd, l.load(2, l.at.networkHeader()), l.constant(0xfff))
		f = and(f, equal(tag, w.Args[0].Number))
	}
	l.at.proto = l.at.proto.plus(4)
	l.at.payload = l.at.payload.plus(4)
	return f, nil
}

// mpls lowers "mpls": a label, and everything to the right is behind it.
func (l *lowerer) mpls(w *Word) (*form, error) {
	if err := l.limit(w, "MPLS label", 1<<20-1); err != nil {
		return nil, err
	}
	f := &form{op: formAnd}
	if l.at.labels > 0 {
		f.kids = append(f.kids, not(test(l.load(1, l.at.networkHeader().plus(^uint32(1))), relBits, 1)))
	} else {
		if l.at.framing != framingEther && !(l.at.framing == framingPPP && l.at.mpls) {
			return nil, l.fail("packets of "+l.at.name+" have no MPLS labels", "", "")
		}
		k, err := l.carries(etherMPLS)
		if err != nil {
			return nil, err
		}
		f.kids = append(f.kids, k)
	}
	if len(w.Args) > 0 {
		label := w.Args[0].Number << 12
		f.kids = append(f.kids, in(l.load(4, l.at.networkHeader()), []interval{{label, label | 0xfff}}))
	}
	l.at.labels++
	l.at.network += 4
	l.at.osi += 4
	return f, nil
}

// pppoes lowers "pppoes": a PPPoE session, and everything to the right is in the PPP behind it.
func (l *lowerer) pppoes(w *Word) (*form, error) {
	if err := l.limit(w, "PPPoE session", 65535); err != nil {
		return nil, err
	}
	f, err := l.carries(etherPPPoES)
	if err != nil {
		return nil, err
	}
	session := l.at.networkHeader()
	if len(w.Args) > 0 {
		f = and(f, equal(l.load(2, session.plus(2)), w.Args[0].Number))
	}
	l.at = layers{name: "PPP", framing: framingPPP, header: session.plus(6), proto: session.plus(6),
		payload: session.plus(8), mpls: true}
	return f, nil
}

// llcTypes are the kinds of LLC frames: the bits of the control byte that count, and their value.
var llcTypes = map[string][2]uint32{
	"s": {3, 1}, "u": {3, 3}, "rr": {0xf, 1}, "rnr": {0xf, 5}, "rej": {0xf, 9}, "ui": {0xef, 3},
	"ua":   {0xef, 0x63},
	"disc": {0xef, 0x43}, "sabme": {0xef, 0x6f}, "test": {0xef, 0xe3}, "xid": {0xef, 0xaf},
	"frmr": {0xef, 0x87},
}

func (l *lowerer) llcType(w *Word) (*form, error) {
	var f *form
	switch l.at.framing {
	case framingEther:
		// NetWare puts IPX behind the length without an LLC header. IPX begins with 0xffff.
		f = and(l.llc(), not(equal(l.load(2, l.at.payload), 0xffff)))
	case framingWLAN:
		f = l.dataFrame()
	default:
		return nil, l.fail("packets of "+l.at.name+" have no LLC header that can be told", "", "")
	}
	if len(w.Args) == 0 {
		return f, nil
	}
	control := l.load(1, l.at.payload.plus(2))
	name := w.Args[0].Text
	if name == "i" {
		return and(f, not(test(control, relBits, 1))), nil
	}
	t, ok := llcTypes[name]
	if !ok {
		return nil, l.fail(fmt.Sprintf("%q is no type of LLC frame", name),
			"i "+strings.Join(sortedKeys(llcTypes), " "), "")
	}
	return and(f, equal(l.compute(aluAnd, control, l.constant(t[0])), t[1])), nil
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// pfReasons has the reasons for which pf(4) logs a packet.
var pfReasons = map[string]uint32{
	"match": 0, "bad-offset": 1, "fragment": 2, "short": 3, "normalize": 4, "memory": 5,
	"bad-timestamp": 6,
	"congestion":    7, "ip-option": 8, "proto-cksum": 9, "state-mismatch": 10, "state-insert": 11,
	"state-limit": 12, "src-limit": 13, "synproxy": 14,
}

// pfActions has the actions of pf(4) on a packet.
var pfActions = map[string]uint32{
	"pass": 0, "block": 1, "drop": 1, "scrub": 2, "noscrub": 3, "nat": 4, "nonat": 5, "binat": 6,
	"nobinat": 7,
	"rdr":     8, "nordr": 9,
}

// pf lowers the fields of pflog(4)'s header.
func (l *lowerer) pf(w *Word) (*form, error) {
	if l.at.framing != framingPF {
		return nil, l.fail(fmt.Sprintf("%q is a field of pflog(4)'s packets only", w.Name), "",
			"a capture on pflog0")
	}
	arg := w.Args[0]
	switch w.Name {
	case "rnr":
		return equal(l.load(4, place{off: 36}), arg.Number), nil
	case "srnr":
		return equal(l.load(4, place{off: 40}), arg.Number), nil
	case "ifname":
		return l.text(4, arg.Text)
	case "rset":
		return l.text(20, arg.Text)
	case "reason":
		if arg.Kind == tokNumber {
			return equal(l.load(1, place{off: 3}), arg.Number), nil
		}
		v, ok := pfReasons[arg.Text]
		if !ok {
			return nil, l.fail(fmt.Sprintf("%q is no reason that pf gives", arg.Text),
				strings.Join(sortedKeys(pfReasons), " "), "")
		}
		return equal(l.load(1, place{off: 3}), v), nil
	}
	v, ok := pfActions[arg.Text]
	if !ok {
		return nil, l.fail(fmt.Sprintf("%q is no action of pf", arg.Text),
			strings.Join(sortedKeys(pfActions), " "), "")
	}
	return equal(l.load(1, place{off: 2}), v), nil
}

// text compares the 16 bytes at off with a string. Bytes behind its end do not count.
func (l *lowerer) text(off uint32, s string) (*form, error) {
	if len(s) > 15 {
		return nil, l.fail(fmt.Sprintf("%q has more than 15 characters", s),
			"a name of at most 15 characters", "")
	}
	// From the end, where names differ: em0, em1.
	f := &form{op: formAnd}
	for end := len(s); end > 0; {
		n := 4
		for n > end {
			n /= 2
		}
		var k uint32
		for _, c := range []byte(s[end-n : end]) {
			k = k<<8 | uint32(c)
		}
		end -= n
		f.kids = append(f.kids, equal(l.load(uint32(n), place{off: off + uint32(end)}), k))
	}
	return f, nil
}
