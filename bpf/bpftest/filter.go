package bpftest

import (
	"encoding/binary"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// Opcodes of the filter language that need a name here. x/net/bpf does not export its constants.
const (
	opLdImm   = 0x00
	opLdxImm  = 0x01
	opSt      = 0x02
	opStx     = 0x03
	opJa      = 0x05
	opRetK    = 0x06
	opTax     = 0x07
	opRetA    = 0x16
	opLdWAbs  = 0x20
	opLdHAbs  = 0x28
	opLdBAbs  = 0x30
	opLdWInd  = 0x40
	opLdHInd  = 0x48
	opLdBInd  = 0x50
	opLdMem   = 0x60
	opLdxMem  = 0x61
	opLdLen   = 0x80
	opLdxLen  = 0x81
	opNeg     = 0x84
	opTxa     = 0x87
	opLdxMsh  = 0xb1
	opDivK    = 0x34
	opModK    = 0x94
	opLshK    = 0x64
	opLshX    = 0x6c
	opRshK    = 0x74
	opRshX    = 0x7c
	srcX      = 0x08
	classMask = 0x07
	classAlu  = 0x04
	classJmp  = 0x05
	classRet  = 0x06

	scratchWords = 16
)

// validCodes has a bit for each opcode that the kernel knows (bpf_code_map).
var validCodes = [16]uint16{
	0x10ff, 0x3070, 0x3131, 0x3031, 0x3131, 0x1011, 0x1013, 0x1010,
	0x0093, 0x1010, 0x1010, 0x0002,
}

// validate reports whether the kernel takes prog as a filter (bpf_validate in
// sys/net/bpf_filter.c). It is not [zbuf.Validate], so that a test can compare the two.
func validate(prog []zbuf.Insn) bool {
	for i, p := range prog {
		if p.Op > 0xff || validCodes[p.Op>>4]&(1<<(p.Op&0xf)) == 0 {
			return false
		}
		if p.Op&classMask == classJmp {
			skip := uint32(max(p.Jt, p.Jf))
			if p.Op == opJa {
				skip = p.K
			}
			if skip >= uint32(len(prog)-i)-1 {
				return false
			}
			continue
		}
		switch p.Op {
		case opSt, opStx, opLdMem, opLdxMem:
			if p.K >= scratchWords {
				return false
			}
		case opDivK, opModK:
			if p.K == 0 {
				return false
			}
		}
	}
	return len(prog) == 0 || prog[len(prog)-1].Op&classMask == classRet
}

// A filter is a program that passed validate. The nil filter accepts everything.
//
// The VM of x/net/bpf runs it wherever that and bpf_filter give the same answer. interpret runs it
// where they differ, and does as the kernel does:
//   - A halfword load behind the end of a received packet loads 0 and goes on.
//   - X+k wraps at 32 bits.
//   - Shifts count modulo 32, as the processor does.
//   - The wire length can be more than the data.
//   - x/net/bpf cannot run `ldx len` and `neg`, and takes huge offsets for extensions.
type filter struct {
	prog []zbuf.Insn
	vm   *bpf.VM // nil: interpret always
	// halfwords is the length that a received packet must have for every absolute halfword
	// load to be inside it.
	halfwords int
	usesLen   bool
}

func newFilter(prog []zbuf.Insn) *filter {
	f := &filter{prog: prog}
	indirect, freeX := false, false
	for _, p := range prog {
		switch p.Op {
		case opLdWAbs, opLdHAbs, opLdBAbs, opLdxMsh:
			if p.K >= 1<<31 {
				return f
			}
			if p.Op == opLdHAbs {
				f.halfwords = max(f.halfwords, int(p.K)+2)
			}
		case opLdWInd, opLdHInd, opLdBInd:
			indirect = true
			if p.K >= 1<<31 {
				return f
			}
		case opTax, opLdxMem:
			freeX = true
		case opLdxImm:
			freeX = freeX || p.K >= 1<<31
		case opLshX, opRshX, opLdxLen, opNeg:
			return f
		case opLshK, opRshK:
			if p.K > 31 {
				return f
			}
		case opLdLen:
			f.usesLen = true
		}
	}
	if indirect && freeX {
		return f
	}
	ins, ok := bpf.Disassemble(prog)
	if !ok {
		return f
	}
	if vm, err := bpf.NewVM(ins); err == nil {
		f.vm = vm
	}
	return f
}

// match returns the number of bytes of the packet that the filter wants. mbuf says that the packet
// comes from an interface, in an mbuf. The kernel checks a written packet while it is still one
// piece of memory.
func (f *filter) match(pkt []byte, wirelen int, mbuf bool) uint32 {
	if f == nil {
		return 1<<32 - 1
	}
	if f.vm == nil || mbuf && len(pkt) < f.halfwords || f.usesLen && wirelen != len(pkt) {
		return interpret(f.prog, pkt, wirelen, mbuf)
	}
	n, err := f.vm.Run(pkt)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// interpret is bpf_filter.
func interpret(prog []zbuf.Insn, pkt []byte, wirelen int, mbuf bool) uint32 {
	var a, x uint32
	var scratch [scratchWords]uint32
	for pc := 0; ; pc++ {
		p := &prog[pc]
		if c := p.Op & classMask; c == classAlu {
			operand := p.K
			if p.Op&srcX != 0 {
				operand = x
			}
			var ok bool
			if a, ok = alu(p.Op, a, operand); !ok {
				return 0
			}
			continue
		} else if c == classJmp {
			pc += jump(p, a, x)
			continue
		}
		switch p.Op {
		case opRetK:
			return p.K
		case opRetA:
			return a
		case opLdWAbs, opLdHAbs, opLdBAbs, opLdWInd, opLdHInd, opLdBInd, opLdxMsh:
			k, wraps := p.K, false
			if p.Op == opLdWInd || p.Op == opLdHInd || p.Op == opLdBInd {
				k += x
				wraps = k < x
			}
			if wraps && !mbuf {
				return 0
			}
			v, ok := load(p.Op, pkt, k)
			if !ok && !(p.Op == opLdHAbs && mbuf) {
				return 0
			}
			if p.Op == opLdxMsh {
				x = v & 0xf << 2
			} else {
				a = v
			}
		case opLdLen:
			a = uint32(wirelen)
		case opLdxLen:
			x = uint32(wirelen)
		case opLdImm:
			a = p.K
		case opLdxImm:
			x = p.K
		case opLdMem:
			a = scratch[p.K]
		case opLdxMem:
			x = scratch[p.K]
		case opSt:
			scratch[p.K] = a
		case opStx:
			scratch[p.K] = x
		case opTax:
			x = a
		case opTxa:
			a = x
		}
	}
}

func load(op uint16, pkt []byte, k uint32) (v uint32, ok bool) {
	size := uint64(1)
	switch op & 0x18 {
	case 0x00:
		size = 4
	case 0x08:
		size = 2
	}
	if uint64(k)+size > uint64(len(pkt)) {
		return 0, false
	}
	switch size {
	case 4:
		return binary.BigEndian.Uint32(pkt[k:]), true
	case 2:
		return uint32(binary.BigEndian.Uint16(pkt[k:])), true
	}
	return uint32(pkt[k]), true
}

func alu(op uint16, a, b uint32) (v uint32, ok bool) {
	switch op & 0xf0 {
	case 0x00:
		return a + b, true
	case 0x10:
		return a - b, true
	case 0x20:
		return a * b, true
	case 0x30:
		if b == 0 {
			return 0, false
		}
		return a / b, true
	case 0x40:
		return a | b, true
	case 0x50:
		return a & b, true
	case 0x60:
		return a << (b & 31), true
	case 0x70:
		return a >> (b & 31), true
	case 0x80:
		return -a, true
	case 0x90:
		if b == 0 {
			return 0, false
		}
		return a % b, true
	default:
		return a ^ b, true
	}
}

func jump(p *zbuf.Insn, a, x uint32) int {
	operand := p.K
	if p.Op&srcX != 0 {
		operand = x
	}
	var yes bool
	switch p.Op & 0xf0 {
	case 0x00:
		return int(p.K)
	case 0x10:
		yes = a == operand
	case 0x20:
		yes = a > operand
	case 0x30:
		yes = a >= operand
	case 0x40:
		yes = a&operand != 0
	}
	if yes {
		return int(p.Jt)
	}
	return int(p.Jf)
}
