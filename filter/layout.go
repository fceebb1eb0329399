package filter

import (
	"slices"

	"golang.org/x/net/bpf"
)

// merge joins pieces with the same code and the same targets. It goes from the end to the start, so
// whole tails merge, even where they test a different field that is in A already.
func (p *program) merge() {
	same := make(map[uint64]*piece, len(p.pieces))
	kept := make([]*piece, 0, len(p.pieces))
	for i := len(p.pieces) - 1; i >= 0; i-- {
		q := p.pieces[i]
		if n := q.t.into; n != nil {
			q.t = n
		}
		if n := q.f.into; n != nil {
			q.f = n
		}
		if q.t == q.f && len(q.ins) == 0 {
			q.into = q.t
			continue
		}
		h := q.hash()
		for o := same[h]; o != nil && q.into == nil; o = o.next {
			if q.equal(o) {
				q.into = o
			}
		}
		if q.into == nil {
			q.next, same[h] = same[h], q
			kept = append(kept, q)
		}
	}
	slices.Reverse(kept)
	p.pieces = kept
}

func (q *piece) hash() uint64 {
	h := uint64(q.op)<<32 | uint64(q.k)
	for _, i := range q.ins {
		h = h*1099511628211 ^ uint64(i.Op)<<32 ^ uint64(i.K)
	}
	return h
}

func (q *piece) equal(o *piece) bool {
	return q.op == o.op && q.k == o.k && q.t == o.t && q.f == o.f && slices.Equal(q.ins, o.ins)
}

// assemble drops the pieces that no jump reaches, places the others and fills in the jumps.
func (p *program) assemble(root *piece) []bpf.RawInstruction {
	ret := func(q *piece) bpf.RawInstruction {
		if q == p.accept {
			return bpf.RawInstruction{Op: codeRet, K: p.snap}
		}
		return bpf.RawInstruction{Op: codeRet}
	}
	if root == p.accept {
		return []bpf.RawInstruction{ret(root)}
	}
	root.reached = true
	kept := make([]*piece, 0, len(p.pieces))
	for _, q := range p.pieces {
		if q.reached {
			q.t.reached, q.f.reached = true, true
			kept = append(kept, q)
		}
	}
	// From the end, so that the way to every target is known when a jump is written. A target too far
	// away gets an island between two pieces: a return, or a jump that can be long. No piece runs into
	// the island, because every piece ends in a jump. Later jumps use it as well.
	n := 2
	for _, q := range kept {
		n += len(q.ins) + 1
	}
	out := make([]bpf.RawInstruction, 0, n) // the last instruction first
	for _, end := range []*piece{p.reject, p.accept} {
		if end.reached {
			end.pos = len(out)
			out = append(out, ret(end))
		}
	}
	distance := func(target *piece) int { return len(out) - target.pos - 1 }
	for _, q := range slices.Backward(kept) {
		for distance(q.t) > 255 || distance(q.f) > 255 {
			target := q.t
			if distance(q.f) > 255 {
				target = q.f
			}
			island := bpf.RawInstruction{Op: codeJmp | jumpAlways, K: uint32(distance(target))}
			if target == p.accept || target == p.reject {
				island = ret(target)
			}
			target.pos = len(out)
			out = append(out, island)
		}
		out = append(out, bpf.RawInstruction{Op: q.op, K: q.k, Jt: uint8(distance(q.t)),
			Jf: uint8(distance(q.f))})
		for _, i := range slices.Backward(q.ins) {
			out = append(out, i)
		}
		q.pos = len(out) - 1
	}
	slices.Reverse(out)
	return out
}
