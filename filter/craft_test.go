package filter

import (
	"math/rand/v2"
	"slices"

	"golang.org/x/net/bpf"
)

// sample is a packet as captured and its length on the wire.
type sample struct {
	data []byte
	wire int
}

// edge is one way out of an instruction: 1 and 0 for a jump's outcomes, 2 for a load that fails.
type edge struct {
	at  int
	out int
}

// craft returns packets that take as many edges of a program as it finds ways to: it runs what it
// has, and for each jump on the way changes the bytes that decide it to the other outcome, and cuts
// the packet before each load.
func craft(prog []bpf.RawInstruction, seeds []sample, most int, rng *rand.Rand) (all []sample,
	taken map[edge]bool) {
	taken = map[edge]bool{}
	vm := mustVM(prog)
	work := slices.Clone(seeds)
	planned := map[edge]int{}
	tries := most / 50 // for each edge
	for ; len(work) > 0 && most > 0; most-- {
		s := work[0]
		work = work[1:]
		_, steps := vm.Trace(s.data, s.wire)
		all = append(all, s)
		for i, st := range steps {
			ins := prog[st.At]
			switch {
			case isLoad(ins):
				off, size := loadPlace(ins, before(steps, i).X)
				if i == len(steps)-1 {
					taken[edge{st.At, 2}] = true
					if off+size < 4096 {
						work = append(work, extend(s, off+size, rng))
					}
					if ins.Op&0xe0 == modeInd { // or the place is another one
						x := uint32(rng.IntN(len(s.data) + 1))
						work = append(work, assignX(prog, steps[:i], s, x, rng)...)
					}
				} else if !taken[edge{st.At, 2}] && off+size <= len(s.data) {
					taken[edge{st.At, 2}] = true
					for n := off; n < off+size; n++ {
						all = append(all, sample{s.data[:n], s.wire})
					}
				}
			case ins.Op&7 == codeJmp && ins.Op != codeJmp|jumpAlways && i+1 < len(steps):
				out := 0
				if steps[i+1].At == st.At+1+int(ins.Jt) {
					out = 1
				}
				if ins.Jt == ins.Jf {
					out = 1
				}
				taken[edge{st.At, out}] = true
				if other := (edge{st.At, 1 - out}); !taken[other] && ins.Jt != ins.Jf &&
					planned[other] < tries {
					planned[other]++
					work = append(work, flip(prog, steps[:i+1], s, 1-out, rng)...)
				}
			}
		}
	}
	return all, taken
}

func mustVM(prog []bpf.RawInstruction) *VM {
	vm, err := NewVM(prog)
	if err != nil {
		panic(err)
	}
	return vm
}

func before(steps []Step, i int) Step {
	if i == 0 {
		return Step{}
	}
	return steps[i-1]
}

func isLoad(i bpf.RawInstruction) bool {
	mode := i.Op & 0xe0
	return i.Op&7 == codeLd && (mode == modeAbs || mode == modeInd) || i.Op&7 == codeLdx &&
		mode == modeMsh
}

func loadPlace(i bpf.RawInstruction, x uint32) (off, size int) {
	size = map[uint16]int{sizeW: 4, sizeH: 2, sizeB: 1}[i.Op&0x18]
	off = int(i.K)
	if i.Op&0xe0 == modeInd {
		off += int(x)
	}
	return off, size
}

func extend(s sample, n int, rng *rand.Rand) sample {
	n = max(n, min(n+8, s.wire)) // the length stays, if it can
	if n <= len(s.data) {
		return s
	}
	d := slices.Clone(s.data)
	for len(d) < n {
		d = append(d, byte(rng.Uint32()))
	}
	return sample{d, max(s.wire, n)}
}

// flip changes the packet so that the jump at the end of steps has the outcome out.
func flip(prog []bpf.RawInstruction, steps []Step, s sample, out int, rng *rand.Rand) []sample {
	last := len(steps) - 1
	jump := prog[steps[last].At]
	k := jump.K
	if jump.Op&srcX != 0 {
		k = steps[last].X
	}
	a := steps[last].A
	var want []uint32
	switch jump.Op & 0xf0 {
	case jumpEqual:
		want = []uint32{k}
		if out == 0 {
			want = []uint32{k + 1, rng.Uint32()}
		}
	case jumpGreater:
		want = []uint32{k + 1}
		if out == 0 {
			want = []uint32{k, k - 1, 0}
		}
	case jumpAtLeast:
		want = []uint32{k}
		if out == 0 {
			want = []uint32{k - 1, 0}
		}
	case jumpBits:
		want = []uint32{a | k&-k, a | k}
		if out == 0 {
			want = []uint32{a &^ k}
		}
	}
	var made []sample
	for _, w := range want {
		made = append(made, assign(prog, steps[:last], s, w, rng)...)
	}
	if jump.Op&srcX != 0 { // or the other side of the comparison
		for _, w := range []uint32{a, a + 1, a - 1, rng.Uint32()} {
			made = append(made, assignX(prog, steps[:last], s, w, rng)...)
		}
	}
	return made
}

// assign goes back along the steps from a value in A to the bytes it was computed from. Where two
// registers were combined it returns a packet for each.
func assign(prog []bpf.RawInstruction, steps []Step, s sample, want uint32,
	rng *rand.Rand) (made []sample) {
	for i := len(steps) - 1; i >= 0; i-- {
		ins := prog[steps[i].At]
		prev := before(steps, i)
		switch {
		case ins.Op&7 == codeLd:
			switch ins.Op & 0xe0 {
			case modeAbs, modeInd:
				off, size := loadPlace(ins, prev.X)
				return append(made, patched(s, off, size, want, rng))
			case modeLen:
				return append(made, ofLength(s, want)...)
			case modeMem:
				return append(made, assignMem(prog, steps[:i], s, ins.K, want, rng)...)
			}
			return made
		case ins.Op == codeMisc|miscTxa:
			return append(made, assignX(prog, steps[:i], s, want, rng)...)
		case ins.Op&7 == codeALU:
			k := ins.K
			if ins.Op&srcX != 0 {
				k = prev.X
				if x, ok := otherSide(ins.Op&0xf0, prev.A, want); ok {
					alone := assignX(prog, steps[:i], s, x, rng)
					made = append(made, alone...)
					if ins.Op&0xf0 == aluOr { // both sides have only bits of want
						for _, t := range alone {
							made = append(made, assign(prog, steps[:i], t, want, rng)...)
						}
					}
				}
			}
			var ok bool
			if want, ok = undo(ins.Op&0xf0, prev.A, k, want); !ok {
				return made
			}
		}
	}
	return made
}

// assignX does for X what assign does for A.
func assignX(prog []bpf.RawInstruction, steps []Step, s sample, want uint32,
	rng *rand.Rand) []sample {
	for i := len(steps) - 1; i >= 0; i-- {
		ins := prog[steps[i].At]
		switch {
		case ins.Op == codeMisc|miscTax:
			return assign(prog, steps[:i], s, want, rng)
		case ins.Op&7 == codeLdx:
			switch ins.Op & 0xe0 {
			case modeMsh:
				d := slices.Clone(s.data)
				d[ins.K] = d[ins.K]&0xf0 | byte(want>>2&0xf)
				return []sample{{d, s.wire}}
			case modeLen:
				return ofLength(s, want)
			case modeMem:
				return assignMem(prog, steps[:i], s, ins.K, want, rng)
			}
			return nil
		}
	}
	return nil
}

// assignMem does for a word of memory what assign does for A.
func assignMem(prog []bpf.RawInstruction, steps []Step, s sample, word, want uint32,
	rng *rand.Rand) []sample {
	for i := len(steps) - 1; i >= 0; i-- {
		switch ins := prog[steps[i].At]; {
		case ins.Op&7 == codeSt && ins.K == word:
			return assign(prog, steps[:i], s, want, rng)
		case ins.Op&7 == codeStx && ins.K == word:
			return assignX(prog, steps[:i], s, want, rng)
		}
	}
	return nil
}

func patched(s sample, off, size int, want uint32, rng *rand.Rand) sample {
	t := extend(s, off+size, rng)
	d := slices.Clone(t.data)
	for j := size - 1; j >= 0; j-- {
		d[off+j] = byte(want)
		want >>= 8
	}
	return sample{d, t.wire}
}

// ofLength returns the packet with another length on the wire, cut to it or not.
func ofLength(s sample, wire uint32) []sample {
	return []sample{{s.data[:min(len(s.data), int(wire))], int(wire)}, {s.data, int(wire)}}
}

// undo returns what A must have been for an operation with k to make want of it, as far as that can
// be: ok is false if not even nearly.
func undo(op uint16, a, k, want uint32) (was uint32, ok bool) {
	switch op {
	case aluAdd:
		return want - k, true
	case aluSub:
		return want + k, true
	case aluAnd:
		return a&^k | want&k, true
	case aluOr:
		return want&^k | a&k, true
	case aluXor:
		return want ^ k, true
	case aluLsh:
		return want >> (k & 31), true
	case aluRsh:
		return want<<(k&31) | a&(1<<(k&31)-1), true
	case aluMul:
		if k&1 == 1 {
			return want * inverse(k), true
		}
		return want / max(k, 1), k != 0
	case aluDiv:
		return want * k, true
	case aluNeg:
		return -want, true
	}
	return want, true
}

// otherSide returns what X must have been for an operation on a to make want.
func otherSide(op uint16, a, want uint32) (x uint32, ok bool) {
	switch op {
	case aluAdd:
		return want - a, true
	case aluSub:
		return a - want, true
	case aluAnd, aluOr:
		return want, true
	case aluXor:
		return want ^ a, true
	case aluMul:
		return want * inverse(a), a&1 == 1
	}
	return 0, false
}

// inverse returns the number by which an odd k gives 1 modulo 2^32.
func inverse(k uint32) uint32 {
	x := k
	for range 5 {
		x *= 2 - k*x
	}
	return x
}
