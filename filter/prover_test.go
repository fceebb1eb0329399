package filter

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/bpf"
)

// A prover shows that no packet takes a way through a program. It follows every path to it and
// keeps, for each byte of the packet, the values that the jumps on the path have left.
type prover struct {
	prog   []bpf.RawInstruction
	target way
	reach  []bool // may lead to the target
	left   int    // paths are so many: steps until the prover gives up
}

// A term is a value in a register, as it depends on bytes of the packet.
type term struct {
	op   uint16 // of the ALU, or termConst, termByte, termAny
	k    uint32
	key  string // of a byte
	a, b *term
	slot int // where enumerate has the value of a byte
}

const (
	termConst = 0x100 + iota
	termByte
	termLen // the length on the wire
)

// longestPacket is the length of the longest packet for libpcap and tcpdump.
const longestPacket = 262144

// values is a set of values that a byte may have.
type values [256]bool

type state struct {
	a, x  *term
	mem   [memory]*term
	bytes map[string]*values
	// The length on the wire. A load that succeeds makes it longer.
	shortest, longest uint32
}

func constTerm(k uint32) *term { return &term{op: termConst, k: k} }

func (e *term) String() string {
	switch {
	case e == nil:
		return ""
	case e.op == termConst:
		return fmt.Sprint(e.k)
	case e.op == termByte:
		return "[" + e.key + "]"
	case e.op == termLen:
		return "len"
	}
	return fmt.Sprintf("(%v %#x %v)", e.a, e.op, e.b)
}

func combine(op uint16, a, b *term) *term {
	if a.op == termConst && b.op == termConst {
		if v, ok := fold(op, a.k, b.k); ok {
			return constTerm(v)
		}
	}
	return &term{op: op, a: a, b: b}
}

// bytesOf is the value of size bytes at a place.
func bytesOf(place string, at, size int) *term {
	var e *term
	for i := range size {
		b := &term{op: termByte, key: fmt.Sprint(place, at+i)}
		if e == nil {
			e = b
		} else {
			e = combine(aluOr, combine(aluLsh, e, constTerm(8)), b)
		}
	}
	return e
}

func (p *prover) impossible() bool {
	p.reach = make([]bool, len(p.prog))
	for at := len(p.prog) - 1; at >= 0; at-- {
		p.reach[at] = at == p.target.at || at == p.target.to && p.target.at < 0
		for _, to := range nextOf(p.prog, at) {
			p.reach[at] = p.reach[at] || p.reach[to]
		}
	}
	zero := constTerm(0)
	s := state{a: zero, x: zero, bytes: map[string]*values{}, longest: longestPacket}
	for i := range s.mem {
		s.mem[i] = zero
	}
	return !p.follow(0, s)
}

func nextOf(prog []bpf.RawInstruction, at int) []int {
	switch ins := prog[at]; {
	case ins.Op&7 == codeRet:
		return nil
	case ins.Op == codeJmp|jumpAlways:
		return []int{at + 1 + int(ins.K)}
	case ins.Op&7 == codeJmp:
		return []int{at + 1 + int(ins.Jt), at + 1 + int(ins.Jf)}
	}
	return []int{at + 1}
}

// follow reports whether the target may be reached from an instruction.
func (p *prover) follow(at int, s state) bool {
	for ; p.reach[at]; at++ {
		if p.left--; p.left < 0 || p.target.at < 0 && at == p.target.to {
			return true
		}
		ins := p.prog[at]
		k := constTerm(ins.K)
		if ins.Op&srcX != 0 && (ins.Op&7 == codeALU || ins.Op&7 == codeJmp) {
			k = s.x
		}
		switch ins.Op & 7 {
		case codeRet:
			return false
		case codeLd, codeLdx:
			if ins.Op&0xe0 == modeInd {
				if few := s.few(s.x); len(few) > 1 {
					for _, n := range few {
						if p.follow(at, n) {
							return true
						}
					}
					return false
				}
			}
			e := s.load(ins)
			if s.shortest > s.longest {
				return false
			}
			if ins.Op&7 == codeLd {
				s.a = e
			} else {
				s.x = e
			}
		case codeSt:
			s.mem[ins.K] = s.a
		case codeStx:
			s.mem[ins.K] = s.x
		case codeMisc:
			if ins.Op == codeMisc|miscTax {
				s.x = s.a
			} else {
				s.a = s.x
			}
		case codeALU:
			if ins.Op&0xf0 == aluNeg {
				s.a = combine(aluSub, constTerm(0), s.a)
			} else {
				s.a = combine(ins.Op&0xf0, s.a, k)
			}
		case codeJmp:
			if ins.Op == codeJmp|jumpAlways {
				at += int(ins.K)
				break
			}
			for i, to := range nextOf(p.prog, at) {
				if p.target == (way{at, to}) {
					if s.after(ins.Op&0xf0, k, i == 0) != nil {
						return true
					}
				} else if p.reach[to] {
					if n := s.after(ins.Op&0xf0, k, i == 0); n != nil && p.follow(to, *n) {
						return true
					}
				}
			}
			return false
		}
	}
	return false
}

// load returns the result of a load. A packet that ends before does not come here.
func (s *state) load(ins bpf.RawInstruction) *term {
	size := map[uint16]int{sizeW: 4, sizeH: 2, sizeB: 1}[ins.Op&0x18]
	switch mode := ins.Op & 0xe0; mode {
	case modeImm:
		return constTerm(ins.K)
	case modeMem:
		return s.mem[ins.K]
	case modeLen:
		return &term{op: termLen}
	case modeMsh:
		s.shortest = max(s.shortest, ins.K+1)
		nibble := combine(aluAnd, s.settled(bytesOf("", int(ins.K), 1)), constTerm(0xf))
		return combine(aluLsh, nibble, constTerm(2))
	case modeInd:
		x := s.settled(s.x)
		if x.op != termConst {
			if v := s.knownOf(x); v.value|^v.mask < 1<<31 && ins.K < 1<<20 { // the sum does not wrap
				s.shortest = max(s.shortest, max(v.least, v.value&v.mask)+ins.K+uint32(size))
			}
			return bytesOf(x.String()+"+", int(ins.K), size)
		}
		s.shortest = max(s.shortest, ins.K+x.k+uint32(size))
		return bytesOf("", int(ins.K+x.k), size)
	}
	s.shortest = max(s.shortest, ins.K+uint32(size))
	return bytesOf("", int(ins.K), size)
}

// The prover finds what is impossible, and does not call impossible what a packet does.
func TestProver(t *testing.T) {
	eq := func(k uint32, jt, jf uint8) bpf.RawInstruction {
		return bpf.RawInstruction{Op: codeJmp | jumpEqual, Jt: jt, Jf: jf, K: k}
	}
	ld := func(size uint16, k uint32) bpf.RawInstruction {
		return bpf.RawInstruction{Op: codeLd | modeAbs | size, K: k}
	}
	yes, no := bpf.RawInstruction{Op: codeRet, K: 1}, bpf.RawInstruction{Op: codeRet}
	and := func(k uint32) bpf.RawInstruction { return bpf.RawInstruction{Op: codeALU | aluAnd, K: k} }
	length := bpf.RawInstruction{Op: codeLd | modeLen}
	for _, c := range []struct {
		what string
		prog []bpf.RawInstruction
		want bool
	}{
		{"a byte is two values", []bpf.RawInstruction{ld(sizeB, 3), eq(1, 0, 3), ld(sizeB, 3),
			eq(2, 0, 1), yes, no}, true},
		{"a byte is the same value", []bpf.RawInstruction{ld(sizeB, 3), eq(1, 0, 3), ld(sizeB, 3),
			eq(1, 0, 1), yes, no}, false},
		{"a half word overlaps", []bpf.RawInstruction{ld(sizeH, 2), eq(0x0102, 0, 3), ld(sizeB, 3),
			eq(3, 0, 1), yes, no}, true},
		{"a word, and bits of it", []bpf.RawInstruction{ld(sizeW, 2), eq(0xffffffff, 0, 4),
			ld(sizeB, 3), and(2), eq(0, 0, 1), yes, no}, true},
		{"two bytes apart", []bpf.RawInstruction{ld(sizeH, 2), eq(0x0102, 0, 3), ld(sizeB, 4),
			eq(3, 0, 1), yes, no}, false},
		{"the length's low bits", []bpf.RawInstruction{length, {Op: codeALU | aluOr, K: 3},
			eq(1, 0, 1), yes, no}, true},
		{"a byte behind the end", []bpf.RawInstruction{length, {Op: codeJmp | jumpGreater, Jt: 3, K: 40},
			ld(sizeB, 40), eq(1, 0, 1), yes, no}, true},
		{"one of two places", []bpf.RawInstruction{ld(sizeB, 0), and(2), {Op: codeMisc | miscTax},
			{Op: codeLd | modeInd | sizeB, K: 4}, eq(5, 0, 5), ld(sizeB, 4), eq(6, 0, 3), ld(sizeB, 6),
			eq(6, 0, 1), yes, no}, true},
		{"a length", []bpf.RawInstruction{length, eq(1, 0, 1), yes, no}, false},
		{"behind a header of unknown length", []bpf.RawInstruction{
			{Op: codeLdx | modeMsh | sizeB, K: 14}, {Op: codeLd | modeInd | sizeH, K: 16}, eq(5, 0, 3),
			{Op: codeLd | modeInd | sizeH, K: 16}, eq(6, 0, 1), yes, no}, true},
	} {
		p := prover{prog: c.prog, target: way{-1, len(c.prog) - 2}, left: 1000}
		assert.Equal(t, c.want, p.impossible(), c.what)
	}
}
