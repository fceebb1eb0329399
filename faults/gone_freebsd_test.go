package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// The reader first delivers the packets that are left. ErrInterfaceGone comes within a second of
// the last release.
func TestInterfaceDestroyedAtRandomMoments(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		rng := seeded(t)
		lag := lab.WatchLag(t)
		before := wired(t)
		var took []lab.Span
		var sum tally
		moments := []string{"idle", "blocked", "a lease is out", "under load"}
		for i := range gone.n() {
			moment := moments[i%len(moments)]
			p, err := w.NewPair()
			require.NoError(t, err)
			cfg := bpf.Config{Mode: mode, BufferSize: 16 << 10, ReadTimeout: readTimeout}
			if rng.IntN(2) == 0 {
				cfg.ReadTimeout = bpf.NoTimeout
			}
			r := open(t, p.A, cfg)
			tr := &traffic{p: p, ended: make(chan error, 1)}
			require.NoError(t, tr.once(1+rng.IntN(batch)))
			destroyed := make(chan time.Duration, 1)
			destroy := func() {
				time.Sleep(upTo(rng, 20*time.Millisecond)) // the moment is what the test varies
				assert.NoError(t, w.Destroy(p.A))
				destroyed <- lag.Now()
			}
			hold := time.Duration(0)
			switch moment {
			case "idle":
				destroy()
			case "under load":
				go func() { tr.ended <- tr.run(time.Millisecond) }()
				fallthrough
			case "blocked":
				go destroy()
			case "a lease is out":
				hold = upTo(rng, 40*time.Millisecond)
				go destroy()
				r.SetReadDeadline(time.Now()) // what is there, at once
			}
			own := tally{}
			var last time.Duration // the last release
			for {
				var l bpf.Lease
				l, err = r.Lease(context.Background())
				if err != nil {
					break
				}
				r.SetReadDeadline(time.Time{})
				for pkt := range l.Packets() {
					own.take(pkt.Data())
				}
				require.NoError(t, l.Err())
				if hold > 0 {
					time.Sleep(hold) // the lease stays out for so long
				}
				for pkt := range l.Packets() { // still there
					require.NotEmpty(t, pkt.Data())
				}
				require.NoError(t, l.Release())
				last = lag.Now()
			}
			end := lag.Now()
			require.ErrorIs(t, err, bpf.ErrInterfaceGone, "%s, round %d", moment, i)
			from := max(<-destroyed, last)
			if moment == "under load" {
				tr.stop.Store(true)
				t.Logf("the traffic ended with: %v", <-tr.ended)
			}
			took = append(took, lab.Span{From: from, To: end})
			_, err = r.Lease(context.Background())
			require.ErrorIs(t, err, bpf.ErrInterfaceGone, "for ever")
			s, err := r.Stats()
			require.NoError(t, err)
			own.Received, own.Dropped = s.Received, s.Dropped
			own.Sent = own.Received // what was on the wire went with it
			require.Zero(t, own.lost(), "%s, round %d: %+v", moment, i, own)
			require.NotZero(t, own.Delivered)
			require.NoError(t, r.Close())
			p.Close()
			sum.Delivered += own.Delivered
			sum.Dropped += own.Dropped
			sum.Received += own.Received
			sum.Sent += own.Sent
			sum.Again += own.Again
			sum.Torn += own.Torn
		}
		requireNothingLost(t, sum)
		requireWiredBack(t, before)
		t.Log("from the last release, or the end of the interface, to ErrInterfaceGone:")
		worst := lag.RequireMost(t, took, time.Second)
		allowed := lag.Allow(time.Second)
		assert.Less(t, worst, allowed)
		lab.Report(t, lab.Faults, uint64(gone.n()))
		lab.Report(t, lab.Packets, sum.Delivered)
		lab.Report(t, lab.Lost, sum.lost())
	})
}
