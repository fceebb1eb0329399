package bpf_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// capture is a model kernel with one interface and a reader on it.
type capture struct {
	k   *bpftest.Kernel
	em0 *bpftest.Interface
	r   *bpf.Reader
}

func zerocopyOn(on bool) bpftest.Option {
	v := int32(0)
	if on {
		v = 1
	}
	return bpftest.WithSysctl("net.bpf.zerocopy_enable", v)
}

func newCapture(t testing.TB, cfg bpf.Config, opts ...bpftest.Option) *capture {
	t.Helper()
	k := bpftest.New(append([]bpftest.Option{zerocopyOn(cfg.Mode != bpf.Buffered)}, opts...)...)
	w := &capture{k: k, em0: k.AddInterface("em0", zbuf.DLT_EN10MB)}
	cfg.System = k
	r, err := bpf.Open("em0", cfg)
	require.NoError(t, err)
	w.r = r
	t.Cleanup(func() { r.Close() })
	return w
}

// numbered is an Ethernet frame of the given length that carries n and a check of it.
func numbered(n uint32, length int) []byte {
	p := make([]byte, max(length, 64))
	p[12], p[13] = 0x88, 0xb5
	binary.BigEndian.PutUint32(p[14:], n)
	for i := 18; i < len(p); i++ {
		p[i] = byte(n) + byte(i)
	}
	return p
}

// number checks a frame made by numbered and returns its number.
func number(t testing.TB, p []byte) uint32 {
	t.Helper()
	require.GreaterOrEqual(t, len(p), 64)
	n := binary.BigEndian.Uint32(p[14:])
	for i := 18; i < len(p); i++ {
		if p[i] != byte(n)+byte(i) {
			require.Failf(t, "torn packet", "number %d: byte %d is %#x", n, i, p[i])
		}
	}
	return n
}

// modes runs f in both buffer modes, each in a bubble where time passes only while everybody waits.
func modes(t *testing.T, f func(t *testing.T, mode bpf.Mode)) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, mode) })
		})
	}
}

// accept passes frames whose number is at least n.
func accept(t testing.TB, n uint32) []xbpf.RawInstruction {
	prog, err := xbpf.Assemble([]xbpf.Instruction{
		xbpf.LoadAbsolute{Off: 14, Size: 4},
		xbpf.JumpIf{Cond: xbpf.JumpGreaterOrEqual, Val: n, SkipFalse: 1},
		xbpf.RetConstant{Val: 1 << 18},
		xbpf.RetConstant{Val: 0},
	})
	require.NoError(t, err)
	return prog
}
