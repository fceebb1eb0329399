package fanout

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// Once the lists have grown to the longest lease, nothing is allocated, for packets or for leases.
func TestSpreadingAllocatesNothing(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
			em0 := k.AddInterface("em0", bpftest.DLT_EN10MB)
			r, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode, BufferSize: 64 << 10, ReadTimeout: bpf.NoTimeout})
			require.NoError(t, err)
			defer r.Close()
			frames := make([][]byte, 64)
			for i := range frames {
				frames[i] = make([]byte, 64)
				binary.BigEndian.PutUint16(frames[i][12:], etherIPv4)
				frames[i][14], frames[i][14+9], frames[i][14+15] = 0x45, protoUDP, byte(i)
			}
			fill := func(n int) {
				for i := range n {
					em0.Receive(frames[i%len(frames)])
				}
			}
			var handled atomic.Int64
			s, err := newSpreader(bpftest.DLT_EN10MB, Config{Workers: 3, Handle: func(_ int, packets []bpf.Packet) error {
				handled.Add(int64(len(packets)))
				return nil
			}})
			require.NoError(t, err)
			defer s.stop()
			ctx := context.Background()
			fill(2000) // both buffers are owned
			before := handled.Load()
			leases := 0
			allocs := testing.AllocsPerRun(200, func() {
				l, err := r.Lease(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.spread(l); err != nil {
					t.Fatal(err)
				}
				fill(720)
				leases++
			})
			assert.Zero(t, allocs)
			assert.Greater(t, handled.Load()-before, int64(leases*600))
		})
	}
}
