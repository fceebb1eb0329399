package filter

// domain is what is known of a value: its range, and bits that are zero and one.
type domain struct {
	lo, hi    uint32
	zero, one uint32
	not       [8]uint32 // values that it is not
	nots      int
}

var anything = domain{hi: 1<<32 - 1}

// structure returns what the way in which v is computed says of it.
func structure(v *value) domain {
	c := ceiling(v)
	d := domain{hi: c, zero: ^c}
	if v.op == opConst {
		d.lo, d.one = v.k, v.k
	}
	return d
}

// decides returns 1 if every value of the domain satisfies the relation, 0 if none does, else -1.
func (d *domain) decides(rel relation, k uint32) int {
	switch rel {
	case relEqual:
		switch {
		case d.lo == d.hi:
			return truth(d.lo == k)
		case k < d.lo || k > d.hi || k&d.zero != 0 || ^k&d.one != 0:
			return 0
		}
		for _, n := range d.not[:d.nots] {
			if n == k {
				return 0
			}
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

// decides returns 1 or 0 if the test has that outcome on every way along the edge, else -1.
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

// domain collects what the blocks on the way say of v.
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
		if out < 0 || b.w != nil {
			continue
		}
		switch {
		case b.v == v:
			d.learn(b.rel, b.k, out)
		case b.v.op == opALU && b.v.alu == aluAnd && b.v.a == v && b.v.b.op == opConst && b.rel == relEqual && out == 1:
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
	for _, l := range b.v.loads {
		if !e.has(l) {
			return false
		}
	}
	if b.w != nil {
		for _, l := range b.w.loads {
			if !e.has(l) {
				return false
			}
		}
	}
	return true
}

// has reports whether a load from the same base that ends no earlier has succeeded.
func (e facts) has(l *value) bool {
	for b := e.b; b != nil; b = b.over {
		for _, m := range b.v.loads {
			if covers(m, l) {
				return true
			}
		}
		if b.w != nil {
			for _, m := range b.w.loads {
				if covers(m, l) {
					return true
				}
			}
		}
	}
	return false
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

// order returns the blocks that can be reached from root, each before those it leads to; the ends
// are not among them.
func (g *graph) order(root *block) []*block {
	g.mark++
	blocks := make([]*block, 0, len(g.blocks))
	var visit func(*block)
	visit = func(b *block) {
		if b.v == nil || b.mark == g.mark {
			return
		}
		b.mark = g.mark
		visit(b.f)
		visit(b.t)
		blocks = append(blocks, b)
	}
	visit(root)
	for i, j := 0, len(blocks)-1; i < j; i, j = i+1, j-1 {
		blocks[i], blocks[j] = blocks[j], blocks[i]
	}
	return blocks
}

// improve removes tests whose outcome is known on the way to them, and what no longer matters.
func (g *graph) improve(root *block) *block {
	for {
		changed := false
		blocks := g.order(root)
		dominate(blocks)
		for _, b := range blocks {
			if t := g.skip(b.t, facts{b, 1}); t != b.t {
				b.t, changed = t, true
			}
			if f := g.skip(b.f, facts{b, 0}); f != b.f {
				b.f, changed = f, true
			}
		}
		clear(g.blocks)
		renewed := make(map[*block]*block, len(blocks)+2)
		renewed[g.accept], renewed[g.reject] = g.accept, g.reject
		left := g.order(root)
		for i := len(left) - 1; i >= 0; i-- {
			b := left[i]
			renewed[b] = g.block(b.v, b.rel, b.k, b.w, renewed[b.t], renewed[b.f])
		}
		root = renewed[root]
		if !changed && len(g.blocks) == len(blocks) {
			return root
		}
	}
}

// skip follows blocks whose outcome the edge decides.
func (g *graph) skip(b *block, e facts) *block {
	for b.v != nil {
		if b.t == b.f && e.loaded(b) {
			b = b.t
			continue
		}
		out := e.decides(b)
		if out < 0 || !e.loaded(b) && !g.fails(b, out) {
			return b
		}
		if out == 1 {
			b = b.t
		} else {
			b = b.f
		}
	}
	return b
}

// fails reports whether the known outcome leads to the end that a failing load leads to as well.
func (g *graph) fails(b *block, out int) bool {
	return out == 1 && b.t == g.reject || out == 0 && b.f == g.reject
}

// dominate sets over, known and depth of every block; blocks are in order.
func dominate(blocks []*block) {
	for _, b := range blocks {
		b.over, b.known, b.depth = nil, -1, -1
	}
	if len(blocks) > 0 {
		blocks[0].depth = 0
	}
	for _, b := range blocks {
		reach(b.t, b, 1)
		reach(b.f, b, 0)
	}
}

// reach adds the edge from b with an outcome to what is known of target.
func reach(target, b *block, outcome int8) {
	if target.v == nil {
		return
	}
	if target.depth < 0 {
		target.over, target.known, target.depth = b, outcome, b.depth+1
		return
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
