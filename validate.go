package zbuf

import (
	"errors"
	"fmt"
)

// ErrProgram is in the error of [Validate].
var ErrProgram = errors.New("the kernel would refuse the filter program")

const memWords = 16 // BPF_MEMWORDS

// Classes of instructions, the low three bits of Op.
const (
	classLd = iota
	classLdx
	classSt
	classStx
	classALU
	classJmp
	classRet
	classMisc
)

const opJA = classJmp // BPF_JMP|BPF_JA

// validOps lists the instructions that the kernel knows (bpf_code_map in sys/net/bpf_filter.c). It
// has the bits of Op above the class, for each class.
var validOps = [8][]uint16{
	classLd:  {0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80},
	classLdx: {0x00, 0x60, 0x80, 0xb0},
	classSt:  {0x00},
	classStx: {0x00},
	classALU: {0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x58, 0x60, 0x68,
		0x70, 0x78, 0x80, 0x90, 0x98, 0xa0, 0xa8},
	classJmp:  {0x00, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48},
	classRet:  {0x00, 0x10},
	classMisc: {0x00, 0x80},
}

// Validate returns nil if the kernel would take prog as a filter, as bpf_validate in
// sys/net/bpf_filter.c does. An empty program is valid. Otherwise these must hold:
//   - The kernel knows every instruction.
//   - Jumps go forward and stay inside the program.
//   - Accesses to scratch memory are in bounds.
//   - No instruction divides by a constant 0.
//   - The last instruction returns.
//
// The sysctl net.bpf.maxinsns also limits the length. Validate does not check that.
//
// Errors:
//   - [ErrProgram]: the text names the instruction and what is wrong with it.
func Validate(prog []Insn) error {
	bad := func(i int, why string) error {
		return fmt.Errorf("%w: instruction %d: %s", ErrProgram, i, why)
	}
	for i, in := range prog {
		class := in.Op & 7
		known := in.Op < 0x100
		if known {
			known = false
			for _, rest := range validOps[class] {
				known = known || rest == in.Op&^7
			}
		}
		if !known {
			return bad(i, fmt.Sprintf("unknown code %#x", in.Op))
		}
		switch {
		case class == classJmp:
			to := uint32(max(in.Jt, in.Jf))
			if in.Op == opJA {
				to = in.K
			}
			if to >= uint32(len(prog)-i)-1 {
				return bad(i, "jump behind the end")
			}
		case class == classSt || class == classStx || in.Op == 0x60 || in.Op == 0x61:
			if in.K >= memWords {
				return bad(i, "scratch memory has 16 words")
			}
		case (in.Op == 0x34 || in.Op == 0x94) && in.K == 0:
			return bad(i, "division by 0")
		}
	}
	if n := len(prog); n > 0 && prog[n-1].Op&7 != classRet {
		return bad(n-1, "the last one must return")
	}
	return nil
}
