package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

func TestCloseAgainst(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, c := range []struct {
			what string
			run  func(*closing, *testing.T)
		}{
			{"a read that waits", (*closing).waiting},
			{"a read that gets packets", (*closing).reading},
			{"a lease", (*closing).leased},
			{"Close", (*closing).closed},
			{"everything else", (*closing).controlled},
		} {
			t.Run(c.what, func(t *testing.T) {
				p := lab.NewPair(t, w)
				one := &closing{p: p, lag: lab.WatchLag(t), rng: seeded(t),
					cfg: bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: readTimeout}}
				n := closes.n()
				for range n / 10 {
					c.run(one, t)
				}
				before := held(t)
				one.took = nil
				for range n {
					c.run(one, t)
				}
				requireFlat(t, before)
				requireNobodyLeft(t, p.A)
				t.Log("from Close to the end:")
				// By itself a reader would look up within 900 ms, 350 ms in the middle.
				worst := one.lag.RequireMost(t, one.took, 150*time.Millisecond)
				// munmap(2) waits for the other processor, which the host may starve
				allowed := one.lag.Allow(time.Second)
				assert.Less(t, worst, allowed)
				lab.Report(t, lab.Faults, uint64(n))
				lab.Report(t, lab.Packets, one.sum.Delivered)
				lab.Report(t, lab.Lost, one.sum.Torn)
			})
		}
	})
}

// closing is a loop in which readers are closed.
type closing struct {
	p    *lab.Pair
	cfg  bpf.Config
	rng  *rand.Rand
	lag  *lab.Lag
	took []lab.Span // from Close to the end of what it ended
	sent uint32
	sum  tally
}

func (c *closing) open(t *testing.T) *bpf.Reader {
	r, err := bpf.Open(c.p.A, c.cfg)
	require.NoError(t, err)
	return r
}

func (c *closing) inject(t *testing.T, n int) {
	for range n {
		require.NoError(t, c.p.Post(c.p.A, frame(c.sent)))
		c.sent++
	}
	c.p.Settle(t)
}

// chance returns the time until the next random moment. It is often 0.
func (c *closing) chance() time.Duration {
	if c.rng.IntN(3) == 0 {
		return 0
	}
	return upTo(c.rng, 3*time.Millisecond)
}

// close closes r and waits for what ends by it.
func (c *closing) close(t *testing.T, r *bpf.Reader, ended func()) {
	start := c.lag.Now()
	require.NoError(t, r.Close())
	ended()
	c.took = append(c.took, c.lag.Since(start))
}

func (c *closing) waiting(t *testing.T) {
	r := c.open(t)
	end := make(chan error, 1)
	go func() {
		_, err := r.Lease(context.Background())
		end <- err
	}()
	time.Sleep(c.chance()) // before it waits, or while
	c.close(t, r, func() { require.ErrorIs(t, <-end, os.ErrClosed) })
}

func (c *closing) reading(t *testing.T) {
	r := c.open(t)
	end := make(chan error, 1)
	sum := tally{next: c.sent}
	go func() {
		for {
			data, _, err := r.ZeroCopyReadPacketData()
			if err != nil {
				end <- err
				return
			}
			sum.take(data)
		}
	}()
	posted := make(chan error, 1)
	go func() { // most of it comes before Close, some after
		var err error
		for i := 0; i < batch && err == nil; i++ {
			if err = c.p.Post(c.p.A, frame(c.sent)); err == nil {
				c.sent++
			}
		}
		posted <- err
	}()
	time.Sleep(c.chance()) // the moment is what the test varies
	c.close(t, r, func() { require.ErrorIs(t, <-end, os.ErrClosed) })
	require.NoError(t, <-posted)
	c.p.Settle(t)
	require.Zero(t, sum.Torn+sum.Again)
	c.sum.Delivered += sum.Delivered
	c.sum.Torn += sum.Torn
}

// leased holds a lease while Close runs. The program can read its packets until the release, and
// gets no other lease.
func (c *closing) leased(t *testing.T) {
	r := c.open(t)
	first := c.sent
	c.inject(t, 1+c.rng.IntN(100))
	l, err := r.Lease(t.Context())
	require.NoError(t, err)
	look := func() (n uint64) {
		sum := tally{next: first}
		for p := range l.Packets() {
			sum.take(p.Data())
		}
		require.NoError(t, l.Err())
		require.Zero(t, sum.Torn+sum.Again)
		return sum.Delivered
	}
	n := look()
	require.NotZero(t, n)
	end := make(chan error, 1)
	var took lab.Span
	pause := c.chance()
	go func() {
		time.Sleep(pause) // the moment is what the test varies
		start := c.lag.Now()
		err := r.Close()
		took = c.lag.Since(start)
		end <- err
	}()
	for range 3 {
		require.Equal(t, n, look(), "while Close is under way")
	}
	require.NoError(t, <-end, "Close does not wait for the lease")
	c.took = append(c.took, took)
	c.inject(t, 10) // nothing of it comes
	require.Equal(t, n, look(), "after Close")
	_, err = r.Lease(t.Context())
	require.ErrorIs(t, err, os.ErrClosed)
	require.NoError(t, l.Release())
	require.ErrorIs(t, l.Release(), bpf.ErrReleased)
	_, err = r.Lease(t.Context())
	require.ErrorIs(t, err, os.ErrClosed)
	c.sum.Delivered += n
}

func (c *closing) closed(t *testing.T) {
	r := c.open(t)
	end := make(chan error, 4)
	go func() {
		_, err := r.Lease(context.Background())
		if errors.Is(err, os.ErrClosed) {
			err = nil
		}
		end <- err
	}()
	for range 3 {
		pause := c.chance()
		go func() {
			time.Sleep(pause) // the moment is what the test varies
			end <- r.Close()
		}()
	}
	time.Sleep(c.chance()) // the moment is what the test varies
	c.close(t, r, func() {
		for range cap(end) {
			require.NoError(t, <-end)
		}
	})
}

// controlled has the methods that may be called at any time called at that time.
func (c *closing) controlled(t *testing.T) {
	r := c.open(t)
	var others sync.WaitGroup
	for _, call := range []func() error{
		func() error { _, err := r.Stats(); return err },
		r.Flush,
		func() error { return r.SetFilter(nil, true) },
		func() error { return r.SetReadDeadline(time.Now().Add(time.Hour)) },
		func() error {
			return c.p.PostBy(c.p.B, func() error { _, err := r.Write(frame(0)); return err })
		},
		func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			l, err := r.Lease(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			if err == nil {
				err = l.Release()
			}
			return err
		},
	} {
		others.Go(func() {
			for {
				if err := call(); err != nil {
					assert.ErrorIs(t, err, os.ErrClosed)
					return
				}
			}
		})
	}
	time.Sleep(c.chance()) // the moment is what the test varies
	c.close(t, r, others.Wait)
}
