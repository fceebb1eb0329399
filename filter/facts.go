package filter

import "slices"

// domain has the known facts of a value: its range, and the bits that are zero and one.
type domain struct {
	lo, hi    uint32
	zero, one uint32
	not       [8]uint32 // values that it is not
	nots      int
	set       []uint32 // if not nil: it is one of these
}

// structure returns the domain that follows from the way in which v is computed.
func structure(v *value) domain {
	d := domain{hi: v.ceiling, zero: ^v.ceiling}
	if v.op == opConst {
		d.lo, d.one = v.k, v.k
	}
	return d
}

// decides returns 1 if every value of the domain satisfies the relation, 0 if none does, or -1.
func (d *domain) decides(rel relation, k uint32) int {
	if d.set != nil {
		known := -1
		for _, x := range d.set {
			if !d.allows(x) {
				continue
			}
			if out := truth(holds(rel, x, k)); known >= 0 && out != known {
				return -1
			} else {
				known = out
			}
		}
		return known
	}
	switch rel {
	case relEqual:
		if d.lo == d.hi {
			return truth(d.lo == k)
		}
		if !d.allows(k) {
			return 0
		}
	case relGreater:
		if d.lo > k {
			return 1
		}
		if d.hi <= k {
			return 0
		}
	case relAtLeast:
		if d.lo >= k {
			return 1
		}
		if d.hi < k {
			return 0
		}
	case relBits:
		switch {
		case d.lo == d.hi:
			return truth(d.lo&k != 0)
		case d.one&k != 0:
			return 1
		case d.zero&k == k:
			return 0
		}
	}
	return -1
}

// allows reports whether the value can be x. It does not look at the set.
func (d *domain) allows(x uint32) bool {
	return x >= d.lo && x <= d.hi && x&d.zero == 0 && ^x&d.one == 0 &&
		!slices.Contains(d.not[:d.nots], x)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// learn narrows the domain by the outcome of a test.
func (d *domain) learn(rel relation, k uint32, outcome int8) {
	switch {
	case rel == relEqual && outcome == 1:
		d.lo, d.hi, d.one, d.zero = k, k, k, ^k
	case rel == relEqual:
		if d.lo == k && k < 1<<32-1 {
			d.lo++
		} else if d.hi == k && k > 0 {
			d.hi--
		} else if d.nots < len(d.not) {
			d.not[d.nots] = k
			d.nots++
		}
	case rel == relGreater && outcome == 1:
		if k < 1<<32-1 {
			d.lo = max(d.lo, k+1)
		}
	case rel == relGreater:
		d.hi = min(d.hi, k)
	case rel == relAtLeast && outcome == 1:
		d.lo = max(d.lo, k)
	case rel == relAtLeast:
		if k > 0 {
			d.hi = min(d.hi, k-1)
		}
	case outcome == 1: // some bit of k
		if k&(k-1) == 0 {
			d.one |= k
		}
		if low := k & -k; d.lo < low {
			d.lo = low
		}
	default:
		d.zero |= k

	}
	if d.lo > d.hi { // this way is never taken
		d.hi = d.lo
	}
}

// facts answers questions about values on one edge of the graph: from block b with an outcome.
type facts struct {
	b       *block
	outcome int8
}

// decides returns 1 or 0 if the test has that outcome on every way along the edge, or -1.
func (e facts) decides(b *block) int {
	for d, out := e.b, e.outcome; d != nil; d, out = d.over, d.known {
		if out >= 0 && d.v == b.v && d.w == b.w && d.rel == b.rel && d.k == b.k {
			return int(out)
		}
	}
	if b.w != nil {
		return -1
	}
	d := e.domain(b.v)
	return d.decides(b.rel, b.k)
}

// domain collects the facts that the blocks on the way give about v.
func (e facts) domain(v *value) domain {
	d := structure(v)
	if v.op == opALU && v.alu == aluAnd && v.b.op == opConst {
		a := e.domain(v.a)
		if a.lo == a.hi {
			k := a.lo & v.b.k
			return domain{lo: k, hi: k, one: k, zero: ^k}
		}
		d.zero |= a.zero
		d.one |= a.one & v.b.k
	}
	for b, out := e.b, e.outcome; b != nil; b, out = b.over, b.known {
		if b.among == v && d.set == nil {
			d.set = b.set
		}
		if out < 0 || b.w != nil {
			continue
		}
		switch {
		case b.v == v:
			d.learn(b.rel, b.k, out)
		case b.v.op == opALU && b.v.alu == aluAnd && b.v.a == v && b.v.b.op == opConst &&
			b.rel == relEqual && out == 1:
			d.one |= b.k
			d.zero |= b.v.b.k &^ b.k
		}
	}
	return d
}

// loaded reports whether every load that the block makes has succeeded on every way along the edge.
func (e facts) loaded(b *block) bool {
	if divides(b.v) || divides(b.w) {
		return false
	}
	for _, l := range b.loads() {
		if !e.has(l) {
			return false
		}
	}
	return true
}

// loads returns every load that the block makes.
func (b *block) loads() []*value {
	if b.w == nil {
		return b.v.loads
	}
	return append(b.v.loads[:len(b.v.loads):len(b.v.loads)], b.w.loads...)
}

// has reports whether a load from the same base that ends no earlier has succeeded. A block that
// was bypassed meanwhile may not have made its loads.
func (e facts) has(l *value) bool {
	for b := e.b; b != nil; b = b.over {
		if (b == e.b || !b.bypassed) && (facts{b: b}).makes(l) {
			return true
		}
	}
	return false
}

// makes reports whether the block of the edge makes such a load.
func (e facts) makes(l *value) bool {
	return slices.ContainsFunc(e.b.v.loads, func(m *value) bool { return covers(m, l) }) ||
		e.b.w != nil && slices.ContainsFunc(e.b.w.loads, func(m *value) bool { return covers(m, l) })
}

func covers(m, l *value) bool {
	if m == l {
		return true
	}
	return m.a == l.a && uint64(m.k)+uint64(extent(m)) >= uint64(l.k)+uint64(extent(l))
}

func extent(l *value) uint32 {
	if l.op == opHeader {
		return 1
	}
	return l.size
}

// order returns the blocks that can be reached from root, each before those it leads to. The ends
// are not among them.
func (g *graph) order(root *block) []*block {
	g.mark++
	blocks := g.visit(root, make([]*block, 0, g.blocks.len()))
	slices.Reverse(blocks)
	return blocks
}

// visit appends the blocks that can be reached from b and have not the graph's mark, b last.
func (g *graph) visit(b *block, blocks []*block) []*block {
	if b.v == nil || b.mark == g.mark {
		return blocks
	}
	b.mark = g.mark
	blocks = g.visit(b.f, blocks)
	blocks = g.visit(b.t, blocks)
	return append(blocks, b)
}

// improve removes tests whose outcome is known on the way to them, and blocks that no longer
// matter.
func (g *graph) improve(root *block) *block {
	for {
		changed := false
		blocks := g.order(root)
		dominate(blocks)
		if r := g.skip(root, facts{}, nil); r != root {
			root, changed = r, true
		}
		for _, b := range blocks {
			if t := g.skip(b.t, facts{b, 1}, nil); t != b.t {
				b.t, changed = t, true
			}
			if f := g.skip(b.f, facts{b, 0}, nil); f != b.f {
				b.f, changed = f, true
			}
		}
		left := g.order(root)
		g.blocks.clear()
		for i := len(left) - 1; i >= 0; i-- {
			b := left[i]
			b.now = g.renew(b, b.v, b.rel, b.k, b.w, b.t.now, b.f.now)
		}
		root = root.now
		if !changed && g.blocks.len() == len(blocks) {
			return root
		}
	}
}

// skip follows blocks whose outcome the edge decides. The caller leads the edge to where skip
// ends. With a goal, the caller only asks whether skip ends there, and skip looks at no more than
// lookAhead blocks.
func (g *graph) skip(b *block, e facts, goal *block) *block {
	for n := 1; b.v != nil && (goal == nil || n <= lookAhead); n++ {
		out := e.decides(b)
		if b.t == b.f {
			out = 1
		}
		next := b.t
		switch out {
		case -1:
			if goal != nil && goal != b && goal != g.reject {
				return b // elsewhere, whether it reaches the end or not
			}
			if !g.reaches(b, e) {
				return g.reject
			}
			return b
		case 0:
			next = b.f
		}
		// A load that fails refuses the packet. So it may go only if it cannot fail, or if the packet
		// is refused without it as well.
		if !e.loaded(b) && !g.demands(next, b, e) {
			return b
		}
		b.bypassed = b.bypassed || goal == nil
		b = next
	}
	return b
}

// dropImplied drops a test without which packets come to the same place: the tests behind it decide
// the same. It reports whether there was one. A packet may pass more tests then. So this pays only
// if the program gets shorter.
//
// It drops one at a time, because more packets come to the tests behind it then, and what was known
// of them need not hold any more.
func (g *graph) dropImplied(root *block) (_ *block, dropped bool) {
	blocks := g.order(root)
	dominate(blocks)
	without := func(b *block, e facts) *block {
		if b.v == nil {
			return b
		}
		next := b.f
		if g.skip(b.f, facts{b, 1}, b.t) != b.t {
			next = b.t
			if g.skip(b.t, facts{b, 0}, b.f) != b.f {
				return b
			}
		}
		if !e.loaded(b) && !g.demands(next, b, e) {
			return b
		}
		return next
	}
	if r := without(root, facts{}); r != root {
		return r, true
	}
	for _, b := range blocks {
		if t := without(b.t, facts{b, 1}); t != b.t {
			b.t = t
			return root, true
		}
		if f := without(b.f, facts{b, 0}); f != b.f {
			b.f = f
			return root, true
		}
	}
	return root, false
}

// lookAhead is the number of tests behind a test that dropImplied looks at.
const lookAhead = 6

// searchLimit bounds the number of blocks that a search looks at. Beyond it, the answer is the
// careful one.
const searchLimit = 64

// reaches reports whether a packet that takes the edge can be accepted.
func (g *graph) reaches(b *block, e facts) bool {
	g.mark++
	left := searchLimit
	return g.reachesFrom(b, e, &left)
}

func (g *graph) reachesFrom(b *block, e facts, left *int) bool {
	if b.v == nil {
		return b == g.accept
	}
	if b.mark == g.mark {
		return false
	}
	b.mark = g.mark
	if *left--; *left < 0 {
		return true
	}
	switch e.decides(b) {
	case 1:
		return g.reachesFrom(b.t, e, left)
	case 0:
		return g.reachesFrom(b.f, e, left)
	}
	return g.reachesFrom(b.t, e, left) || g.reachesFrom(b.f, e, left)
}

// demands reports whether every packet that takes the edge and is accepted passes loads, from b
// onwards, that fail if those of lost fail.
func (g *graph) demands(b, lost *block, e facts) bool {
	if divides(lost.v) || divides(lost.w) {
		return b == g.reject
	}
	g.mark++
	left := searchLimit
	var visit func(*block) bool
	visit = func(b *block) bool {
		if b.v == nil {
			return b == g.reject
		}
		if b.mark == g.mark {
			return true
		}
		b.mark = g.mark
		if left--; left < 0 {
			return false
		}
		here := facts{b: b}
		all := true
		for _, l := range lost.loads() {
			all = all && (e.has(l) || here.makes(l))
		}
		if all {
			return true
		}
		switch e.decides(b) {
		case 1:
			return visit(b.t)
		case 0:
			return visit(b.f)
		}
		return visit(b.t) && visit(b.f)
	}
	return visit(b)
}

// dominate sets over, known and depth of every block. The blocks are in order.
func dominate(blocks []*block) {
	for _, b := range blocks {
		b.over, b.known, b.depth, b.among, b.set, b.bypassed = nil, -1, -1, nil, nil, false
	}
	if len(blocks) > 0 {
		blocks[0].depth = 0
	}
	for _, b := range blocks {
		reach(b.t, b, 1)
		reach(b.f, b, 0)
	}
}

// reach adds the edge from b with an outcome to the facts about target.
func reach(target, b *block, outcome int8) {
	if target.v == nil {
		return
	}
	if target.depth < 0 {
		target.over, target.known, target.depth = b, outcome, b.depth+1
		target.among, target.set = nil, nil
		if outcome == 1 && b.rel == relEqual && b.w == nil {
			target.among = b.v
			target.set = append(target.set, b.k)
		}
		return
	}
	if target.among == b.v && outcome == 1 && b.rel == relEqual && b.w == nil {
		target.set = append(target.set, b.k)
	} else {
		target.among, target.set = nil, nil
	}
	x, xk := target.over, target.known
	y, yk := b, outcome
	for x != y {
		if x != nil && (y == nil || x.depth >= y.depth) {
			x, xk = x.over, x.known
		} else {
			y, yk = y.over, y.known
		}
	}
	if xk != yk {
		xk = -1
	}
	target.over, target.known = x, xk
	if x != nil {
		target.depth = x.depth + 1
	} else {
		target.depth = 0
	}
}
