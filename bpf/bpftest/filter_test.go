package bpftest

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// Every opcode is once the first of two instructions. The model and the binding agree whether the
// kernel takes the program.
func TestValidateOpcodes(t *testing.T) {
	valid := 0
	for op := range 1 << 10 {
		for _, k := range []uint32{0, 1, 15, 16, 1 << 31} {
			for _, jump := range []uint8{0, 1} {
				prog := []zbuf.Insn{{Op: uint16(op), K: k, Jt: jump}, {Op: opRetK}}
				ok := validate(prog)
				require.Equal(t, zbuf.Validate(prog) == nil, ok, "op %#x k %d jt %d", op, k, jump)
				if ok && k == 1 && jump == 0 {
					valid++
				}
			}
		}
	}
	require.Equal(t, 50, valid+2, "opcodes in bpf_code_map; a jump by 1 leaves the program, whatever "+
		"else it does")
}

func TestValidate(t *testing.T) {
	ret := zbuf.Insn{Op: opRetK}
	long := make([]zbuf.Insn, 300)
	for i := range long {
		long[i] = zbuf.Insn{Op: opLdImm}
	}
	for name, c := range map[string]struct {
		prog []zbuf.Insn
		want bool
	}{
		"empty":                       {nil, true},
		"one return":                  {[]zbuf.Insn{ret}, true},
		"return A":                    {[]zbuf.Insn{{Op: opRetA}}, true},
		"no return at the end":        {[]zbuf.Insn{ret, {Op: opLdImm}}, false},
		"a jump to the last":          {[]zbuf.Insn{{Op: opJa, K: 1}, ret, ret}, true},
		"a jump behind the end":       {[]zbuf.Insn{{Op: opJa, K: 2}, ret, ret}, false},
		"a jump far behind the end":   {[]zbuf.Insn{{Op: opJa, K: 1<<32 - 1}, ret}, false},
		"a conditional one, true":     {[]zbuf.Insn{{Op: 0x15, Jt: 1}, ret}, false},
		"a conditional one, false":    {[]zbuf.Insn{{Op: 0x15, Jf: 1}, ret}, false},
		"a jump as the last":          {[]zbuf.Insn{{Op: opJa}}, false},
		"scratch word 15":             {[]zbuf.Insn{{Op: opSt, K: 15}, ret}, true},
		"scratch word 16":             {[]zbuf.Insn{{Op: opLdxMem, K: 16}, ret}, false},
		"division by the constant 0":  {[]zbuf.Insn{{Op: opDivK}, ret}, false},
		"division by X":               {[]zbuf.Insn{{Op: opDivK | srcX}, ret}, true},
		"a code beyond a byte":        {[]zbuf.Insn{{Op: 0x100}, ret}, false},
		"longer than a jump reaches":  {append(append([]zbuf.Insn{}, long...), ret), true},
		"x/net's own extension, load": {[]zbuf.Insn{{Op: opLdWAbs, K: 1<<32 - 0x1000}, ret}, true},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, validate(c.prog))
			require.Equal(t, c.want, zbuf.Validate(c.prog) == nil, "the binding")
		})
	}
}

// Where the kernel and x/net/bpf differ, the model does as the kernel does.
func TestFilterQuirks(t *testing.T) {
	ld := func(op uint16, k uint32) zbuf.Insn { return zbuf.Insn{Op: op, K: k} }
	retA := zbuf.Insn{Op: opRetA}
	add := func(k uint32) zbuf.Insn { return zbuf.Insn{Op: 0x04, K: k} }
	pkt := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for name, c := range map[string]struct {
		prog          []zbuf.Insn
		received      uint32
		written       uint32
		viaX          bool // x/net/bpf's VM may run it
		wirelenBeyond bool
	}{
		"a halfword behind a received packet is 0":  {[]zbuf.Insn{ld(opLdHAbs, 7), add(9), retA}, 9, 0, true, false},
		"a halfword far behind":                     {[]zbuf.Insn{ld(opLdHAbs, 1<<31), add(9), retA}, 9, 0, false, false},
		"a halfword inside":                         {[]zbuf.Insn{ld(opLdHAbs, 6), retA}, 0x708, 0x708, true, false},
		"a word behind ends it":                     {[]zbuf.Insn{ld(opLdWAbs, 5), add(9), retA}, 0, 0, true, false},
		"a byte behind ends it":                     {[]zbuf.Insn{ld(opLdBAbs, 8), add(9), retA}, 0, 0, true, false},
		"an indirect halfword behind ends it":       {[]zbuf.Insn{ld(opLdxImm, 1), ld(opLdHInd, 6), add(9), retA}, 0, 0, true, false},
		"msh behind ends it":                        {[]zbuf.Insn{ld(opLdxMsh, 8), ld(opLdImm, 9), retA}, 0, 0, true, false},
		"msh inside":                                {[]zbuf.Insn{ld(opLdxMsh, 7), {Op: opTxa}, retA}, 32, 32, true, false},
		"X+k wraps in an mbuf, not in plain memory": {[]zbuf.Insn{ld(opLdxImm, 1<<32-1), ld(opLdBInd, 2), retA}, 2, 0, false, false},
		"k+X wraps":                                 {[]zbuf.Insn{ld(opLdxImm, 2), ld(opLdWInd, 1<<32-1), retA}, 0x02030405, 0, false, false},
		"shift left by 33 is by 1":                  {[]zbuf.Insn{ld(opLdImm, 3), {Op: opLshK, K: 33}, retA}, 6, 6, false, false},
		"shift right by X":                          {[]zbuf.Insn{ld(opLdImm, 6), ld(opLdxImm, 33), {Op: opRshX}, retA}, 3, 3, false, false},
		"ldx len":                                   {[]zbuf.Insn{ld(opLdxLen, 0), {Op: opTxa}, retA}, 8, 8, false, false},
		"neg":                                       {[]zbuf.Insn{ld(opLdImm, 3), {Op: opNeg}, retA}, 1<<32 - 3, 1<<32 - 3, false, false},
		"ld len":                                    {[]zbuf.Insn{ld(opLdLen, 0), retA}, 8, 8, true, false},
		"ld len of a packet longer on the wire":     {[]zbuf.Insn{ld(opLdLen, 0), retA}, 99, 8, true, true},
		"division by X = 0 ends it":                 {[]zbuf.Insn{ld(opLdImm, 6), {Op: opDivK | srcX}, add(1), retA}, 0, 0, true, false},
		"remainder by X = 0 ends it":                {[]zbuf.Insn{ld(opLdImm, 6), {Op: opModK | srcX}, add(1), retA}, 0, 0, true, false},
		"scratch memory begins as 0":                {[]zbuf.Insn{ld(opLdMem, 3), add(5), retA}, 5, 5, true, false},
		"an extension of x/net/bpf is an offset":    {[]zbuf.Insn{ld(opLdWAbs, 1<<32-0x1000+1), add(5), retA}, 0, 0, false, false},
		"only the instruction's own fields count":   {[]zbuf.Insn{{Op: opTxa, Jt: 200, Jf: 9, K: 77}, add(5), {Op: opRetA, K: 3, Jt: 1}}, 5, 5, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, validate(c.prog))
			f := newFilter(c.prog)
			require.Equal(t, c.viaX, f.vm != nil)
			wire := len(pkt)
			if c.wirelenBeyond {
				wire = 99
			}
			require.Equal(t, c.received, f.match(pkt, wire, true), "received")
			require.Equal(t, c.written, f.match(pkt, len(pkt), false), "written")
			require.Equal(t, c.received, interpret(c.prog, pkt, wire, true), "interpreted")
			require.Equal(t, c.written, interpret(c.prog, pkt, len(pkt), false), "interpreted")
		})
	}
	require.Equal(t, uint32(1<<32-1), (*filter)(nil).match(pkt, 8, true), "no filter accepts all")
}

// randomProgram is a valid program, biased to small numbers.
func randomProgram(r *rand.Rand) []zbuf.Insn {
	ops := make([]uint16, 0, 64)
	for op := range uint16(256) {
		if validCodes[op>>4]&(1<<(op&0xf)) != 0 {
			ops = append(ops, op)
		}
	}
	for {
		prog := make([]zbuf.Insn, 1+r.IntN(12))
		for i := range prog {
			left := len(prog) - i
			prog[i] = zbuf.Insn{Op: ops[r.IntN(len(ops))], K: uint32(r.IntN(24)), Jt: uint8(r.IntN(left)),
				Jf: uint8(r.IntN(left))}
			switch r.IntN(12) {
			case 0:
				prog[i].K = r.Uint32()
			case 1:
				prog[i].K = -uint32(r.IntN(64))
			}
		}
		prog[len(prog)-1] = zbuf.Insn{Op: []uint16{opRetA, opRetK}[r.IntN(2)], K: r.Uint32()}
		if validate(prog) {
			return prog
		}
	}
}

// If the model lets x/net/bpf run a program, that gives the kernel's result.
func TestFilterEnginesAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	viaX, programs := 0, 200_000
	if testing.Short() {
		programs /= 4
	}
	for range programs {
		prog := randomProgram(r)
		pkt := make([]byte, r.IntN(24))
		for i := range pkt {
			pkt[i] = byte(r.Uint32())
		}
		f := newFilter(prog)
		if f.vm == nil {
			continue
		}
		viaX++
		for _, mbuf := range []bool{false, true} {
			require.Equal(t, interpret(prog, pkt, len(pkt), mbuf), f.match(pkt, len(pkt), mbuf),
				"%v on %x, mbuf %v", prog, pkt, mbuf)
		}
	}
	require.Greater(t, viaX, programs/10)
}

// The kernel takes every program that x/net/bpf assembles from its instructions.
func TestFilterOfAssembler(t *testing.T) {
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x88b5, SkipTrue: 1},
		bpf.RetConstant{Val: 64},
		bpf.RetConstant{Val: 0},
	})
	require.NoError(t, err)
	require.True(t, validate(prog))
	f := newFilter(prog)
	require.NotNil(t, f.vm)
	pkt := make([]byte, 60)
	require.Zero(t, f.match(pkt, 60, true))
	pkt[12], pkt[13] = 0x88, 0xb5
	require.EqualValues(t, 64, f.match(pkt, 60, true))
	require.Zero(t, f.match(pkt[:13], 13, true))
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte{0x28, 0, 0, 0, 0, 0, 0, 12, 6, 0, 0, 0, 0, 0, 0, 1}, []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, code, pkt []byte) {
		var prog []zbuf.Insn
		for ; len(code) >= 8; code = code[8:] {
			prog = append(prog, zbuf.Insn{
				Op: uint16(code[0]) | uint16(code[1])<<8, Jt: code[2], Jf: code[3],
				K: uint32(code[4])<<24 | uint32(code[5])<<16 | uint32(code[6])<<8 | uint32(code[7]),
			})
		}
		ok := validate(prog)
		require.Equal(t, zbuf.Validate(prog) == nil, ok)
		if !ok || len(prog) == 0 {
			return
		}
		got := newFilter(prog)
		for _, mbuf := range []bool{false, true} {
			require.Equal(t, interpret(prog, pkt, len(pkt), mbuf), got.match(pkt, len(pkt), mbuf))
		}
	})
}
