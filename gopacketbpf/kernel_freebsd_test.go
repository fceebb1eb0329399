package gopacketbpf_test

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/gopacketbpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// onKernel runs f on the running kernel, in each buffer mode that it has.
func onKernel(t *testing.T, f func(t *testing.T, w lab.World, mode bpf.Mode)) {
	lab.InModes(t, bpf.ZeroCopy, bpf.Buffered, f)
}

func openOn(
	t *testing.T, ctx context.Context, iface string, cfg bpf.Config,
) (*gopacketbpf.Handle, *bpf.Reader) {
	t.Helper()
	cfg.Guard = cfg.Guard || os.Getenv("ZBUF_GUARD") != ""
	r, err := bpf.Open(iface, cfg)
	require.NoError(t, err)
	h := gopacketbpf.New(ctx, r)
	t.Cleanup(func() { h.Close() })
	return h, r
}

// Both kinds of PacketSource get every packet, whole, with its CaptureInfo.
func TestKernelPacketSource(t *testing.T) {
	const count = 500
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for name, source := range sources {
			t.Run(name, func(t *testing.T) {
				p := lab.NewPair(t, w)
				h, _ := openOn(t, t.Context(), p.A, bpf.Config{Mode: mode, SnapLen: 400,
					ReadTimeout: 20 * time.Millisecond})
				iface, err := net.InterfaceByName(p.A)
				require.NoError(t, err)
				length := func(n int) int { return 60 + n%900 }
				start := time.Now()
				for n := range count {
					require.NoError(t, p.Post(p.A, numbered(uint32(n), length(n))))
				}
				p.Settle(t)
				packets := source(h).Packets()
				for n := range count {
					pkt, open := <-packets
					require.True(t, open)
					data, ci := pkt.Data(), pkt.Metadata().CaptureInfo
					require.Equal(t, numbered(uint32(n), length(n))[:min(length(n), 400)], data)
					require.Equal(t, len(data), ci.CaptureLength)
					require.Equal(t, length(n), ci.Length)
					require.Equal(t, length(n) > 400, pkt.Metadata().Truncated)
					require.Equal(t, iface.Index, ci.InterfaceIndex)
					require.WithinDuration(t, start, ci.Timestamp, time.Since(start)+time.Second)
				}
				s, err := h.Stats()
				require.NoError(t, err)
				assert.EqualValues(t, count, s.Packets)
				assert.Zero(t, s.Dropped)
				require.NoError(t, h.Close())
				_, open := <-packets
				assert.False(t, open)
				assert.ErrorIs(t, h.Err(), os.ErrClosed)
			})
		}
	})
}

// The channel of Packets ends, and Err says why, after every packet that was captured before.
func TestKernelPacketsEnds(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, e := range []struct {
			name string
			end  func(p *lab.Pair, h *gopacketbpf.Handle, cancel context.CancelFunc) error
			want error
		}{
			{"Close", func(_ *lab.Pair, h *gopacketbpf.Handle, _ context.CancelFunc) error {
				return h.Close()
			}, os.ErrClosed},
			{"interface destroyed", func(p *lab.Pair, _ *gopacketbpf.Handle, _ context.CancelFunc) error {
				return w.Destroy(p.A)
			}, bpf.ErrInterfaceGone},
			{"interface moved", func(p *lab.Pair, _ *gopacketbpf.Handle, _ context.CancelFunc) error {
				back, err := w.Leave(p.A)
				if err == nil {
					t.Cleanup(func() { back() })
				}
				return err
			}, bpf.ErrInterfaceGone},
			{"context done", func(_ *lab.Pair, _ *gopacketbpf.Handle, cancel context.CancelFunc) error {
				cancel()
				return nil
			}, context.Canceled},
		} {
			t.Run(e.name, func(t *testing.T) {
				p := lab.NewPair(t, w)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h, r := openOn(t, ctx, p.A, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond})
				packets := sources["zero-copy PacketSource"](h).Packets()
				before, err := r.Stats()
				require.NoError(t, err)
				p.Inject(t, numbered(1, 60))
				pkt, open := <-packets
				require.True(t, open)
				assert.EqualValues(t, 1, number(pkt.Data()))
				require.NoError(t, lab.Until(func() (bool, error) { // it waits
					s, err := r.Stats()
					return s.Waits > before.Waits, err
				}))
				require.NoError(t, e.end(p, h, cancel))
				select {
				case _, open = <-packets:
					assert.False(t, open)
				case <-time.After(lab.Patience):
					require.Fail(t, "the channel stays open")
				}
				assert.ErrorIs(t, h.Err(), e.want)
				_, _, err = h.ReadPacketData()
				assert.Equal(t, io.EOF, err)
			})
		}
	})
}

// Filters and writing go through to the kernel.
func TestKernelFilterAndWrite(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		a, _ := openOn(t, t.Context(), p.A, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond,
			HeaderComplete: true})
		b, _ := openOn(t, t.Context(), p.B, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond,
			Promiscuous: true, Expression: "ether proto 0x88b5"})
		require.NoError(t, p.PostBy(p.B, func() error { return a.WritePacketData(numbered(1, 60)) }))
		data, _, err := b.ReadPacketData()
		require.NoError(t, err)
		assert.Equal(t, numbered(1, 60), data)
		// The kernel counts a packet before it has put it into the buffer. So the reader's counters do
		// not tell that the packet is there, and the pair's do.
		require.NoError(t, p.PostBy(p.B, func() error { return a.WritePacketData(numbered(2, 60)) }))
		p.Settle(t)
		require.NoError(t, b.SetBPFFilter("greater 100"))
		require.NoError(t, a.WritePacketData(numbered(3, 60)))
		require.NoError(t, a.WritePacketData(numbered(4, 120)))
		data, _, err = b.ReadPacketData()
		require.NoError(t, err)
		assert.Equal(t, numbered(4, 120), data)
	})
}

// A tunnel of the kernel has DLT_NULL, which gopacket decodes as the host's byte order has it.
func TestKernelLinkTypeOfATunnel(t *testing.T) {
	w := lab.OnKernel(t)
	name, remove, err := w.NewTunnel()
	require.NoError(t, err)
	t.Cleanup(func() { remove() })
	h, _ := openOn(t, t.Context(), name, bpf.Config{Mode: bpf.Buffered, Immediate: true})
	assert.Equal(t, layers.LinkType(zbuf.DLT_NULL), h.LinkType())
	require.NoError(t, h.WritePacketData(append([]byte{2, 0, 0, 0}, ipv4...)))
	p, err := sources["PacketSource"](h).NextPacket()
	require.NoError(t, err)
	assert.NotNil(t, p.Layer(layers.LayerTypeIPv4), "%v", p)
}
