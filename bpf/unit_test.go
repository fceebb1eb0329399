package bpf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"
)

func TestCountersGoOnBeyond32Bits(t *testing.T) {
	for _, c := range []struct {
		name      string
		last, now uint32
		want      uint64
	}{
		{"grows", 5, 9, 4},
		{"stands", 7, 7, 0},
		{"wraps", 1<<32 - 3, 4, 7},
		{"wraps from the upper half", 1<<31 + 2, 1, 1<<31 - 1},
		{"half way round is taken for zeroed", 1 << 31, 1, 1},
		{"was zeroed by somebody else", 1000, 3, 3},
		{"was zeroed, and would be a long wrap", 1<<32 - 1, 1<<31 - 1, 1<<31 - 1},
		{"a long way at once", 0, 1<<32 - 1, 1<<32 - 1},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, advance(c.last, c.now)) })
	}
}

// A program with SnapLen worked in returns what the program does, but at most SnapLen.
func TestSnapLenLimitsWhatFiltersReturn(t *testing.T) {
	packet := make([]byte, 200)
	for i := range packet {
		packet[i] = byte(i)
	}
	programs := map[string][]xbpf.Instruction{
		"constant":       {xbpf.RetConstant{Val: 1 << 18}},
		"small constant": {xbpf.RetConstant{Val: 10}},
		"reject":         {xbpf.RetConstant{Val: 0}},
		"a byte":         {xbpf.LoadAbsolute{Off: 150, Size: 1}, xbpf.RetA{}},
		"a small byte":   {xbpf.LoadAbsolute{Off: 20, Size: 1}, xbpf.RetA{}},
		"zero in a":      {xbpf.LoadAbsolute{Off: 0, Size: 1}, xbpf.RetA{}},
		"two ways out": {
			xbpf.LoadAbsolute{Off: 1, Size: 1},
			xbpf.JumpIf{Cond: xbpf.JumpEqual, Val: 1, SkipFalse: 2},
			xbpf.LoadConstant{Dst: xbpf.RegA, Val: 90}, xbpf.RetA{},
			xbpf.LoadConstant{Dst: xbpf.RegA, Val: 5}, xbpf.RetA{},
		},
	}
	run := func(raw []xbpf.RawInstruction) int {
		ins, all := xbpf.Disassemble(raw)
		require.True(t, all)
		vm, err := xbpf.NewVM(ins)
		require.NoError(t, err)
		n, err := vm.Run(packet)
		require.NoError(t, err)
		return n
	}
	for name, prog := range programs {
		raw, err := xbpf.Assemble(prog)
		require.NoError(t, err)
		for _, snap := range []int{0, 1, 60, 151, 100_000} {
			c := Config{SnapLen: snap}
			limited := c.program(raw)
			want := run(raw)
			if snap > 0 {
				want = min(want, snap)
			}
			assert.Equal(t, want, run(limited), "%s, SnapLen %d", name, snap)
		}
	}
}

func TestParseModeIsTheInverseOfString(t *testing.T) {
	for _, m := range []Mode{Auto, ZeroCopy, Buffered} {
		got, err := ParseMode(m.String())
		require.NoError(t, err)
		assert.Equal(t, m, got)
	}
	_, err := ParseMode("turbo")
	assert.Error(t, err)
}
