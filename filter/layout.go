package filter

import (
	"slices"

	"golang.org/x/net/bpf"
)

// merge lets pieces with the same code and the same targets be one. It goes from the end to the
// start, so whole tails merge, even where they test a different field that is in A already.
func (p *program) merge() {
	same := make(map[uint64][]*piece, len(p.pieces))
	into := make(map[*piece]*piece)
	kept := p.pieces[:0:0]
	for i := len(p.pieces) - 1; i >= 0; i-- {
		q := p.pieces[i]
		if n := into[q.t]; n != nil {
			q.t = n
		}
		if n := into[q.f]; n != nil {
			q.f = n
		}
		if q.t == q.f && len(q.ins) == 0 {
			into[q] = q.t
			continue
		}
		h := q.hash()
		j := slices.IndexFunc(same[h], q.equal)
		if j >= 0 {
			into[q] = same[h][j]
			continue
		}
		same[h] = append(same[h], q)
		kept = append(kept, q)
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

// assemble drops what is never reached, places the pieces and fills in the jumps.
func (p *program) assemble(root *piece) []bpf.RawInstruction {
	ret := func(q *piece) bpf.RawInstruction {
		if q == p.accept {
			return bpf.RawInstruction{Op: codeRet, K: p.snap}
		}
		return bpf.RawInstruction{Op: codeRet}
	}
	if root == p.accept || root == p.reject {
		return []bpf.RawInstruction{ret(root)}
	}
	root.reached = true
	kept := p.pieces[:0:0]
	for _, q := range p.pieces {
		if q.reached {
			q.t.reached, q.f.reached = true, true
			kept = append(kept, q)
		}
	}
	p.pieces = kept
	size := p.place()
	for p.stretch() {
		size = p.place()
	}
	out := make([]bpf.RawInstruction, 0, size)
	for _, q := range p.pieces {
		out = append(out, q.ins...)
		at := len(out)
		out = append(out, bpf.RawInstruction{Op: q.op, K: q.k})
		far := func(target *piece) uint8 {
			n := len(out) - at - 1
			if target == p.accept || target == p.reject {
				out = append(out, ret(target))
			} else {
				out = append(out, bpf.RawInstruction{Op: codeJmp | jumpAlways, K: uint32(target.pos - len(out) - 1)})
			}
			return uint8(n)
		}
		t, f := uint8(q.t.pos-at-1), uint8(q.f.pos-at-1)
		if q.farT {
			t = far(q.t)
		}
		if q.farF {
			f = far(q.f)
		}
		out[at].Jt, out[at].Jf = t, f
	}
	for _, end := range []*piece{p.accept, p.reject} {
		if end.reached {
			out = append(out, ret(end))
		}
	}
	return out
}

// place gives every piece its position and returns the program's length.
func (p *program) place() int {
	at := 0
	for _, q := range p.pieces {
		q.pos = at
		at += len(q.ins) + 1
		if q.farT {
			at++
		}
		if q.farF {
			at++
		}
	}
	for _, end := range []*piece{p.accept, p.reject} {
		if end.reached {
			end.pos = at
			at++
		}
	}
	return at
}

// stretch marks jumps that do not fit into a byte and reports whether there were new ones.
func (p *program) stretch() bool {
	more := false
	for _, q := range p.pieces {
		at := q.pos + len(q.ins)
		if !q.farT && q.t.pos-at-1 > 255 {
			q.farT, more = true, true
		}
		if !q.farF && q.f.pos-at-1 > 255 {
			q.farF, more = true, true
		}
	}
	return more
}
