package bpf_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

func TestKernelClose(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		lag := lab.WatchLag(t)
		var took []lab.Span
		for range 20 {
			r := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})
			woken := make(chan error, 1)
			go func() {
				_, err := r.Lease(context.Background())
				woken <- err
			}()
			require.NoError(t, lab.Until(func() (bool, error) {
				s, err := r.Stats()
				return s.Waits > 0, err
			}))
			start := lag.Now()
			require.NoError(t, r.Close())
			require.ErrorIs(t, <-woken, os.ErrClosed)
			took = append(took, lag.Since(start))
		}
		// The reader would notice by itself within 900 ms, 350 ms in the middle: this is not that.
		lag.RequireMost(t, took, 150*time.Millisecond)

		r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10,
			ReadTimeout: 10 * time.Millisecond})
		p.Inject(t, numbered(1, 64))
		l, err := r.Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, r.Close())
		for pkt := range l.Packets() {
			assert.EqualValues(t, 1, number(t, pkt.Data()))
		}
		require.NoError(t, l.Release())
	})
}

func TestKernelInterfaceGone(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, how := range []string{"destroyed", "moved to another vnet"} {
			for _, when := range []string{"idle", "blocked", "leased"} {
				t.Run(how+" while "+when, func(t *testing.T) {
					p := lab.NewPair(t, w)
					lag := lab.WatchLag(t)
					r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: bpf.NoTimeout})
					gone := make(chan time.Duration, 1)
					vanish := func() {
						defer func() { gone <- lag.Now() }()
						if how == "destroyed" {
							assert.NoError(t, w.Destroy(p.A))
							return
						}
						back, err := w.Leave(p.A)
						if assert.NoError(t, err) {
							t.Cleanup(func() { back() })
						}
					}
					var leased bpf.Lease
					p.Inject(t, numbered(1, 64))
					switch when {
					case "idle":
						vanish()
					case "leased":
						r.SetReadDeadline(time.Now())
						l, err := r.Lease(t.Context())
						require.NoError(t, err)
						leased = l
						r.SetReadDeadline(time.Time{})
						p.Inject(t, numbered(2, 64))
						vanish()
						for pkt := range leased.Packets() {
							assert.EqualValues(t, 1, number(t, pkt.Data()))
						}
						require.NoError(t, leased.Release())
					case "blocked":
						waits := func() uint64 { s, _ := r.Stats(); return s.Waits }
						before := waits()
						go func() {
							lab.Until(func() (bool, error) { return waits() > before, nil })
							vanish()
						}()
					}
					left := 0
					released := lag.Now()
					for {
						l, err := r.Lease(t.Context())
						if err != nil {
							require.ErrorIs(t, err, bpf.ErrInterfaceGone)
							break
						}
						for pkt := range l.Packets() {
							number(t, pkt.Data())
							left++
						}
						require.NoError(t, l.Release())
						released = lag.Now()
					}
					said := lag.Now()
					assert.Equal(t, 1, left, "what is left comes first")
					// To make another vnet takes long. The reader may look at the interface before it is gone, and
					// then deliver what sticks.
					took := []lab.Span{{From: max(released, <-gone), To: said}}
					assert.Empty(t, lag.Late(took, time.Second))
				})
			}
		}
	})
}

func TestKernelRenameIsNotGone(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond})
		require.NoError(t, w.Rename(p.A, "wan0"))
		defer w.Rename("wan0", p.A)
		r.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
		_, err := r.Lease(t.Context())
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, p.Post(p.A, numbered(5, 64)))
		r.SetReadDeadline(time.Time{})
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 5, number(t, data))
	})
}
