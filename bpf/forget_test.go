package bpf

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// Memory that was unmapped may become somebody else's. A closed Reader has no pointer to it.
func TestClosedReaderRefersToNoMemory(t *testing.T) {
	for _, mode := range []Mode{ZeroCopy, Buffered} {
		for _, when := range []string{"idle", "a lease was out", "a packet was copied",
			"a packet was handed out"} {
			t.Run(mode.String()+"/"+when, func(t *testing.T) {
				k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
				em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
				r, err := Open("em0", Config{System: k, Mode: mode, BufferSize: 4096})
				require.NoError(t, err)
				for range 100 {
					em0.Receive(make([]byte, 64))
				}
				var l Lease
				switch when {
				case "a lease was out":
					l, err = r.Lease(t.Context())
				case "a packet was copied":
					_, _, err = r.ReadPacket(t.Context())
				case "a packet was handed out":
					_, _, err = r.ZeroCopyReadPacketData()
				}
				require.NoError(t, err)
				require.NoError(t, r.Close())
				switch when {
				case "a lease was out":
					require.NoError(t, l.Release())
				case "a packet was handed out":
					_, _, err = r.ZeroCopyReadPacketData()
					require.ErrorIs(t, err, errClosed)
				}
				assert.Zero(t, k.MappedBytes())
				assert.Equal(t, batch{}, r.current)
				assert.Zero(t, r.at)
				switch e := r.eng.(type) {
				case *lent:
					assert.Nil(t, e.copies)
					assert.Equal(t, [2]*zbuf.Buffer{}, e.buf)
				case *buffered:
					assert.Nil(t, e.mapping)
					assert.Nil(t, e.buf)
				}
				_, err = r.Stats()
				assert.ErrorIs(t, err, os.ErrClosed, "statistics are still to be had")
			})
		}
	}
}

// Close comes while a reading method copies a packet. Nobody reads afterwards, so that method gives
// the memory back.
func TestCloseDuringACopy(t *testing.T) {
	for _, mode := range []Mode{ZeroCopy, Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			r, err := Open("em0", Config{System: k, Mode: mode, BufferSize: 4096, Immediate: true})
			require.NoError(t, err)
			for range 100 {
				em0.Receive(make([]byte, 64))
			}
			for range 2 { // the first packet of a batch, and another one
				p, s, err := r.nextPacket(t.Context())
				require.NoError(t, err)
				require.Len(t, p.Data(), 64)
				if packets, _ := s.counts(); packets == 2 {
					require.NoError(t, r.Close())
					require.Equal(t, mode == ZeroCopy, k.MappedBytes() > 0, "the packet is still there")
				}
				r.state.store(s.in(stateCopied))
				r.copied()
			}
			assert.Zero(t, k.MappedBytes())
			assert.Equal(t, batch{}, r.current)
			st, err := r.Stats()
			assert.ErrorIs(t, err, os.ErrClosed)
			assert.EqualValues(t, 2, st.Packets)
		})
	}
}
