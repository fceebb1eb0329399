package filter

import (
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// blocksPerInstruction bounds the optimiser's work. Of the blocks that an expression asks for, the
// optimiser rarely removes more than three quarters.
const blocksPerInstruction = 16

// mostDropped bounds the passes for tests that others imply.
const mostDropped = 32

const fewer = "nets or ranges instead of many single hosts or ports"

// Compile translates an expression of pcap-filter(7) into a program for bpf(4). "" is the program
// that accepts every packet. Any goroutine may call Compile.
//
// Errors:
//   - [*Error]: the expression is wrong, or the program has more than [Options].MaxInstructions.
//   - [*Error] with [ErrNoMatch] in it: no packet of the link type can match.
func Compile(expression string, opt Options) ([]bpf.RawInstruction, error) {
	e, err := Parse(expression)
	if err != nil {
		return nil, err
	}
	return e.Compile(opt)
}

// Compile translates a parsed expression.
//
// Errors:
//   - Those of the function [Compile].
func (e *Expr) Compile(opt Options) ([]bpf.RawInstruction, error) {
	g := newGraph(!opt.NoOptimize)
	f := always
	if e.Root != nil {
		l := &lowerer{pool: &g.pool, opt: opt, source: e.source}
		var err error
		if l.at, err = l.linkLayers(opt.LinkType); err != nil {
			return nil, err
		}
		if f, err = l.node(e.Root); err != nil {
			return nil, err
		}
	}
	whole := func(problem, hint string) *Error {
		return &Error{Expression: e.source, Pos: 0, End: len(e.source), Problem: problem, Hint: hint}
	}
	root := g.build(f, g.accept, g.reject)
	if n, most := g.blocks.len(), opt.limit()*blocksPerInstruction; n > most {
		return nil,
			whole(fmt.Sprintf("the expression asks %d questions; a program of %d instructions has room for "+
				"fewer than %d", n, opt.limit(), most), fewer)
	}
	if g.optimize {
		root = g.improve(root)
	}
	if root == g.reject {
		none := whole(ErrNoMatch.Error(), "")
		none.cause = ErrNoMatch
		return nil, none
	}
	prog, err := g.shortest(root, opt.snap())
	if err != nil {
		return nil, whole(err.Error(), "a shorter calculation")
	}
	if g.optimize {
		dropped := 0
		for more := true; more && dropped < mostDropped; {
			if root, more = g.dropImplied(root); more {
				root = g.improve(root)
				dropped++
			}
		}
		if dropped > 0 {
			if p, err := g.shortest(root, opt.snap()); err == nil && len(p) < len(prog) {
				prog = p
			}
		}
	}
	if n := len(prog); n > opt.limit() {
		return nil, whole(fmt.Sprintf("the program has %d instructions, and the kernel takes %d", n,
			opt.limit()),
			fewer)
	}
	return prog, nil
}

// shortest writes the program. If several blocks compute the place of the same header, shortest
// also writes the program with that place kept in memory. It returns the shorter one.
func (g *graph) shortest(root *block, snap uint32) ([]bpf.RawInstruction, error) {
	blocks := g.order(root)
	write := func(kept map[*value]uint32) ([]bpf.RawInstruction, error) {
		p, err := emit(blocks, g, kept, snap)
		if err != nil {
			return nil, err
		}
		if len(blocks) == 0 {
			return p.assemble(p.accept), nil
		}
		if g.optimize {
			p.merge()
		}
		return p.assemble(p.pieces[0]), nil
	}
	best, err := write(nil)
	if !g.optimize {
		return best, err
	}
	try := func(kept map[*value]uint32) bool {
		other, err2 := write(kept)
		if err2 != nil || err == nil && len(other) >= len(best) {
			return false
		}
		best, err = other, nil
		return true
	}
	all := shared(blocks)
	kept := all[:min(len(all), mostKept)]
	if len(kept) == 0 || !try(places(kept)) {
		return best, err
	}
	for i := 0; i < len(kept); i++ { // perhaps one of them is not worth its word
		if fewer := slices.Delete(slices.Clone(kept), i, i+1); try(places(fewer)) {
			kept = fewer
			i--
		}
	}
	for _, v := range all[min(len(all), mostKept):] { // and there is room for another
		if more := append(slices.Clone(kept), v); len(more) <= mostKept && try(places(more)) {
			kept = more
		}
	}
	return best, err
}

// mostKept is the number of values that a program keeps in memory. Calculations need the other
// words.
const mostKept = memory - 6

// places gives each value a word of memory.
func places(values []*value) map[*value]uint32 {
	m := make(map[*value]uint32, len(values))
	for i, v := range values {
		m[v] = uint32(i)
	}
	return m
}

// shared returns the values that several blocks or calculations need, if computing one takes more
// than two instructions.
func shared(blocks []*block) (kept []*value) {
	uses := map[*value]int{}
	var visit func(v *value)
	visit = func(v *value) {
		if v == nil || v.cost <= 2 {
			return
		}
		uses[v]++
		if uses[v] == 2 {
			kept = append(kept, v)
		}
		if uses[v] > 1 {
			return
		}
		visit(v.a)
		visit(v.b)
	}
	for _, b := range blocks {
		visit(b.v)
		visit(b.w)
	}
	return kept
}
