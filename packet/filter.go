package packet

import (
	"fmt"
	"math"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
)

// Codes of instructions, as in sys/net/bpf.h.
const (
	opLdImm  = 0x00
	opSt     = 0x02
	opStx    = 0x03
	opAdd    = 0x04
	opJa     = 0x05
	opRetK   = 0x06
	opSub    = 0x14
	opJeq    = 0x15
	opRetA   = 0x16
	opLdW    = 0x20
	opJgt    = 0x25
	opLdH    = 0x28
	opLdB    = 0x30
	opLdWInd = 0x40
	opLdHInd = 0x48
	opLdBInd = 0x50
	opLdMem  = 0x60
	opLdxMem = 0x61
	opLdLen  = 0x80
	opLdxLen = 0x81
	opLdxMsh = 0xb1
)

const (
	scratchWords = 16
	wholeFrame   = math.MaxInt32
	typeOffset   = 2 * addressLength
)

// nothing passes no frame.
var nothing = []xbpf.RawInstruction{{Op: opRetK}}

// program returns the filter of the kernel: first the protocol, and then filter.
func (c *Conn) program(filter []xbpf.RawInstruction) ([]xbpf.RawInstruction, error) {
	if err := zbuf.Validate(filter); err != nil {
		return nil, fmt.Errorf("%w: Filter: %w", bpf.ErrConfig, err)
	}
	if c.protocol == 0 {
		return nothing, nil
	}
	var prog []xbpf.RawInstruction
	if c.protocol != All {
		prog = []xbpf.RawInstruction{
			{Op: opLdH, K: typeOffset},
			{Op: opJeq, Jt: 1, K: uint32(c.protocol)},
			{Op: opRetK},
			{Op: opLdImm}, // programs may rely on A being 0
		}
	}
	if len(filter) == 0 {
		return append(prog, xbpf.RawInstruction{Op: opRetK, K: wholeFrame}), nil
	}
	if c.typ == Datagram {
		var err error
		if filter, err = behindHeader(filter); err != nil {
			return nil, err
		}
	}
	return append(prog, filter...), nil
}

// behindHeader turns a program that looks at what follows the Ethernet header into one that looks
// at the frame and gives the same verdict. No instruction moves, so jumps stay right:
//   - Offsets, and the lengths that the program returns, grow by the header.
//   - The length of the frame comes out of a word of scratch memory, into which the beginning
//     writes what follows the header.
//   - A return of A becomes a jump to the end, which adds the header.
//
// One verdict differs. The kernel adds X and an offset in 32 bits. A sum from -14 to -1 is far
// behind the end for the program, and is in the Ethernet header here.
func behindHeader(filter []xbpf.RawInstruction) ([]xbpf.RawInstruction, error) {
	prog := append([]xbpf.RawInstruction(nil), filter...)
	word, wantLength, wantTail := freeWord(filter), false, false
	for i := range prog {
		in := &prog[i]
		switch in.Op {
		case opLdW, opLdH, opLdB, opLdWInd, opLdHInd, opLdBInd, opLdxMsh:
			in.K = plus(in.K, headerLength, math.MaxUint32) // beyond every frame, as before
		case opLdLen, opLdxLen:
			wantLength = true
			in.Op = map[uint16]uint16{opLdLen: opLdMem, opLdxLen: opLdxMem}[in.Op]
			in.K = uint32(word)
		case opRetK:
			if in.K != 0 {
				in.K = plus(in.K, headerLength, wholeFrame)
			}
		case opRetA:
			wantTail = true
			*in = xbpf.RawInstruction{Op: opJa, K: uint32(len(prog) - i - 1)}
		}
	}
	if wantTail {
		prog = append(prog,
			xbpf.RawInstruction{Op: opJgt, Jt: 3, K: wholeFrame - headerLength},
			xbpf.RawInstruction{Op: opJeq, Jt: 1},
			xbpf.RawInstruction{Op: opAdd, K: headerLength},
			xbpf.RawInstruction{Op: opRetA},
			xbpf.RawInstruction{Op: opRetK, K: wholeFrame})
	}
	if !wantLength {
		return prog, nil
	}
	if word == scratchWords {
		return nil, fmt.Errorf("%w: Filter: it uses the length and all %d words of scratch memory: "+
			"leave one unused", bpf.ErrConfig, scratchWords)
	}
	return append([]xbpf.RawInstruction{
		{Op: opLdLen}, {Op: opSub, K: headerLength}, {Op: opSt, K: uint32(word)}, {Op: opLdImm},
	}, prog...), nil
}

// freeWord returns a word of scratch memory that the program does not use, or scratchWords.
func freeWord(filter []xbpf.RawInstruction) int {
	var used [scratchWords]bool
	for _, in := range filter {
		switch in.Op {
		case opSt, opStx, opLdMem, opLdxMem:
			used[in.K] = true
		}
	}
	for word, u := range used {
		if !u {
			return word
		}
	}
	return scratchWords
}

// plus returns k+n, or most if that is less.
func plus(k, n, most uint32) uint32 {
	if k > most-n {
		return most
	}
	return k + n
}
