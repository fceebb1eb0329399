package filter

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
)

// Step is one executed instruction: where it stands, and the registers after it.
type Step struct {
	At   int
	A, X uint32
}

// Run returns how many bytes of a packet the program accepts, 0 for none. It behaves like FreeBSD's
// bpf_filter: numbers have 32 bits, the length is that on the wire, and a load beyond the packet or
// a division by zero refuses the packet. A shift takes its count modulo 32, as 64-bit machines do;
// Compile makes no program that shifts by more. Run returns an error for a program that Validate
// refuses; then the verdict means nothing.
func Run(program []bpf.RawInstruction, packet []byte, wireLen int) (uint32, error) {
	return execute(program, packet, uint32(wireLen), nil)
}

// Trace does what Run does and also returns the way through the program.
func Trace(program []bpf.RawInstruction, packet []byte, wireLen int) (uint32, []Step, error) {
	var steps []Step
	verdict, err := execute(program, packet, uint32(wireLen), &steps)
	return verdict, steps, err
}

// Validate reports why a program cannot run: a code that does not exist, a jump beyond the end, a
// word of memory that does not exist, a constant division by zero, or an end without a return.
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

// fetch returns size bytes at k+x; ok is false if they are not all in the packet.
func fetch(packet []byte, size, k, x uint32) (v uint32, ok bool) {
	at := uint64(k) + uint64(x)
	if at+uint64(size) > uint64(len(packet)) {
		return 0, false
	}
	for _, b := range packet[at : at+uint64(size)] {
		v = v<<8 | uint32(b)
	}
	return v, true
}

func execute(program []bpf.RawInstruction, packet []byte, wireLen uint32, steps *[]Step) (uint32, error) {
	if err := Validate(program); err != nil {
		return 0, err
	}
	var a, x uint32
	var mem [memory]uint32
	for pc := 0; pc < len(program); pc++ {
		ins := program[pc]
		at := pc
		ok := true
		k := ins.K
		switch ins.Op & 7 {
		case codeRet:
			if steps != nil {
				*steps = append(*steps, Step{at, a, x})
			}
			if ins.Op == codeRet|retA {
				return a, nil
			}
			return k, nil
		case codeLd:
			size := map[uint16]uint32{sizeW: 4, sizeH: 2, sizeB: 1}[ins.Op&0x18]
			switch ins.Op & 0xe0 {
			case modeAbs:
				a, ok = fetch(packet, size, k, 0)
			case modeInd:
				a, ok = fetch(packet, size, k, x)
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
				if x, ok = fetch(packet, 1, k, 0); ok {
					x = x & 0xf << 2
				}
			}
		case codeSt:
			mem[k] = a
		case codeStx:
			mem[k] = x
		case codeALU:
			if ins.Op == codeALU|aluNeg {
				a = -a
				break
			}
			if ins.Op&srcX != 0 {
				k = x
			}
			op := ins.Op & 0xf0
			if op == aluLsh || op == aluRsh {
				k &= 31
			}
			a, ok = fold(op, a, k)
		case codeJmp:
			if ins.Op == codeJmp|jumpAlways {
				pc += int(k)
				break
			}
			if ins.Op&srcX != 0 {
				k = x
			}
			rel := map[uint16]relation{jumpEqual: relEqual, jumpGreater: relGreater, jumpAtLeast: relAtLeast,
				jumpBits: relBits}[ins.Op&0xf0]
			if holds(rel, a, k) {
				pc += int(ins.Jt)
			} else {
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
		if !ok {
			return 0, nil
		}
	}
	return 0, errors.New("filter: the program does not end with a return")
}
