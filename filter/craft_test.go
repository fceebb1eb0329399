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
				if other := (edge{st.At, 1 - out}); !taken[other] && ins.Jt != ins.Jf && planned[other] < 6 {
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
	n += 8
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
	return made
}

// assign goes back along the steps from a value in A to the bytes it was computed from.
func assign(prog []bpf.RawInstruction, steps []Step, s sample, want uint32,
	rng *rand.Rand) []sample {
	for i := len(steps) - 1; i >= 0; i-- {
		ins := prog[steps[i].At]
		prev := before(steps, i)
		k := ins.K
		if ins.Op&srcX != 0 {
			k = prev.X
		}
		switch ins.Op & 7 {
		case codeLd:
			switch ins.Op & 0xe0 {
			case modeAbs, modeInd:
				off, size := loadPlace(ins, prev.X)
				t := extend(s, off+size-8, rng)
				d := slices.Clone(t.data)
				for j := size - 1; j >= 0; j-- {
					d[off+j] = byte(want)
					want >>= 8
				}
				return []sample{{d, t.wire}}
			case modeLen:
				if want < 1<<20 {
					t := sample{s.data, int(want)}
					if t.wire < len(t.data) {
						t.data = t.data[:t.wire]
					}
					return []sample{t, {s.data, int(want)}}
				}
				return nil
			case modeMem:
				for i--; i >= 0 && !(prog[steps[i].At].Op == codeSt && prog[steps[i].At].K == k); i-- {
				}
				if i < 0 {
					return nil
				}
				continue
			}
			return nil
		case codeMisc:
			if ins.Op == codeMisc|miscTxa {
				for i--; i >= 0 && prog[steps[i].At].Op != codeMisc|miscTax; i-- {
					if p := prog[steps[i].At]; p.Op&7 == codeLdx {
						if p.Op&0xe0 != modeMsh {
							return nil
						}
						d := slices.Clone(s.data)
						d[p.K] = d[p.K]&0xf0 | byte(want>>2&0xf)
						return []sample{{d, s.wire}}
					}
				}
				if i < 0 {
					return nil
				}
			}
		case codeALU:
			switch ins.Op & 0xf0 {
			case aluAdd:
				want -= k
			case aluSub:
				want += k
			case aluAnd:
				want = prev.A&^k | want&k
			case aluOr, aluXor:
				want ^= k & (want ^ prev.A)
				if ins.Op&0xf0 == aluXor {
					want ^= k
				}
			case aluLsh:
				want >>= k & 31
			case aluRsh:
				want = want<<(k&31) | prev.A&(1<<(k&31)-1)
			case aluMul:
				if k == 0 {
					return nil
				}
				want /= k
			case aluDiv:
				want *= k
			case aluMod:
			case aluNeg:
				want = -want
			}
		}
	}
	return nil
}
