package faults

import (
	"context"
	"slices"
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
		var took []time.Duration
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
			destroyed := make(chan time.Time, 1)
			destroy := func() {
				time.Sleep(upTo(rng, 20*time.Millisecond)) // the moment is what the test varies
				assert.NoError(t, w.Destroy(p.A))
				destroyed <- time.Now()
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
			var last time.Time // the last release
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
				last = time.Now()
			}
			end := time.Now()
			require.ErrorIs(t, err, bpf.ErrInterfaceGone, "%s, round %d", moment, i)
			from := <-destroyed
			if last.After(from) {
				from = last
			}
			if moment == "under load" {
				tr.stop.Store(true)
				t.Logf("the traffic ended with: %v", <-tr.ended)
			}
			took = append(took, end.Sub(from))
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
		slices.Sort(took)
		median, worst := took[len(took)/2], took[len(took)-1]
		inTime, _ := slices.BinarySearch(took, time.Second)
		t.Logf("from the last release, or the end of the interface, to ErrInterfaceGone: median %v, "+
			"worst %v, %d of %d within a second, worst lag of the machine %v",
			median, worst, inTime, len(took), lag.Worst())
		assert.Less(t, median, time.Second, "whatever the machine's lag")
		allowed := lag.Allow(time.Second)
		assert.Less(t, worst, allowed)
		lab.Report(t, lab.Faults, uint64(gone.n()))
		lab.Report(t, lab.Packets, sum.Delivered)
		lab.Report(t, lab.Lost, sum.lost())
	})
}
