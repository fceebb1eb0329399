package filter

import "slices"

// relation is the kind of comparison of a block.
type relation uint8

const (
	relEqual relation = iota
	relGreater
	relAtLeast
	relBits // has one of the bits
)

// block is a basic block. It computes v, compares it, and goes to t or f. A block without v is an
// end. Blocks form a graph without cycles.
type block struct {
	v    *value
	rel  relation
	k    uint32
	w    *value // compare with w instead of k
	t, f *block

	// Analysis sets these.
	mark  int
	depth int
	over  *block // the nearest block that every way here passes through
	known int8   // the outcome of over on every way here: 1, 0, or -1 if both occur
	among *value // every way here has found this value to be in set
	set   []uint32
	out   int    // index in the program's order
	now   *block // what the block has become

	bypassed bool // a way here leads past it since the facts were collected
}

type blockKey struct {
	v, w int
	rel  relation
	k    uint32
	t, f *block
}

// graph makes blocks, each once.
type graph struct {
	pool
	accept, reject *block
	blocks         table[blockKey, *block]
	slab           []block // not used yet
	optimize       bool
	mark           int
}

func newGraph(optimize bool) *graph {
	g := &graph{accept: &block{}, reject: &block{}, optimize: optimize}
	g.accept.now, g.reject.now = g.accept, g.reject
	return g
}

// block returns the block for a test. It simplifies the test as far as that needs no facts about
// the way to it.
func (g *graph) block(v *value, rel relation, k uint32, w *value, t, f *block) *block {
	return g.renew(nil, v, rel, k, w, t, f)
}

// renew does the same as block, and uses old if it needs a block that does not exist.
func (g *graph) renew(old *block, v *value, rel relation, k uint32, w *value, t, f *block) *block {
	if w != nil && w.op == opConst {
		k, w = w.k, nil
	}
	if g.optimize {
		if v.op == opConst && w == nil {
			if holds(rel, v.k, k) {
				return t
			}
			return f
		}
		if w == nil && k == 0 && rel == relEqual && v.op == opALU && v.alu == aluSub {
			v, w = v.a, v.b
		}
		if w == nil {
			if v.op == opALU && v.alu == aluAnd && v.b.op == opConst && (rel == relEqual ||
				rel == relGreater) {
				switch {
				case k == 0 && rel == relEqual:
					v, rel, k, t, f = v.a, relBits, v.b.k, f, t
				case k == 0:
					v, rel, k = v.a, relBits, v.b.k
				case rel == relEqual && k == v.b.k && k&(k-1) == 0:
					v, rel = v.a, relBits
				}
			}
			d := structure(v)
			if known := d.decides(rel, k); known >= 0 && len(v.loads) == 0 && !divides(v) {
				if known == 1 {
					return t
				}
				return f
			}
		}
		// A load beyond the packet's end refuses the packet. This block does so for all bytes.
		if t == f && (t == g.reject || len(v.loads) == 0 && w == nil && !divides(v)) {
			return t
		}
	}
	key := blockKey{v: v.id, w: -1, rel: rel, k: k, t: t, f: f}
	if w != nil {
		key.w = w.id
	}
	if g.optimize {
		if b := g.blocks.get(key); b != nil {
			return b
		}
	}
	b := old
	if b == nil {
		if len(g.slab) == 0 {
			g.slab = make([]block, 24)
		}
		b, g.slab = &g.slab[0], g.slab[1:]
	}
	b.v, b.rel, b.k, b.w, b.t, b.f = v, rel, k, w, t, f
	g.blocks.put(key, b)
	return b
}

// divides reports whether computing v can divide by zero, which refuses the packet.
func divides(v *value) bool {
	if v == nil || v.op != opALU {
		return v != nil && v.a != nil && divides(v.a)
	}
	return (v.alu == aluDiv || v.alu == aluMod) && v.b.op != opConst || divides(v.a) || divides(v.b)
}

func holds(rel relation, x, k uint32) bool {
	switch rel {
	case relEqual:
		return x == k
	case relGreater:
		return x > k
	case relAtLeast:
		return x >= k
	}
	return x&k != 0
}

// formOp is the kind of a form.
type formOp uint8

const (
	formTest formOp = iota
	formAnd
	formOr
	formNot
	formIn // v lies in one of the ranges
	formTrue
	formFalse
)

// form is a condition on values: an expression whose qualifiers, names and layers are resolved.
type form struct {
	op     formOp
	v, w   *value
	rel    relation
	k      uint32
	ranges []interval
	kids   []*form
}

// interval has the numbers from lo to hi.
type interval struct{ lo, hi uint32 }

var (
	always = &form{op: formTrue}
	never  = &form{op: formFalse}
)

func test(v *value, rel relation, k uint32) *form { return &form{v: v, rel: rel, k: k} }
func equal(v *value, k uint32) *form              { return test(v, relEqual, k) }
func not(f *form) *form                           { return &form{op: formNot, kids: []*form{f}} }
func and(f ...*form) *form                        { return &form{op: formAnd, kids: f} }
func or(f ...*form) *form                         { return &form{op: formOr, kids: f} }

// in returns the condition that v lies in one of the ranges.
func in(v *value, ranges []interval) *form {
	return &form{op: formIn, v: v,
		ranges: merged(ranges)}
}

// merged sorts ranges and joins those that touch.
func merged(ranges []interval) []interval {
	if len(ranges) < 2 {
		return ranges
	}
	s := slices.Clone(ranges)
	slices.SortFunc(s, func(a, b interval) int {
		if a.lo < b.lo {
			return -1
		}
		return 1
	})
	out := s[:0]
	for _, r := range s {
		if n := len(out); n > 0 && (r.lo <= out[n-1].hi || r.lo-1 == out[n-1].hi) {
			out[n-1].hi = max(out[n-1].hi, r.hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// build returns the block where f begins if it goes on at yes when it holds and at no otherwise.
func (g *graph) build(f *form, yes, no *block) *block {
	switch f.op {
	case formTrue:
		return yes
	case formFalse:
		return no
	case formNot:
		return g.build(f.kids[0], no, yes)
	case formAnd:
		for i := len(f.kids) - 1; i >= 0; i-- {
			yes = g.build(f.kids[i], yes, no)
		}
		return yes
	case formOr:
		for i := len(f.kids) - 1; i >= 0; i-- {
			no = g.build(f.kids[i], yes, no)
		}
		return no
	case formIn:
		return g.chain(f.v, f.ranges, yes, no)
	}
	return g.block(f.v, f.rel, f.k, f.w, yes, no)
}

// chain asks for one range after the other. They are sorted, so a value below a range is in none
// of the later ones.
func (g *graph) chain(v *value, ranges []interval, yes, no *block) *block {
	next := no
	for i := len(ranges) - 1; i >= 0; i-- {
		switch r := ranges[i]; {
		case r.lo == r.hi:
			next = g.block(v, relEqual, r.lo, nil, yes, next)
		case r.hi == r.lo+1:
			next = g.block(v, relEqual, r.lo, nil, yes, g.block(v, relEqual, r.hi, nil, yes, next))
		default:
			if r.hi < 1<<32-1 {
				next = g.block(v, relGreater, r.hi, nil, next, yes)
			} else {
				next = yes
			}
			if r.lo > 0 {
				next = g.block(v, relAtLeast, r.lo, nil, next, no)
			}
		}
	}
	if len(ranges) > 0 && next == yes && len(v.loads) > 0 {
		// Every value matches, but the field must lie within the packet.
		return g.block(v, relAtLeast, 0, nil, yes, yes)
	}
	return next
}
