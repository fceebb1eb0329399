package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

// soakTime is ZBUF_SOAK, how long a soak takes in each mode.
func soakTime(t *testing.T, short time.Duration) time.Duration {
	s := os.Getenv("ZBUF_SOAK")
	switch {
	case s == "" && testing.Short():
		return short / 2
	case s == "":
		return short
	}
	d, err := time.ParseDuration(s)
	require.NoError(t, err, "ZBUF_SOAK")
	return d
}

// listed returns the entry of net.bpf.stats for the reader on an interface. To look there is no
// request on the descriptor.
func listed(t *testing.T, ifname string) sysctl.Listener {
	x, err := findListed(ifname)
	require.NoError(t, err)
	return x
}

func findListed(ifname string) (sysctl.Listener, error) {
	list, err := sysctl.Host().BPF().Stats()
	if err != nil {
		return sysctl.Listener{}, err
	}
	for _, x := range list {
		if x.Interface == ifname && !x.HeaderComplete { // the pair's own write headers as they are
			return x, nil
		}
	}
	return sysctl.Listener{}, fmt.Errorf("no reader on %s: %+v", ifname, list)
}

// Numbered packets in bursts with pauses, as on the model: ZBUF_SOAK is how long, 8 s by default.
func TestKernelNumberedPacketsWithPauses(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		total := soakTime(t, 8*time.Second)
		sizes := []int{4096, 16 << 10, 256 << 10}
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%dK", size>>10), func(t *testing.T) {
				kernelSoak(t, w, mode, size, total/time.Duration(len(sizes)))
			})
		}
	})
}

func kernelSoak(t *testing.T, w lab.World, mode bpf.Mode, size int, how time.Duration) {
	const timeout = 30 * time.Millisecond
	p := lab.NewPair(t, w)
	lag := lab.WatchLag(t)
	r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: size, ReadTimeout: timeout})
	seed := lab.RandomSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := newSealer(rnd, 0)
	var l ledger
	// through waits, in silence, until all that has arrived is delivered or dropped: a tail that
	// sticks shows.
	through := func() error {
		return lab.Until(func() (bool, error) {
			time.Sleep(2 * time.Millisecond) // looking is not silent: the kernel takes bpf's lock for it
			x, err := findListed(p.A)
			return err == nil && l.delivered.Load()+x.Dropped >= x.Matched, err
		})
	}
	var written sync.WaitGroup
	written.Go(func() {
		defer r.SetReadDeadline(time.Now()) // long past by then
		for lag.Now() < how {
			burst := 1 + rnd.IntN(12)
			if rnd.IntN(3) == 0 {
				burst = 1 + rnd.IntN(400)
			}
			for range burst {
				length := sealMin + rnd.IntN(300)
				if !assert.NoError(t, p.Post(p.A, s.seal(lag.Now(), length))) {
					return
				}
				s.sent++
			}
			pause := rnd.IntN(5)
			switch rnd.IntN(8) {
			case 0:
				pause = rnd.IntN(80)
			case 1:
				if !assert.NoError(t, through(), "a tail is stuck") {
					return
				}
			}
			time.Sleep(time.Duration(pause) * time.Millisecond) // a pause of any length
			if rnd.IntN(20) == 0 {
				r.Stats()
			}
		}
		assert.NoError(t, p.SettleNow())
	})
	reader := rand.New(rand.NewPCG(seed, 1))
	err := l.read(t.Context(), r, lag, timeout, func(leased bool) {
		if reader.IntN(40) == 0 {
			time.Sleep(time.Duration(reader.IntN(60)) * time.Millisecond) // a pause of any length
		}
	})
	require.NoError(t, err)
	written.Wait()
	stats, err := r.Stats()
	require.NoError(t, err)
	x := listed(t, p.A)
	late := lag.Late(l.slow, timeout+lab.Slack)
	t.Logf("sent %d, %d matched = %d delivered + %d dropped; worst delay %v, worst lag of the "+
		"machine %v, %+v",
		s.sent, x.Matched, l.delivered.Load(), x.Dropped, l.worst, lag.Worst(), stats)
	assert.EqualValues(t, x.Matched, l.delivered.Load()+x.Dropped)
	assert.EqualValues(t, x.Matched, stats.Received)
	assert.EqualValues(t, x.Dropped, stats.Dropped)
	assert.EqualValues(t, s.sent, stats.Received)
	assert.Empty(t, late, "late deliveries")
	lab.Report(t, lab.Packets, x.Matched)
	lab.Report(t, lab.Lost, x.Matched-l.delivered.Load()-x.Dropped+uint64(len(late)))
}

// A storm in the kernel with two numbered writers on top of it, in bursts: whenever it is at rest,
// matched = delivered + dropped + still buffered. ZBUF_SOAK is how long it storms in each mode, 6 s
// by default.
func TestKernelOverload(t *testing.T) {
	lab.WantStorm(t)
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		total := soakTime(t, 6*time.Second)
		sizes := []int{16 << 10, 256 << 10}
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%dK", size>>10), func(t *testing.T) {
				kernelOverload(t, w, mode, size, total/time.Duration(len(sizes)))
			})
		}
	})
}

func kernelOverload(t *testing.T, w lab.World, mode bpf.Mode, size int, how time.Duration) {
	const timeout = 30 * time.Millisecond
	storm, err := lab.NewStorm()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, storm.Close()) })
	lag := lab.WatchLag(t)
	seed := lab.RandomSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	r, err := bpf.Open(storm.Ifname, bpf.Config{Mode: mode, BufferSize: size, ReadTimeout: timeout,
		Direction: bpf.In})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })

	// The reader is slow, for as long as it takes to fill both buffers now and then, and stops for
	// good when it is told to, with a lease or without.
	var quiet atomic.Int64
	l := ledger{other: lab.StormFrame(), quiet: &quiet}
	var halt atomic.Int32 // 0 go on, 1 stop with a lease, 2 stop without
	var hold atomic.Bool  // pause until both buffers are full
	stopped, resume := make(chan struct{}), make(chan struct{})
	reader := rand.New(rand.NewPCG(seed, 1))
	done := make(chan error, 1)
	go func() {
		done <- l.read(t.Context(), r, lag, timeout, func(leased bool) {
			if h := halt.Load(); h == 1 && leased || h == 2 && !leased {
				stopped <- struct{}{}
				<-resume
			} else if h == 0 && quiet.Load() == 0 && reader.IntN(8) == 0 {
				// a pause of any length
				time.Sleep(time.Duration(reader.IntN(20*size>>14)) * time.Millisecond)
				lab.Until(func() (bool, error) { return !hold.Load(), nil })
			}
		})
	}()

	writers := make([]*sealer, len(l.writers))
	feeders := make([]*lab.Feeder, len(writers))
	for i := range writers {
		writers[i] = newSealer(rand.New(rand.NewPCG(seed, uint64(2+i))), i)
		copy(writers[i].to[:], storm.Sink)
		feeders[i], err = storm.NewFeeder()
		require.NoError(t, err)
		t.Cleanup(func() { feeders[i].Close() })
	}
	var buffered, dropped, rounds uint64
	// A storm may leave the reader no time at all for seconds: then it takes a round more.
	enough := func() bool { return buffered > 0 && dropped > 0 }
	for stormed := time.Duration(0); stormed < how || !enough() && stormed < how+2*lab.Patience; {
		// It may leave the writers none either. So each writes once before it, while there is room.
		require.NoError(t, storm.Ready())
		write := func(i int) error {
			s := writers[i]
			err := feeders[i].Write(s.seal(lag.Now(), sealMin+s.rng.IntN(200)))
			if err == nil {
				s.sent++
			}
			return err
		}
		for i := range writers {
			require.NoError(t, write(i))
		}
		began := lag.Now()
		require.NoError(t, storm.Start())
		var silent atomic.Bool
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				for !silent.Load() && assert.NoError(t, write(i)) {
				}
			})
		}
		if stormed < how || dropped > 0 {
			time.Sleep(time.Duration(200+rng.IntN(1000)) * time.Millisecond) // a pause of any length
		} else { // the storm is too weak for pauses of milliseconds
			hold.Store(true)
			lab.Until(func() (bool, error) { return listed(t, storm.Ifname).Dropped > 0, nil })
			hold.Store(false)
		}
		halt.Store(int32(1 + rng.IntN(2)))
		select {
		case <-stopped:
		case err := <-done:
			require.NoError(t, err, "the reader has ended")
		}
		silent.Store(true)
		all.Wait()
		require.NoError(t, storm.Stop())
		stormed += lag.Now() - began

		// At rest when a while brings nothing more.
		x := listed(t, storm.Ifname)
		for since := time.Now(); time.Since(since) < 250*time.Millisecond; {
			time.Sleep(10 * time.Millisecond) // then it looks again
			if now := listed(t, storm.Ifname); now.Matched != x.Matched {
				x, since = now, time.Now()
			}
		}
		before := l.delivered.Load()
		due := x.Matched - x.Dropped
		require.LessOrEqual(t, before, due, "more than there was: %+v", x)
		quiet.Store(int64(lag.Now()))
		halt.Store(0)
		resume <- struct{}{}
		require.NoError(t, lab.Until(func() (bool, error) {
			return len(done) > 0 || l.delivered.Load() >= due, nil
		}), "a tail is stuck")
		now := listed(t, storm.Ifname)
		require.Equal(t, x.Matched, now.Matched, "it was at rest")
		require.Equal(t, x.Dropped, now.Dropped, "it was at rest")
		require.Equal(t, due, l.delivered.Load(), "matched %d = delivered %d + dropped %d + "+
			"still buffered", x.Matched, before, x.Dropped)
		quiet.Store(0)
		buffered += due - before
		dropped = x.Dropped
		rounds++
	}
	r.SetReadDeadline(time.Now())
	require.NoError(t, <-done)
	x := listed(t, storm.Ifname)
	require.Equal(t, x.Matched, l.delivered.Load()+x.Dropped, "nothing came afterwards")
	require.NotZero(t, x.Dropped, "it was no overload")
	require.NotZero(t, buffered, "nothing was ever still buffered at rest")
	for i, s := range writers {
		require.LessOrEqual(t, l.writers[i].next, s.sent)
		require.NotZero(t, l.writers[i].next, "no frame of writer %d came", i)
	}
	late := lag.Late(l.slow, timeout+lab.Slack)
	t.Logf("%d matched = %d delivered (%d of %d numbered ones) + %d dropped; at rest %d times, %d "+
		"buffered then; worst delay %v, worst lag of the machine %v",
		x.Matched, l.delivered.Load(), l.numbered, writers[0].sent+writers[1].sent, x.Dropped, rounds,
		buffered, l.worst, lag.Worst())
	assert.Empty(t, late, "late deliveries")
	lab.Report(t, lab.Packets, x.Matched)
	lab.Report(t, lab.Lost, x.Matched-l.delivered.Load()-x.Dropped+uint64(len(late)))
}
