package filter

import (
	"maps"
	"math/bits"
	"slices"
)

// few returns a state for each value of X, if there are at most four.
func (s *state) few(x *term) (each []state) {
	x = s.settled(x)
	keys := map[string]bool{}
	x.keys(keys)
	found := map[uint32]bool{}
	n := *s
	n.a = x
	if len(keys) > 2 || !n.every(x, keys, func(v uint32) { found[v] = true }) || len(found) > 4 {
		return nil
	}
	for v := range found {
		if m := n.after(jumpEqual, constTerm(v), true); m != nil {
			m.a, m.x = s.a, constTerm(v)
			each = append(each, *m)
		}
	}
	return each
}

// every calls f with each value that e may have. It reports whether there are any.
func (s *state) every(e *term, keys map[string]bool, f func(uint32)) bool {
	n := *s
	n.bytes = maps.Clone(s.bytes)
	any := false
	n.enumerate(jumpBits, e, e, true, keys, func(v uint32) { any = true; f(v) })
	return any
}

// settled replaces bytes that have but one value left.
func (s *state) settled(e *term) *term {
	switch {
	case e.op == termConst || e.op == termLen:
	case e.op == termByte:
		if lo, hi, _ := s.of(e.key).bounds(); lo == hi {
			return constTerm(lo)
		}
	default:
		return combine(e.op, s.settled(e.a), s.settled(e.b))
	}
	return e
}

func (s *state) of(key string) *values {
	if v := s.bytes[key]; v != nil {
		return v
	}
	v := &values{}
	for i := range v {
		v[i] = true
	}
	return v
}

func (v *values) bounds() (lo, hi uint32, n int) {
	lo = 256
	for i, may := range v {
		if may {
			lo, hi, n = min(lo, uint32(i)), uint32(i), n+1
		}
	}
	return lo, hi, n
}

// after is the state behind a jump with an outcome, nil if that contradicts what came before.
func (s *state) after(op uint16, k *term, outcome bool) *state {
	a, k := s.settled(s.a), s.settled(k)
	keys := map[string]bool{}
	a.keys(keys)
	k.keys(keys)
	n := *s
	n.bytes = maps.Clone(s.bytes)
	combinations := 1
	for key := range keys {
		c := int(s.longest - s.shortest + 1)
		if key != "len" {
			_, _, c = s.of(key).bounds()
		}
		if combinations *= c; combinations > longestPacket+1 {
			break
		}
	}
	if combinations <= longestPacket+1 {
		if !n.enumerate(op, a, k, outcome, keys, func(uint32) {}) {
			return nil
		}
		return &n
	}
	may := false
	for _, a := range s.alternatives(a) {
		may = may || possible(op, a, s.knownOf(k), outcome)
	}
	if !may {
		return nil
	}
	if op == jumpEqual && outcome && k.op == termConst && !n.narrow(a, k.k, ^uint32(0)) {
		return nil
	}
	return &n
}

func (e *term) keys(into map[string]bool) {
	switch {
	case e.op == termByte:
		into[e.key] = true
	case e.op == termLen:
		into["len"] = true
	case e.a != nil:
		e.a.keys(into)
		e.b.keys(into)
	}
}

// enumerate tries all values of the bytes, and keeps those for which the jump has the outcome.
func (s *state) enumerate(op uint16, a, k *term, outcome bool, keys map[string]bool,
	saw func(a uint32)) bool {
	order := slices.Collect(maps.Keys(keys))
	a.place(order)
	k.place(order)
	kept := make([]values, len(order))
	at := make([]uint32, len(order))
	any, shortest, longest := false, ^uint32(0), uint32(0)
	var try func(i int)
	try = func(i int) {
		switch {
		case i == len(order):
			va, ok := a.value(at)
			vk, ok2 := k.value(at)
			if ok {
				saw(va)
			}
			if !ok || !ok2 || outcomeOf(op, va, vk) != outcome {
				return
			}
			any = true
			for i, v := range at {
				if order[i] == "len" {
					shortest, longest = min(shortest, v), max(longest, v)
				} else {
					kept[i][v] = true
				}
			}
		case order[i] == "len":
			for at[i] = s.shortest; at[i] <= s.longest; at[i]++ {
				try(i + 1)
			}
		default:
			for v, may := range s.of(order[i]) {
				if may {
					at[i] = uint32(v)
					try(i + 1)
				}
			}
		}
	}
	try(0)
	for i, key := range order {
		if key == "len" {
			s.shortest, s.longest = shortest, longest
		} else {
			s.bytes[key] = &kept[i]
		}
	}
	return any
}

// place tells the bytes of e where their values are.
func (e *term) place(order []string) {
	switch {
	case e.op == termByte:
		e.slot = slices.Index(order, e.key)
	case e.op == termLen:
		e.slot = slices.Index(order, "len")
	case e.a != nil:
		e.a.place(order)
		e.b.place(order)
	}
}

func (e *term) value(at []uint32) (v uint32, ok bool) {
	switch e.op {
	case termConst:
		return e.k, true
	case termByte, termLen:
		return at[e.slot], true
	}
	a, ok := e.a.value(at)
	b, ok2 := e.b.value(at)
	if !ok || !ok2 {
		return 0, false
	}
	if e.op == aluLsh || e.op == aluRsh {
		b &= 31
	}
	return fold(e.op, a, b)
}

func outcomeOf(op uint16, a, k uint32) bool {
	switch op {
	case jumpEqual:
		return a == k
	case jumpGreater:
		return a > k
	case jumpAtLeast:
		return a >= k
	}
	return a&k != 0
}

// known are bits of a number that are known and their values, and what it is at least.
type known struct{ mask, value, least uint32 }

func (s *state) knownOf(e *term) known {
	switch e.op {
	case termConst:
		return known{^uint32(0), e.k, e.k}
	case termLen:
		return known{^uint32(0) << bits.Len32(s.longest), 0, s.shortest}
	case termByte:
		always, ever := uint32(0xff), uint32(0)
		for v, may := range s.of(e.key) {
			if may {
				always, ever = always&uint32(v), ever|uint32(v)
			}
		}
		return known{^ever | always, always, always}
	}
	a, b := s.knownOf(e.a), s.knownOf(e.b)
	ones, zeros := a.value&a.mask, a.mask&^a.value
	onesB, zerosB := b.value&b.mask, b.mask&^b.value
	shift := b.value & 31
	a.least, b.least = max(a.least, ones), max(b.least, onesB)
	switch constant := b.mask == ^uint32(0); {
	case e.op == aluAnd:
		return known{ones&onesB | zeros | zerosB, ones & onesB, 0}
	case e.op == aluOr:
		return known{ones | onesB | zeros&zerosB, ones | onesB, max(a.least, b.least)}
	case e.op == aluXor:
		return known{a.mask & b.mask, (a.value ^ b.value) & a.mask & b.mask, 0}
	case e.op == aluAdd || e.op == aluMul:
		mostA, mostB := uint64(a.value|^a.mask), uint64(b.value|^b.mask)
		most, least := mostA+mostB, a.least+b.least
		if e.op == aluMul {
			most, least = mostA*mostB, a.least*b.least
		}
		if most < 1<<32 { // nothing is carried out of the word
			return known{^uint32(0) << bits.Len64(most), 0, least}
		}
	case e.op == aluLsh && constant:
		return known{a.mask<<shift | (1<<shift - 1), ones << shift, 0}
	case e.op == aluRsh && constant:
		return known{a.mask>>shift | ^(^uint32(0) >> shift), ones >> shift, a.least >> shift}
	}
	return known{}
}

// alternatives are what is known of a difference with and without a borrow.
func (s *state) alternatives(e *term) []known {
	if e.op != aluSub {
		return []known{s.knownOf(e)}
	}
	a, b := s.knownOf(e.a), s.knownOf(e.b)
	above := func(k known) uint32 { return ^uint32(0) << bits.Len32(k.value|^k.mask) }
	return []known{{mask: above(a)}, {mask: above(b), value: above(b)}}
}

// possible reports whether a jump may have the outcome.
func possible(op uint16, a, k known, outcome bool) bool {
	most, least := a.value|^a.mask, max(a.value&a.mask, a.least)
	mostK, leastK := k.value|^k.mask, max(k.value&k.mask, k.least)
	switch {
	case op == jumpEqual && outcome:
		return (a.value^k.value)&a.mask&k.mask == 0 && least <= mostK && leastK <= most
	case op == jumpEqual:
		return a.mask&k.mask != ^uint32(0) || a.value != k.value
	case op == jumpGreater && outcome:
		return most > leastK
	case op == jumpGreater:
		return least <= mostK
	case op == jumpAtLeast && outcome:
		return most >= leastK
	case op == jumpAtLeast:
		return least < mostK
	case outcome:
		return most&mostK != 0
	}
	return a.value&a.mask&k.value&k.mask == 0
}

// narrow keeps the values of bytes for which the bits of mask in e are those of want.
func (s *state) narrow(e *term, want, mask uint32) bool {
	switch {
	case e.op == termByte:
		v := *s.of(e.key)
		for i := range v {
			v[i] = v[i] && uint32(i)&mask == want&mask
		}
		s.bytes[e.key] = &v
		_, _, n := v.bounds()
		return n > 0
	case e.op == aluAnd && e.b.op == termConst:
		return s.narrow(e.a, want, mask&e.b.k)
	case e.op == aluLsh && e.b.op == termConst:
		return s.narrow(e.a, want>>e.b.k, mask>>e.b.k)
	case e.op == termConst:
		return e.k&mask == want&mask
	case e.op == aluOr && e.b.op >= termConst: // bytes beside each other
		return s.narrow(e.a, want, mask&^0xff) && s.narrow(e.b, want, mask&0xff)
	}
	return true
}
