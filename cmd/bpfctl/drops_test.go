package main

import (
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// A burst that was too long for the buffers fits into those that are named.
func TestNamedBuffersHoldTheBurst(t *testing.T) {
	burst := func(size, packets, length int) (dropped uint64) {
		k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
		em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
		r, err := bpf.Open("em0", bpf.Config{Mode: bpf.ZeroCopy, System: k, BufferSize: size})
		require.NoError(t, err)
		defer r.Close()
		for i := range packets {
			em0.Receive(scenario.Frame(length, uint32(i)))
		}
		s, err := r.Stats()
		require.NoError(t, err)
		return s.Dropped
	}
	named := regexp.MustCompile(`^--bufsize (\S+) would`)
	for _, length := range []int{60, 64, 100, 333, 1514} {
		for _, packets := range []int{100, 101, 257, 1000} {
			dropped := burst(4096, packets, length)
			require.NotZero(t, dropped)
			m := named.FindStringSubmatch(buffersFor(4096, dropped, uint64(length), bpf.ZeroCopy))
			require.NotNil(t, m)
			var enough size
			require.NoError(t, enough.Set(m[1]))
			assert.Zero(t, burst(int(enough), packets, length), "%d packets of %d bytes in %v", packets,
				length, m[1])
		}
	}
}

// Drops are said within half a second while packets are captured, and within ten without. Looking
// for them hardly wakes up the reader of a quiet interface.
func TestDropsAreSaidInTime(t *testing.T) {
	for _, c := range []struct {
		what    string
		packets uint64 // captured in 100 ms
		within  time.Duration
		waits   int // of the reader, in a minute without drops
	}{
		{"packets come", 1, 500 * time.Millisecond, 120},
		{"quiet", 0, 10 * time.Second, 6},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := bpftest.New(bpftest.WithInterfaceWatch())
				em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
				r, err := bpf.Open("em0", bpf.Config{System: k, BufferSize: 4096})
				require.NoError(t, err)
				reading := make(chan error, 1)
				go func() { // waits for packets that do not come
					_, err := r.Lease(t.Context())
					reading <- err
				}()
				stuck, err := bpf.Open("em0", bpf.Config{System: k, BufferSize: 4096})
				require.NoError(t, err)
				var packets atomic.Uint64
				moving := time.NewTicker(100 * time.Millisecond)
				done := make(chan struct{})
				said := make(chan time.Time, 1)
				ended := make(chan struct{})
				go func() {
					for {
						select {
						case <-moving.C:
							packets.Add(c.packets)
						case <-done:
							return
						}
					}
				}()
				go func() {
					watchDrops([]*bpf.Reader{r, stuck}, packets.Load, func(string) { said <- time.Now() }, done)
					close(ended)
				}()
				before, err := r.Stats()
				require.NoError(t, err)
				time.Sleep(time.Minute + time.Second) // not a moment at which it looks
				after, err := r.Stats()
				require.NoError(t, err)
				assert.InDelta(t, c.waits, int(after.Waits-before.Waits), 8)
				require.NoError(t, r.Close())
				require.ErrorIs(t, <-reading, os.ErrClosed)

				for i := range uint32(1000) {
					em0.Receive(scenario.Frame(60, i))
				}
				began := time.Now()
				assert.LessOrEqual(t, (<-said).Sub(began), c.within)
				close(done)
				<-ended
				require.NoError(t, stuck.Close())
			})
		})
	}
}

// The buffers that are named hold what the old ones held and what was dropped.
func TestBuffersForWhatWasDropped(t *testing.T) {
	for _, c := range []struct {
		size          int
		dropped, mean uint64
		mode          bpf.Mode
		want          string
	}{
		{4096, 1, 64, bpf.ZeroCopy, "--bufsize 8K would have held them"},
		{512 << 10, 10_000, 100, bpf.ZeroCopy, "--bufsize 2M would have held them"},
		{1000, 20, 68, bpf.ZeroCopy, "--bufsize 2K would have held them"},
		{512 << 10, 100_000, 1500, bpf.ZeroCopy, "buffers of 128 MiB would have held them, and the " +
			"kernel takes at most "},
		{512 << 10, 10_000, 100, bpf.Buffered, "--bufsize 2M would have held them, with the sysctl " +
			"net.bpf.maxbufsize at least 2097152"},
		{512 << 10, 1 << 20, 1000, bpf.Buffered, "--bufsize 1024M would have held them, with the " +
			"sysctl net.bpf.maxbufsize at least 1073741824"},
		{512 << 10, 3 << 20, 1500, bpf.Buffered, "buffers of 4096 MiB would have held them, and " +
			"--bufsize takes less than 2G: write to a faster disk, or capture less with an " +
			"expression or --snaplen"},
	} {
		got := buffersFor(c.size, c.dropped, c.mean, c.mode)
		assert.Contains(t, got, c.want)
		if text, found := strings.CutPrefix(got, "--bufsize "); found {
			text, _, _ = strings.Cut(text, " ")
			var s size
			assert.NoError(t, s.Set(text), "bpfctl takes what it names")
		}
	}
}
