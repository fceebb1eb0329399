package filter

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

func TestVMIsFreeBSDs(t *testing.T) {
	packet := []byte{0x45, 0, 0, 5, 0xff, 0xff, 0xff, 0xfe}
	ret := bpf.RawInstruction{Op: codeRet | retA}
	for _, c := range []struct {
		rule string
		prog []bpf.RawInstruction
		want uint32
	}{
		{"the length is that on the wire", []bpf.RawInstruction{{Op: codeLd | modeLen}, ret}, 1500},
		{"ldx takes the same length", []bpf.RawInstruction{{Op: codeLdx | modeLen},
			{Op: codeMisc | miscTxa}, ret}, 1500},
		{"additions wrap at 32 bits", []bpf.RawInstruction{{Op: codeLd | modeAbs, K: 4},
			{Op: codeALU | aluAdd, K: 3}, ret}, 1},
		{"a word at the end is there", []bpf.RawInstruction{{Op: codeLd | modeAbs, K: 4}, ret},
			0xfffffffe},
		{"a word that goes beyond refuses", []bpf.RawInstruction{{Op: codeLd | modeAbs, K: 5},
			{Op: codeRet, K: 9}}, 0},
		{"an offset of Linux's extensions refuses", []bpf.RawInstruction{{Op: codeLd | sizeH | modeAbs,
			K: 0xfffff000}, {Op: codeRet, K: 9}}, 0},
		{"an index does not wrap", []bpf.RawInstruction{{Op: codeLdx | modeImm, K: 0xffffffff},
			{Op: codeLd | sizeB | modeInd, K: 1},
			{Op: codeRet, K: 9}}, 0},
		{"division by zero refuses", []bpf.RawInstruction{{Op: codeLd | modeImm, K: 7},
			{Op: codeALU | aluDiv | srcX}, {Op: codeRet, K: 9}}, 0},
		{"modulo zero refuses", []bpf.RawInstruction{{Op: codeLd | modeImm, K: 7},
			{Op: codeALU | aluMod | srcX}, {Op: codeRet, K: 9}}, 0},
		{"a shift takes its count modulo 32", []bpf.RawInstruction{{Op: codeLd | modeImm, K: 1},
			{Op: codeALU | aluLsh, K: 33}, ret}, 2},
		{"memory begins as zero", []bpf.RawInstruction{{Op: codeLd | modeMem, K: 15},
			{Op: codeALU | aluAdd, K: 4}, ret}, 4},
		{"the header length is four times the low half",
			[]bpf.RawInstruction{{Op: codeLdx | sizeB | modeMsh}, {Op: codeMisc | miscTxa}, ret}, 20},
		{"a jump always goes on", []bpf.RawInstruction{{Op: codeJmp | jumpAlways, K: 1}, {Op: codeRet,
			K: 1}, {Op: codeRet, K: 2}}, 2},
	} {
		got, err := Run(c.prog, packet, 1500)
		require.NoError(t, err, c.rule)
		assert.Equal(t, c.want, got, c.rule)
	}
}

func TestValidateRefusesWhatTheKernelRefuses(t *testing.T) {
	end := bpf.RawInstruction{Op: codeRet}
	for _, c := range []struct {
		says string
		prog []bpf.RawInstruction
	}{
		{"empty", nil},
		{"end with a return", []bpf.RawInstruction{{Op: codeLd | modeImm}}},
		{"no instruction has the code", []bpf.RawInstruction{{Op: 0xffff}, end}},
		{"jumps beyond", []bpf.RawInstruction{{Op: codeJmp | jumpEqual, Jt: 1}, end}},
		{"jumps beyond", []bpf.RawInstruction{{Op: codeJmp | jumpAlways, K: 0xffffffff}, end}},
		{"stores into word 16", []bpf.RawInstruction{{Op: codeSt, K: 16}, end}},
		{"loads word 16", []bpf.RawInstruction{{Op: codeLdx | modeMem, K: 16}, end}},
		{"divides by zero", []bpf.RawInstruction{{Op: codeALU | aluDiv}, end}},
	} {
		require.ErrorContains(t, Validate(c.prog), c.says)
		_, err := NewVM(c.prog)
		require.Error(t, err)
	}
}

// No program depends on what a machine does with a count above 31.
func TestShiftByACalculatedCountIsModulo32(t *testing.T) {
	prog, err := Compile("1 << link[0] = 2", Options{LinkType: DLTEthernet})
	require.NoError(t, err)
	for _, count := range []byte{1, 33, 65, 225} {
		n, err := Run(prog, []byte{count}, 1)
		require.NoError(t, err)
		assert.NotZero(t, n, count)
	}
	assert.Contains(t, Disassemble(prog), "and      #0x1f")
}

func TestTraceShowsTheWay(t *testing.T) {
	prog, err := Compile("ip", Options{LinkType: DLTEthernet})
	require.NoError(t, err)
	vm, err := NewVM(prog)
	require.NoError(t, err)
	packet := make([]byte, 60)
	packet[12] = 8
	n, steps := vm.Trace(packet, 60)
	assert.EqualValues(t, 262144, n)
	assert.Equal(t, []Step{{0, 0x800, 0}, {1, 0x800, 0}, {2, 0x800, 0}}, steps)
}

// The second opinion: x/net's VM agrees where the packet is captured whole and nothing wraps.
func TestSameVerdictsAsXNet(t *testing.T) {
	for i, e := range typedExpressions(t) {
		if strings.ContainsAny(e, "-*") || strings.Contains(e, "<<") {
			continue
		}
		prog, err := Compile(e, judgeOptions(DLTEthernet))
		if err != nil {
			continue
		}
		list, _ := bpf.Disassemble(prog)
		if slices.Contains(list, bpf.Instruction(bpf.NegateA{})) { // which x/net's VM does not know
			continue
		}
		other, err := bpf.NewVM(list)
		require.NoError(t, err, e)
		for _, s := range samplesFor(DLTEthernet, uint64(i), 20, prog) {
			want, err := other.Run(s.data)
			require.NoError(t, err)
			require.Equal(t, want > 0, mustVM(prog).Run(s.data, len(s.data)) > 0, e)
		}
	}
}

func TestDisassembleIsTcpdumps(t *testing.T) {
	d := newTcpdump(t)
	list := typedExpressions(t)
	if testing.Short() {
		list = list[:40]
	}
	compared := 0
	for _, e := range list {
		prog, refused, err := d.compile(DLTEthernet, e, true)
		require.NoError(t, err)
		if refused != "" {
			continue
		}
		text, _, err := d.run(DLTEthernet, e, true, "-d")
		require.NoError(t, err)
		require.Equal(t, text, Disassemble(prog), e)
		compared++
	}
	require.Greater(t, compared, 20)
}
