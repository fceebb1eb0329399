package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// Step is one executed instruction: its index in the program, and the registers after it.
type Step struct {
	At   int
	A, X uint32
}

// A VM runs one program. It behaves like FreeBSD's bpf_filter:
//   - Numbers have 32 bits.
//   - The length is that on the wire.
//   - A load beyond the packet or a division by zero refuses the packet.
//   - A shift takes its count modulo 32, as 64-bit machines do. [Compile] makes no program that
//     shifts by more.
//
// Several goroutines may use a VM at a time.
type VM struct{ program []bpf.RawInstruction }

// NewVM returns a VM for a program. It keeps a copy.
//
// Errors:
//   - Those of [Validate].
func NewVM(program []bpf.RawInstruction) (*VM, error) {
	if err := Validate(program); err != nil {
		return nil, err
	}
	return &VM{slices.Clone(program)}, nil
}

// Run returns the number of bytes of a packet that the program accepts. 0 refuses the packet.
// packet has the captured bytes. wireLen is the length that the packet had on the wire.
func (v *VM) Run(packet []byte, wireLen int) uint32 {
	return execute(v.program, packet, uint32(wireLen), nil)
}

// Trace does the same as [VM.Run] and also returns the executed instructions, in order.
func (v *VM) Trace(packet []byte, wireLen int) (uint32, []Step) {
	var steps []Step
	verdict := execute(v.program, packet, uint32(wireLen), &steps)
	return verdict, steps
}

// Run runs a program once, as [NewVM] and [VM.Run] do.
//
// Errors:
//   - Those of [Validate].
func Run(program []bpf.RawInstruction, packet []byte, wireLen int) (uint32, error) {
	if err := Validate(program); err != nil {
		return 0, err
	}
	return execute(program, packet, uint32(wireLen), nil), nil
}

// Validate returns nil if a [VM] can run the program. Otherwise the error names one of these
// reasons, and the instruction:
//   - The program is empty.
//   - An instruction's code does not exist.
//   - A jump goes beyond the end.
//   - An instruction uses a word of memory that does not exist.
//   - An instruction divides by a constant zero.
//   - The last instruction does not return.
//
// It differs from zbuf.Validate, for which an empty program is valid.
func Validate(program []bpf.RawInstruction) error {
	if len(program) == 0 {
		return errors.New("filter: the program is empty")
	}
	for i, ins := range program {
		if mnemonic(ins) == "unimp" {
			return fmt.Errorf("filter: instruction %d: no instruction has the code %#x", i, ins.Op)
		}
		left := len(program) - i - 1
		switch ins.Op & 7 {
		case codeJmp:
			if ins.Op == codeJmp|jumpAlways {
				if uint64(ins.K) >= uint64(left) {
					return fmt.Errorf("filter: instruction %d jumps beyond the program", i)
				}
			} else if int(ins.Jt) >= left || int(ins.Jf) >= left {
				return fmt.Errorf("filter: instruction %d jumps beyond the program", i)
			}
		case codeSt, codeStx:
			if ins.K >= memory {
				return fmt.Errorf("filter: instruction %d stores into word %d of %d", i, ins.K, memory)
			}
		case codeLd, codeLdx:
			if ins.Op&0xe0 == modeMem && ins.K >= memory {
				return fmt.Errorf("filter: instruction %d loads word %d of %d", i, ins.K, memory)
			}
		case codeALU:
			if (ins.Op == codeALU|aluDiv || ins.Op == codeALU|aluMod) && ins.K == 0 {
				return fmt.Errorf("filter: instruction %d divides by zero", i)
			}
		}
	}
	if program[len(program)-1].Op&7 != codeRet {
		return errors.New("filter: the program does not end with a return")
	}
	return nil
}

// fetch returns the bytes at k+x that a load's code asks for. If they are not all in the packet, ok
// is false and the register keeps its value.
func fetch(packet []byte, op uint16, k, x, a uint32) (v uint32, ok bool) {
	at, left := uint64(k)+uint64(x), uint64(len(packet))
	switch op & 0x18 {
	case sizeB:
		if at+1 <= left {
			return uint32(packet[at]), true
		}
	case sizeH:
		if at+2 <= left {
			return uint32(binary.BigEndian.Uint16(packet[at:])), true
		}
	default:
		if at+4 <= left {
			return binary.BigEndian.Uint32(packet[at:]), true
		}
	}
	return a, false
}

func execute(program []bpf.RawInstruction, packet []byte, wireLen uint32, steps *[]Step) uint32 {
	var a, x uint32
	var mem [memory]uint32
	for pc := 0; ; pc++ {
		ins := &program[pc]
		at := pc
		ok := true
		k := ins.K
		if ins.Op&srcX != 0 && (ins.Op&7 == codeALU || ins.Op&7 == codeJmp) {
			k = x
		}
		switch ins.Op & 7 {
		case codeLd:
			switch ins.Op & 0xe0 {
			case modeAbs:
				a, ok = fetch(packet, ins.Op, k, 0, a)
			case modeInd:
				a, ok = fetch(packet, ins.Op, k, x, a)
			case modeLen:
				a = wireLen
			case modeImm:
				a = k
			case modeMem:
				a = mem[k]
			}
		case codeLdx:
			switch ins.Op & 0xe0 {
			case modeImm:
				x = k
			case modeMem:
				x = mem[k]
			case modeLen:
				x = wireLen
			case modeMsh:
				if ok = uint64(k) < uint64(len(packet)); ok {
					x = uint32(packet[k]) & 0xf << 2
				}
			}
		case codeSt:
			mem[k] = a
		case codeStx:
			mem[k] = x
		case codeALU:
			switch op := ins.Op & 0xf0; op {
			case aluNeg:
				a = -a
			case aluLsh, aluRsh:
				a, ok = fold(op, a, k&31)
			default:
				a, ok = fold(op, a, k)
			}
		case codeJmp:
			jump := false
			switch ins.Op & 0xf0 {
			case jumpAlways:
				pc += int(k)
			case jumpEqual:
				jump = a == k
			case jumpGreater:
				jump = a > k
			case jumpAtLeast:
				jump = a >= k
			case jumpBits:
				jump = a&k != 0
			}
			if jump {
				pc += int(ins.Jt)
			} else if ins.Op != codeJmp|jumpAlways {
				pc += int(ins.Jf)
			}
		case codeMisc:
			if ins.Op == codeMisc|miscTax {
				x = a
			} else {
				a = x
			}
		}
		if steps != nil {
			*steps = append(*steps, Step{at, a, x})
		}
		switch {
		case ins.Op == codeRet|retA:
			return a
		case ins.Op&7 == codeRet:
			return ins.K
		case !ok:
			return 0
		}
	}
}
