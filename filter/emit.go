package filter

import (
	"errors"

	"golang.org/x/net/bpf"
)

// Instruction codes: a class and its qualifiers.
const (
	codeLd   = 0x00
	codeLdx  = 0x01
	codeSt   = 0x02
	codeStx  = 0x03
	codeALU  = 0x04
	codeJmp  = 0x05
	codeRet  = 0x06
	codeMisc = 0x07

	sizeW = 0x00
	sizeH = 0x08
	sizeB = 0x10

	modeImm = 0x00
	modeAbs = 0x20
	modeInd = 0x40
	modeMem = 0x60
	modeLen = 0x80
	modeMsh = 0xa0

	srcX = 0x08

	jumpAlways  = 0x00
	jumpEqual   = 0x10
	jumpGreater = 0x20
	jumpAtLeast = 0x30
	jumpBits    = 0x40

	retA = 0x10

	miscTax = 0x00
	miscTxa = 0x80

	memory = 16 // words that a program can store
)

// errTooComplex is returned if the words of memory do not suffice.
var errTooComplex = errors.New(
	"the arithmetic needs more than the 16 words that a program can store")

// machine has the known contents of a program's registers and memory. It has the numbers of values.
// To copy them costs the garbage collector nothing.
type machine struct {
	a, x held
	m    [memory]held
}

// held is a value's id plus one. 0 means that the content is unknown.
type held int32

func (v *value) held() held { return held(v.id + 1) }

// meet keeps the contents that both machines have.
func (s *machine) meet(o *machine) {
	if s.a != o.a {
		s.a = 0
	}
	if s.x != o.x {
		s.x = 0
	}
	for i := range s.m {
		if s.m[i] != o.m[i] {
			s.m[i] = 0
		}
	}
}

func sizeCode(bytes uint32) uint16 {
	switch bytes {
	case 1:
		return sizeB
	case 2:
		return sizeH
	}
	return sizeW
}

// jumps are the codes of the relations.
var jumps = [...]uint16{relEqual: jumpEqual, relGreater: jumpGreater, relAtLeast: jumpAtLeast,
	relBits: jumpBits}

// emitter writes the instructions of blocks.
type emitter struct {
	kept map[*value]uint32 // values that stay in memory once computed, and where
	s    machine
	ins  []bpf.RawInstruction
	temp uint32 // words in use at the end of memory
	err  error
}

func (e *emitter) put(op uint16, k uint32) {
	e.ins = append(e.ins, bpf.RawInstruction{Op: op,
		K: k})
}

// inMemory returns the word of memory that holds v.
func (e *emitter) inMemory(v *value) (uint32, bool) {
	for i, m := range e.s.m {
		if m == v.held() {
			return uint32(i), true
		}
	}
	return 0, false
}

// loadA computes v into A. It may change X.
func (e *emitter) loadA(v *value) {
	if e.s.a == v.held() {
		return
	}
	if e.s.x == v.held() {
		e.put(codeMisc|miscTxa, 0)
		e.s.a = v.held()
		return
	}
	if i, ok := e.inMemory(v); ok {
		e.put(codeLd|sizeW|modeMem, i)
		e.s.a = v.held()
		return
	}
	switch v.op {
	case opConst:
		e.put(codeLd|modeImm, v.k)
	case opLength:
		e.put(codeLd|sizeW|modeLen, 0)
	case opLoad:
		size := sizeCode(v.size)
		if v.a == nil {
			e.put(codeLd|size|modeAbs, v.k)
			break
		}
		e.loadX(v.a)
		e.put(codeLd|size|modeInd, v.k)
	case opHeader:
		e.loadX(v)
		e.put(codeMisc|miscTxa, 0)
	case opNeg:
		e.loadA(v.a)
		e.put(codeALU|aluNeg, 0)
	case opALU:
		if v.b.op == opConst {
			e.loadA(v.a)
			e.put(codeALU|v.alu, v.b.k)
			break
		}
		e.pair(v.a, v.b)
		e.put(codeALU|v.alu|srcX, 0)
	case opPadded:
		e.padded(v)
	}
	e.s.a = v.held()
	e.keep(v)
}

// keep stores A if it holds a value that other blocks need.
func (e *emitter) keep(v *value) {
	if i, ok := e.kept[v]; ok {
		e.put(codeSt, i)
		e.s.m[i] = v.held()
	}
}

// loadX computes v into X. It may change A.
func (e *emitter) loadX(v *value) {
	if e.s.x == v.held() {
		return
	}
	if i, ok := e.inMemory(v); ok && e.s.a != v.held() {
		e.put(codeLdx|modeMem, i)
		e.s.x = v.held()
		return
	}
	switch v.op {
	case opConst:
		e.put(codeLdx|modeImm, v.k)
	case opLength:
		e.put(codeLdx|modeLen, 0)
	case opHeader:
		e.put(codeLdx|sizeB|modeMsh, v.k)
	default:
		e.loadA(v)
		e.put(codeMisc|miscTax, 0)
	}
	e.s.x = v.held()
}

// direct reports whether the program can load v into X without A.
func (e *emitter) direct(v *value) bool {
	if _, ok := e.inMemory(v); ok {
		return true
	}
	return v.op == opConst || v.op == opLength || v.op == opHeader
}

// usesX reports whether computing v into A changes X.
func (e *emitter) usesX(v *value) bool {
	if _, ok := e.inMemory(v); ok || e.s.a == v.held() || e.s.x == v.held() {
		return false
	}
	switch v.op {
	case opLoad:
		return v.a != nil && e.s.x != v.a.held()
	case opHeader, opPadded:
		return true
	case opNeg:
		return e.usesX(v.a)
	case opALU:
		return v.b.op != opConst || e.usesX(v.a)
	}
	return false
}

// pair computes a into A and b into X.
func (e *emitter) pair(a, b *value) {
	switch {
	case e.s.x == b.held() && !e.usesX(a):
		e.loadA(a)
	case e.direct(b):
		e.loadA(a)
		e.loadX(b)
	case !e.usesXAfter(a, b) && (e.s.a != a.held() || a.cost <= 2):
		e.loadX(b)
		e.loadA(a)
	default:
		e.loadA(a)
		i := e.store()
		e.loadX(b)
		if e.s.a != a.held() {
			e.put(codeLd|sizeW|modeMem, i)
			e.s.a = a.held()
		}
		e.s.m[i] = 0
		e.temp--
	}
}

// usesXAfter reports whether computing a changes X when X holds b.
func (e *emitter) usesXAfter(a, b *value) bool {
	s := e.s
	e.s.a, e.s.x = 0, b.held()
	uses := e.usesX(a)
	e.s = s
	return uses
}

// store puts A into a word of memory. The caller lowers temp to give the word back.
func (e *emitter) store() uint32 {
	e.temp++
	if int(e.temp)+len(e.kept) > memory {
		e.err = errTooComplex
		e.temp = min(e.temp, memory)
	}
	i := memory - e.temp
	e.put(codeSt, i)
	e.s.m[i] = e.s.a
	return i
}

// padded computes v.a. If the flags of the radiotap header at the start of the packet say so, it
// makes v.a a multiple of 4. The flags are at 8, or at 16 if a time stamp comes first. The header
// must have only one word that lists the fields.
func (e *emitter) padded(v *value) {
	const present, timestamp, more, pad = 0x02000000, 0x01000000, 0x80, 0x20
	e.loadA(v.a)
	i := e.store()
	jump := func(op uint16, k uint32, t, f uint8) {
		e.ins = append(e.ins, bpf.RawInstruction{Op: codeJmp | op, Jt: t, Jf: f, K: k})
	}
	e.put(codeLd|sizeW|modeAbs, 4)
	e.put(codeALU|aluAnd, present|timestamp|more)
	e.put(codeALU|aluXor, present)
	jump(jumpBits, ^uint32(timestamp), 8, 0)
	e.put(codeALU|aluRsh, 21) // 8 if there is a time stamp
	e.put(codeMisc|miscTax, 0)
	e.put(codeLd|sizeB|modeInd, 8)
	jump(jumpBits, pad, 0, 4)
	e.put(codeLd|sizeW|modeMem, i)
	e.put(codeALU|aluAdd, 3)
	e.put(codeALU|aluAnd, ^uint32(3))
	jump(jumpAlways, 1, 0, 0)
	e.put(codeLd|sizeW|modeMem, i)
	e.s.a, e.s.x, e.s.m[i] = v.held(), 0, 0
	e.temp--
}

// piece is the code of a block: instructions, and a jump on A.
type piece struct {
	ins  []bpf.RawInstruction
	op   uint16
	k    uint32
	t, f *piece // accept and reject stand for the ends

	pos        int // counted from the program's end
	reached    bool
	into, next *piece // the same piece further down; another with the same hash
}

// program is a list of pieces, each before those it jumps to.
type program struct {
	pieces         []*piece
	accept, reject *piece
	snap           uint32
}

// emit writes the program for blocks in order. Values in kept stay in memory.
func emit(blocks []*block, g *graph, kept map[*value]uint32, snap uint32) (*program, error) {
	p := &program{accept: &piece{}, reject: &piece{}, snap: snap, pieces: make([]*piece, len(blocks))}
	e := &emitter{kept: kept, ins: make([]bpf.RawInstruction, 0, 3*len(blocks))}
	states := make([]machine, len(blocks))
	seen := make([]bool, len(blocks))
	pieces := make([]piece, len(blocks))
	for i, b := range blocks {
		b.out = i
		p.pieces[i] = &pieces[i]
	}
	of := func(b *block) *piece {
		switch b {
		case g.accept:
			return p.accept
		case g.reject:
			return p.reject
		}
		return p.pieces[b.out]
	}
	for i, b := range blocks {
		e.s = states[i]
		first := len(e.ins)
		q := p.pieces[i]
		q.op, q.k = codeJmp|jumps[b.rel], b.k
		if b.w != nil {
			e.pair(b.v, b.w)
			q.op |= srcX
			q.k = 0
		} else {
			e.loadA(b.v)
		}
		if e.err != nil {
			return nil, e.err
		}
		q.ins, q.t, q.f = e.ins[first:], of(b.t), of(b.f)
		for _, next := range []*block{b.t, b.f} {
			if next.v == nil {
				continue
			}
			if n := next.out; seen[n] {
				states[n].meet(&e.s)
			} else {
				states[n], seen[n] = e.s, true
			}
		}
	}
	return p, nil
}
