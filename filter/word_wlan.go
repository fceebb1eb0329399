package filter

import (
	"fmt"
	"strings"
)

// wlanSource returns the condition that at(off) holds at the offset of the source address. That
// offset depends on whether the frame goes to and comes from the distribution system.
func (l *lowerer) wlanSource(at func(off uint32) *form) *form {
	type_, ds := l.load(1, l.at.header), l.load(1, l.at.header.plus(1))
	data, from, to := test(type_, relBits, 8), test(ds, relBits, 2), test(ds, relBits, 1)
	return and(not(test(type_, relBits, 4)), or(
		and(data, from, to, at(24)), and(data, from, not(to), at(16)), and(data, not(from), at(10)),
		and(not(data), at(10))))
}

// wlanDestination does the same for the destination address.
func (l *lowerer) wlanDestination(at func(off uint32) *form) *form {
	type_, ds := l.load(1, l.at.header), l.load(1, l.at.header.plus(1))
	data, to := test(type_, relBits, 8), test(ds, relBits, 1)
	return and(not(test(type_, relBits, 4)), or(
		and(data, to, at(16)), and(data, not(to), at(4)), and(not(data), at(4))))
}

// wlanAddress returns the condition on one of the addresses by its place. Control frames have only
// the first, and some have the second.
func (l *lowerer) wlanAddress(dir string, at func(off uint32) *form) *form {
	fc := l.load(1, l.at.header)
	bits := func(mask, k uint32) *form { return equal(l.compute(aluAnd, fc, l.constant(mask)), k) }
	control := bits(0xc, 4)
	second := func() *form {
		return and(not(and(control, or(bits(0xf0, 0xc0), bits(0xf0, 0xd0)))), at(10))
	}
	switch dir {
	case "addr1":
		return at(4)
	case "addr2":
		return second()
	case "addr3":
		return and(not(control), at(16))
	case "addr4":
		return and(equal(l.compute(aluAnd, l.load(1, l.at.header.plus(1)), l.constant(3)), 3), at(24))
	case "ra":
		return and(test(fc, relBits, 8), at(4))
	}
	return and(test(fc, relBits, 8), second()) // ta
}

var wlanTypes = map[string]uint32{"mgt": 0, "management": 0, "ctl": 4, "control": 4, "data": 8}

// wlanSubtypes are the subtypes of each type.
var wlanSubtypes = map[uint32]map[string]uint32{
	0: {"assoc-req": 0, "assocreq": 0, "assoc-resp": 0x10, "assocresp": 0x10, "reassoc-req": 0x20,
		"reassocreq": 0x20, "reassoc-resp": 0x30, "reassocresp": 0x30, "probe-req": 0x40,
		"probereq":   0x40,
		"probe-resp": 0x50, "proberesp": 0x50, "beacon": 0x80, "atim": 0x90, "disassoc": 0xa0,
		"disassociation": 0xa0, "auth": 0xb0, "authentication": 0xb0, "deauth": 0xc0,
		"deauthentication": 0xc0},
	4: {"ps-poll": 0xa0, "rts": 0xb0, "cts": 0xc0, "ack": 0xd0, "cf-end": 0xe0, "cf-end-ack": 0xf0},
	8: {"data": 0, "data-cf-ack": 0x10, "data-cf-poll": 0x20, "data-cf-ack-poll": 0x30, "null": 0x40,
		"cf-ack": 0x50, "cf-poll": 0x60, "cf-ack-poll": 0x70, "qos-data": 0x80, "qos-data-cf-ack": 0x90,
		"qos-data-cf-poll": 0xa0, "qos-data-cf-ack-poll": 0xb0, "qos": 0xc0, "qos-cf-poll": 0xe0,
		"qos-cf-ack-poll": 0xf0},
}

var wlanDirections = map[string]uint32{"nods": 0, "tods": 1, "fromds": 2, "dstods": 3}

// wlanWord lowers type, subtype and dir.
func (l *lowerer) wlanWord(w *Word) (*form, error) {
	if l.at.framing != framingWLAN {
		return nil, l.fail(fmt.Sprintf("%q is a field of 802.11 frames, and these are packets of %s",
			w.Name, l.at.name),
			"", "a capture with link type IEEE802_11 or IEEE802_11_RADIO")
	}
	masked := func(off, mask, k uint32) *form {
		return equal(l.compute(aluAnd, l.load(1, l.at.header.plus(off)), l.constant(mask)), k)
	}
	arg := w.Args[0]
	switch w.Name {
	case "dir":
		v, ok := wlanDirections[arg.Text]
		if arg.Kind == tokNumber {
			v, ok = arg.Number, true
		}
		if !ok {
			return nil, l.fail(fmt.Sprintf("%q is no direction of an 802.11 frame", arg.Text),
				strings.Join(sortedKeys(wlanDirections), " ")+" or a number", "")
		}
		return masked(1, 3, v), nil
	case "subtype":
		for t, names := range wlanSubtypes {
			if v, ok := names[arg.Text]; ok {
				return masked(0, 0xfc, t|v), nil
			}
		}
		return nil, l.fail(fmt.Sprintf("%q is no subtype of an 802.11 frame", arg.Text),
			"a subtype such as beacon, rts or null", "")
	}
	t, ok := wlanTypes[arg.Text]
	if arg.Kind == tokNumber {
		t, ok = arg.Number, arg.Number&^0xc == 0
	}
	if !ok {
		return nil, l.fail(fmt.Sprintf("%q is no type of an 802.11 frame", arg.Text),
			"mgt, ctl, data, or 0, 4 or 8", "")
	}
	if len(w.Args) == 1 {
		return masked(0, 0xc, t), nil
	}
	sub := w.Args[1]
	v, ok := wlanSubtypes[t][sub.Text]
	if sub.Kind == tokNumber {
		v, ok = sub.Number, sub.Number&^0xf0 == 0
	}
	if !ok {
		return nil, l.fail(fmt.Sprintf("%q is no subtype of %q", sub.Text, arg.Text),
			strings.Join(sortedKeys(wlanSubtypes[t]), " ")+", or 0x00 to 0xf0", "")
	}
	return masked(0, 0xfc, t|v), nil
}
