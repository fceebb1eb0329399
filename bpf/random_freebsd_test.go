package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// TestRandomUse on the kernel, in real time. ZBUF_SOAK sets its length, which is 8 s by default. A
// frame written to one end of a pair arrives at the other a while later. So the test does not count
// against the reader what happened at about that time. With the larger buffers nothing is dropped,
// and every other packet must come.
func TestKernelRandomUse(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		total := soakTime(t, 8*time.Second)
		sizes := []int{4096, 256 << 10}
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%dK", size>>10), func(t *testing.T) {
				kernelRandomUse(t, w, mode, size, total/time.Duration(len(sizes)))
			})
		}
	})
}

func kernelRandomUse(t *testing.T, w lab.World, mode bpf.Mode, size int, how time.Duration) {
	const timeout = 20 * time.Millisecond
	const wanted = 3 // resets at the least, however busy the machine is
	seed := lab.RandomSeed(t)
	if seed%2 == 0 { // what sticks in a buffer comes in pieces of a few packets
		defer bpf.SetCopySize(bpf.SetCopySize(704))
	}
	p := lab.NewPair(t, w)
	lag := lab.WatchLag(t)
	h := &history{timeout: timeout, arrive: 200 * time.Millisecond, clock: lag.Now}
	h.rules = []rule{{span{h.now(), h.now()}, 0b1111, bpf.InOut}}
	r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: size, ReadTimeout: timeout,
		Filter: filterFor(0b1111)})
	rnd := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	u := &user{
		t: t, r: r, h: h, rnd: rnd(1),
		show: func(f []byte, out bool) error {
			if out {
				return p.Post(p.B, f)
			}
			return p.Post(p.A, f)
		},
		// a rest of any length
		rest: func(rnd *rand.Rand) { time.Sleep(time.Duration(rnd.IntN(700)) * time.Millisecond) },
	}
	over := make(chan struct{})
	stop := sync.OnceFunc(func() { close(over) })
	var others sync.WaitGroup
	defer func() { // also when something has failed
		stop()
		u.held.Wait()
		others.Wait()
	}()
	others.Go(func() { u.send(rnd(2), 80, over) })
	others.Go(func() { u.change(rnd(3), over) })
	others.Go(func() { u.disturb(rnd(4), over) })
	enough := func() bool { return h.resetsSoFar() >= wanted && u.passed.Load() > 0 }
	for lag.Now() < how || !enough() && lag.Now() < how+lab.Patience {
		u.readOnce(u.rnd)
	}
	stop()
	others.Wait()
	require.NoError(t, p.SettleNow())
	u.readToTheEnd()
	s, err := r.Stats()
	require.NoError(t, err)
	assert.Equal(t, u.passed.Load(), s.Packets, "Stats counts what was passed")
	// A sleep that ends late makes both sending and delivering late. A packet that sticks comes when
	// the reader looks at the interface, up to 900 ms later.
	h.arrive += 2 * lag.Worst()
	h.slack = 2*lab.Slack + 4*lag.Worst()
	v := h.judge(s.Dropped, true)
	t.Logf("%d packets sent, %d delivered, %d discarded by resets, %d dropped, %d filtered, %d "+
		"operations; worst lag %v; %+v",
		v.sent, v.delivered, v.discarded, v.dropped, v.filtered, v.operations, lag.Worst(), s)
	assert.Empty(t, v.wrong)
	assert.NotZero(t, v.delivered)
	assert.GreaterOrEqual(t, h.resetsSoFar(), wanted)
	if size > 4096 {
		assert.Zero(t, s.Dropped)
	}
	lab.Report(t, lab.Packets, uint64(v.sent))
	lab.Report(t, lab.Operations, uint64(v.operations))
	lab.Report(t, lab.Lost, uint64(len(v.wrong)))
}
