package filter

// valueOp is the way in which a value is computed.
type valueOp uint8

const (
	opConst  valueOp = iota // k
	opLength                // the packet's length on the wire
	opLoad                  // size bytes at base a (or the start of the packet) plus k
	opHeader                // 4 * (byte at k & 15): the length of an IPv4 header
	opALU                   // a alu b
	opNeg                   // 0 - a
	opPadded                // a, made a multiple of 4 if the radiotap header at 0 says so
)

// value is a number that a program computes from the packet. A pool holds each value once, so two
// values are equal if and only if they are the same pointer.
type value struct {
	id   int
	op   valueOp
	alu  uint16 // bpf ALU operation: aluAdd, …
	size uint32
	k    uint32
	a, b *value

	cost    int      // instructions to compute it
	loads   []*value // every load within it, innermost first
	ceiling uint32   // has every bit that the value can have
}

const (
	aluAdd = 0x00
	aluSub = 0x10
	aluMul = 0x20
	aluDiv = 0x30
	aluOr  = 0x40
	aluAnd = 0x50
	aluLsh = 0x60
	aluRsh = 0x70
	aluNeg = 0x80
	aluMod = 0x90
	aluXor = 0xa0
)

type valueKey struct {
	op   valueOp
	alu  uint16
	size uint32
	k    uint32
	a, b int
}

// pool makes values.
type pool struct {
	known table[valueKey, *value]
	all   []*value
	slab  []value // not used yet
}

func (p *pool) make(v value) *value {
	key := valueKey{op: v.op, alu: v.alu, size: v.size, k: v.k, a: -1, b: -1}
	v.cost = 1
	if v.a != nil {
		key.a = v.a.id
		v.cost += v.a.cost
		v.loads = v.a.loads
	}
	if v.b != nil {
		key.b = v.b.id
		if v.b.op != opConst {
			v.cost += v.b.cost + 1
			v.loads = append(v.loads[:len(v.loads):len(v.loads)], v.b.loads...)
		}
	}
	if old := p.known.get(key); old != nil {
		return old
	}
	if v.op == opPadded {
		v.cost += 13
	}
	v.id = len(p.all)
	v.ceiling = ceiling(&v)
	if len(p.slab) == 0 {
		p.slab = make([]value, 16)
	}
	n := &p.slab[0]
	p.slab = p.slab[1:]
	*n = v
	if v.op == opLoad || v.op == opHeader {
		n.loads = append(v.loads[:len(v.loads):len(v.loads)], n)
	}
	p.known.put(key, n)
	p.all = append(p.all, n)
	return n
}

func (p *pool) constant(k uint32) *value { return p.make(value{op: opConst, k: k}) }

// fold returns x alu y. ok is false for a division by zero or a shift by more than 31.
func fold(alu uint16, x, y uint32) (z uint32, ok bool) {
	switch alu {
	case aluAdd:
		return x + y, true
	case aluSub:
		return x - y, true
	case aluMul:
		return x * y, true
	case aluDiv:
		if y != 0 {
			return x / y, true
		}
	case aluMod:
		if y != 0 {
			return x % y, true
		}
	case aluOr:
		return x | y, true
	case aluAnd:
		return x & y, true
	case aluXor:
		return x ^ y, true
	case aluLsh:
		if y < 32 {
			return x << y, true
		}
	case aluRsh:
		if y < 32 {
			return x >> y, true
		}
	}
	return 0, false
}

// compute returns a alu b. The caller has refused a constant b that fold refuses.
func (p *pool) compute(alu uint16, a, b *value) *value {
	if a.op == opConst && b.op == opConst {
		if z, ok := fold(alu, a.k, b.k); ok {
			return p.constant(z)
		}
	}
	if a.op == opConst && (alu == aluAdd || alu == aluMul || alu == aluOr || alu == aluAnd ||
		alu == aluXor) {
		a, b = b, a
	}
	if b.op == opConst {
		switch alu {
		case aluSub:
			alu, b = aluAdd, p.constant(-b.k)
			fallthrough
		case aluAdd, aluOr, aluXor, aluLsh, aluRsh:
			if b.k == 0 {
				return a
			}
			if a.op == opALU && a.alu == alu && a.b.op == opConst && alu != aluLsh && alu != aluRsh {
				z, _ := fold(alu, a.b.k, b.k)
				return p.compute(alu, a.a, p.constant(z))
			}
		case aluMul, aluDiv:
			if b.k == 1 {
				return a
			}
		case aluAnd:
			if a.ceiling&^b.k == 0 {
				return a
			}
			if a.op == opALU && a.alu == aluAnd && a.b.op == opConst {
				return p.compute(aluAnd, a.a, p.constant(a.b.k&b.k))
			}
		}
	}
	if low := a.a; alu == aluLsh && b.op == opConst && b.k == 2 && a.op == opALU && a.alu == aluAnd &&
		a.b.op == opConst && a.b.k == 15 && low.op == opLoad && low.size == 1 && low.a == nil {
		return p.make(value{op: opHeader, k: low.k})
	}
	if alu == aluLsh || alu == aluRsh {
		// Machines shift differently by a count above 31. The language takes it modulo 32.
		if b.op != opConst && b.ceiling > 31 {
			b = p.compute(aluAnd, b, p.constant(31))
		}
	}
	return p.make(value{op: opALU, alu: alu, a: a, b: b})
}

// ceiling computes the ceiling of v from those of its operands.
func ceiling(v *value) uint32 {
	switch v.op {
	case opConst:
		return v.k
	case opLoad:
		return uint32(1<<(8*v.size) - 1)
	case opHeader:
		return 60
	case opALU:
		a, b := v.a.ceiling, v.b.ceiling
		switch v.alu {
		case aluAnd:
			return a & b
		case aluOr, aluXor:
			return a | b
		case aluRsh:
			if v.b.op == opConst {
				return a >> v.b.k
			}
		case aluLsh:
			if v.b.op == opConst {
				return a << v.b.k
			}
		}
	}
	return 1<<32 - 1
}

func (p *pool) negative(a *value) *value {
	if a.op == opConst {
		return p.constant(-a.k)
	}
	return p.make(value{op: opNeg, a: a})
}

// load returns size bytes at base+off.
func (p *pool) load(size uint32, at place) *value {
	if at.base != nil && at.base.op == opConst {
		at = place{nil, at.base.k + at.off}
	}
	return p.make(value{op: opLoad, size: size, k: at.off, a: at.base})
}

// headerLen returns the length of the IPv4 header at that place.
func (p *pool) headerLen(at place) *value {
	if at.base == nil {
		return p.make(value{op: opHeader, k: at.off})
	}
	low := p.compute(aluAnd, p.load(1, at), p.constant(15))
	return p.compute(aluLsh, low, p.constant(2))
}

// place is an offset in the packet: a constant plus a value from the packet.
type place struct {
	base *value // nil for none
	off  uint32
}

func (a place) plus(n uint32) place { return place{a.base, a.off + n} }

// moved returns at plus v.
func (p *pool) moved(at place, v *value) place {
	if v.op == opConst {
		return place{at.base, at.off + v.k}
	}
	if at.base != nil {
		v = p.compute(aluAdd, v, at.base)
	}
	return place{v, at.off}
}
