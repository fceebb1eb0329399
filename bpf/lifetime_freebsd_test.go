package bpf_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// forgetOnKernel opens a Reader and drops it, without Close, once use has taken something from it.
//
//go:noinline
func forgetOnKernel(t *testing.T, p *lab.Pair, mode bpf.Mode, use func(*bpf.Reader)) {
	r, err := bpf.Open(p.A, bpf.Config{Mode: mode, BufferSize: 4096,
		ReadTimeout: 10 * time.Millisecond})
	require.NoError(t, err)
	for i := range uint32(100) { // both buffers are full, so nothing is copied out
		require.NoError(t, p.Post(p.A, lab.Frame(64, i)))
	}
	use(r)
}

// On the kernel, too, the program can read the memory that a Reader has given to it, after it has
// dropped the Reader and a collection has closed the descriptor. Memory that is not mapped would
// end the program.
func TestKernelMemoryOfAForgottenReader(t *testing.T) {
	var cursor bpf.Cursor
	var packet bpf.Packet
	var data []byte
	for _, c := range []struct {
		name  string
		use   func(*testing.T, *bpf.Reader)
		first func() []byte // the first packet that the program got
	}{
		{"a Cursor", func(t *testing.T, r *bpf.Reader) {
			l, err := r.Lease(t.Context())
			require.NoError(t, err)
			cursor = l.Cursor()
		}, func() []byte {
			if !cursor.Next() {
				return nil
			}
			return cursor.Packet().Data()
		}},
		{"a Packet", func(t *testing.T, r *bpf.Reader) {
			l, err := r.Lease(t.Context())
			require.NoError(t, err)
			for packet = range l.Packets() {
				break
			}
		}, func() []byte { return packet.Data() }},
		{"data of ZeroCopyReadPacketData", func(t *testing.T, r *bpf.Reader) {
			var err error
			data, _, err = r.ZeroCopyReadPacketData()
			require.NoError(t, err)
		}, func() []byte { return data }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
				p := lab.NewPair(t, w)
				forgetOnKernel(t, p, mode, func(r *bpf.Reader) {
					_, err := findListed(p.A)
					require.NoError(t, err, "it is open")
					c.use(t, r)
				})
				require.NoError(t, lab.Until(func() (bool, error) {
					runtime.GC()
					_, err := findListed(p.A)
					return err != nil, nil
				}), "the descriptor is closed")
				assert.Equal(t, lab.Frame(64, 0), c.first())
			})
		})
	}
}
