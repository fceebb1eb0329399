package source

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// CheckFilter refuses exactly the programs that the kernel refuses because of their length.
func TestCheckFilterAgreesWithTheKernel(t *testing.T) {
	const limit = 512
	k := bpftest.New()
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	for _, last := range []uint16{0x06, opRetA} {
		for _, snap := range []int{0, 100, 1<<31 - 1} {
			for n := limit - 4; n <= limit+1; n++ {
				prog := make([]zbuf.Insn, n)
				prog[n-1] = zbuf.Insn{Op: last, K: 1}
				cfg := bpf.Config{System: k, Filter: prog, SnapLen: snap}
				err := CheckFilter(cfg, limit)
				r, kerr := bpf.Open("em0", cfg)
				require.Equal(t, kerr == nil, err == nil, "%d instructions, the last is %#x, snap length "+
					"%d: %v; %v", n, last, snap, err, kerr)
				if kerr == nil {
					r.Close()
				} else {
					require.ErrorIs(t, err, ErrFilterLength)
				}
			}
		}
	}
	prog := make([]zbuf.Insn, 513)
	assert.EqualError(t, CheckFilter(bpf.Config{Filter: prog}, limit),
		"513 instructions, the kernel takes 512 (sysctl net.bpf.maxinsns)")
	prog[0].Op = opRetA
	assert.EqualError(t, CheckFilter(bpf.Config{Filter: prog[:510], SnapLen: 9}, limit),
		"513 instructions with the 3 for --snaplen, the kernel takes 512 (sysctl net.bpf.maxinsns)")
}
