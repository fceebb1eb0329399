package bpf_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// releases are the model kernels that random use runs on. inFlight packets stay between the filter
// and the buffer for a while.
var releases = []struct {
	name     string
	features bpftest.Features
	inFlight bool
}{
	{"12", bpftest.Features{}, false},
	{"14", bpftest.Features{PadZero: true, WriteFilter: true, SetVLANPCP: true, VnetDetach: true, FilterInFlight: true}, false},
	{"14 in flight", bpftest.Features{PadZero: true, WriteFilter: true, SetVLANPCP: true, VnetDetach: true, FilterInFlight: true}, true},
	{"16", bpftest.Features{PadZero: true, WriteFilter: true, SetVLANPCP: true, VnetDetach: true, FilterInFlight: true, IfList: true, StickyFlags: true}, false},
}

// Every method of a Reader, in random order, from several goroutines, while packets come in bursts.
// For each packet the history says whether it must come, may have been discarded, or was dropped.
// Time is exact. ZBUF_SEEDS is how many seeds each mode and release runs.
func TestRandomUse(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 25
	}
	seeds = lab.Setting(t, "ZBUF_SEEDS", seeds)
	first := lab.RandomSeed(t)
	for _, release := range releases {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			t.Run(fmt.Sprintf("%s/%v", release.name, mode), func(t *testing.T) {
				var sum verdict
				for i := range uint64(seeds) {
					seed := first + i
					ok := t.Run("seed", func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							v := randomUse(t, rand.New(rand.NewPCG(seed, 0)), mode, release.features, release.inFlight)
							sum.sent += v.sent
							sum.delivered += v.delivered
							sum.discarded += v.discarded
							sum.dropped += v.dropped
							sum.filtered += v.filtered
							sum.operations += v.operations
						})
					})
					require.True(t, ok, "ZBUF_SEED=%d ZBUF_SEEDS=1", seed)
				}
				t.Logf("%d seeds from %d: %d packets sent, %d delivered, %d discarded by resets, %d dropped, "+
					"%d filtered, %d operations",
					seeds, first, sum.sent, sum.delivered, sum.discarded, sum.dropped, sum.filtered,
					sum.operations)
				require.NotZero(t, sum.delivered)
				require.NotZero(t, sum.discarded)
				require.NotZero(t, sum.filtered)
				if !release.inFlight {
					require.NotZero(t, sum.dropped)
				}
				lab.Report(t, lab.Cases, uint64(seeds))
				lab.Report(t, lab.Packets, uint64(sum.sent))
				lab.Report(t, lab.Operations, uint64(sum.operations))
				lab.Report(t, lab.Lost, 0)
			})
		}
	}
}

// randomUse is one run. Everything in it follows from rnd, but for the order in which goroutines
// that are awake at the same moment go on.
func randomUse(
	t *testing.T, rnd *rand.Rand, mode bpf.Mode, features bpftest.Features, inFlight bool,
) verdict {
	const flight = 3 * time.Millisecond
	timeouts := []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond}
	cfg := bpf.Config{
		Mode: mode, BufferSize: 4096, ReadTimeout: timeouts[rnd.IntN(len(timeouts))],
		Immediate: rnd.IntN(4) == 0, Filter: filterFor(0b1111),
	}
	opts := []bpftest.Option{bpftest.WithFeatures(features)}
	h := &history{timeout: cfg.ReadTimeout}
	if cfg.ReadTimeout == 0 {
		h.timeout = bpf.DefaultReadTimeout
	}
	if cfg.Immediate {
		h.timeout = 0
	}
	if rnd.IntN(2) == 0 { // what sticks in a buffer comes in pieces of a few packets
		defer bpf.SetCopySize(bpf.SetCopySize(704))
	}
	burst := 80 // of which 40 are more than a buffer
	if inFlight {
		// The kernel's counters can't tell which packet in flight was dropped, so none may be.
		opts = append(opts, bpftest.WithInFlight(4, flight, rnd.Uint64()))
		h.store, cfg.BufferSize, burst = flight, 64<<10, 12
	}
	if rnd.IntN(2) == 0 { // then the reader hardly looks by itself, which ends a wait too
		opts = append(opts, bpftest.WithInterfaceWatch())
	}
	w := newCapture(t, cfg, opts...)
	var came atomic.Int64 // interfaces
	began := time.Now()
	h.clock = func() time.Duration { return time.Since(began) }
	h.rules = []rule{{span{h.now(), h.now()}, 0b1111, bpf.InOut}}

	u := &user{
		t: t, r: w.r, h: h, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 1)), several: rnd.IntN(3) == 0,
		show: func(f []byte, out bool) error {
			w.em0.Inject(bpftest.Packet{Data: f, Out: out})
			return nil
		},
		fail: func(request string) { w.k.FailNext(request, 1, syscall.EINVAL) },
		// in the time of the bubble
		rest: func(rnd *rand.Rand) {
			if rnd.IntN(10) == 0 {
				w.k.AddInterface(fmt.Sprint("other", came.Add(1)), zbuf.DLT_EN10MB)
			}
			time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
		},
	}
	if !inFlight {
		u.counters = func() (counters, bool) {
			for _, x := range w.k.Stats() {
				return counters{x.Fcount, x.Dcount}, true
			}
			return counters{}, false // closed
		}
	}
	var others sync.WaitGroup
	over := make(chan struct{})
	stop := sync.OnceFunc(func() { close(over) })
	defer func() { // also when something has failed
		stop()
		w.r.Close()
		u.held.Wait()
		others.Wait()
	}()
	sender := rand.New(rand.NewPCG(rnd.Uint64(), 2))
	others.Go(func() { u.send(sender, burst, over) })
	resetter := rand.New(rand.NewPCG(rnd.Uint64(), 3))
	others.Go(func() { u.change(resetter, over) })
	watcher := rand.New(rand.NewPCG(rnd.Uint64(), 4))
	others.Go(func() { u.disturb(watcher, over) })

	var readers sync.WaitGroup
	if u.several {
		for n := range uint64(1 + rnd.IntN(3)) {
			own := rand.New(rand.NewPCG(rnd.Uint64(), 5+n))
			readers.Go(func() {
				for range 40 {
					u.readOnce(own)
				}
			})
		}
	}
	for range 40 + u.rnd.IntN(80) {
		u.readOnce(u.rnd)
	}
	readers.Wait()
	u.held.Wait()
	closeEarly := rnd.IntN(5) == 0
	if closeEarly {
		others.Go(func() {
			// in the time of the bubble
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
			assert.NoError(t, w.r.Close())
		})
		for u.readOnce(u.rnd) {
		}
	}
	stop()
	others.Wait()
	if !closeEarly {
		time.Sleep(h.arrive + h.store) // in the time of the bubble
		u.readToTheEnd()
		s, err := w.r.Stats()
		require.NoError(t, err)
		require.Equal(t, u.passed.Load(), s.Packets, "Stats counts what was passed")
	}
	v := h.judge(0, !closeEarly)
	require.Empty(t, v.wrong, "%+v", cfg)
	return v
}

// A user is the goroutines that use one Reader.
type user struct {
	t        *testing.T
	r        *bpf.Reader
	h        *history
	rnd      *rand.Rand
	show     func(frame []byte, out bool) error // to the interface
	counters func() (counters, bool)            // nil if they don't tell about one packet
	fail     func(request string)               // the next one; nil if none can be made to fail
	rest     func(*rand.Rand)                   // between two changes
	held     sync.WaitGroup                     // leases that are released later
	passed   atomic.Uint64                      // packets that iteration or reading has passed
	several  bool                               // goroutines read
}

// counters are the kernel's, of packets that passed the filter, and of those that found no room.
type counters struct{ matched, dropped uint64 }

// pause sleeps for any time, often none.
func pause(rnd *rand.Rand) {
	switch rnd.IntN(6) {
	case 0:
		time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
	case 1, 2:
		time.Sleep(time.Duration(rnd.IntN(8000)) * time.Microsecond)
	case 3:
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Microsecond)
	}
}

// send shows packets to the interface until over. It asks the kernel for the result of each, if it
// can.
func (u *user) send(rnd *rand.Rand, burst int, over <-chan struct{}) {
	for {
		n := 1 + rnd.IntN(5)
		if rnd.IntN(4) == 0 {
			n = 1 + rnd.IntN(burst)
		}
		for range n {
			p, f := u.h.frame(uint8(rnd.IntN(classCount)), rnd.IntN(3) == 0, frameMin+rnd.IntN(100))
			before, known := u.count()
			if !assert.NoError(u.t, u.show(f, p.out)) {
				return
			}
			after, still := u.count()
			u.h.mu.Lock()
			p.end = u.h.now()
			if known && still {
				p.matched, p.dropped = grown(before.matched, after.matched), grown(before.dropped,
					after.dropped)
			}
			u.h.mu.Unlock()
		}
		select {
		case <-over:
			return
		default:
			pause(rnd)
		}
	}
}

func (u *user) count() (counters, bool) {
	if u.counters == nil {
		return counters{}, false
	}
	return u.counters()
}

func grown(before, after uint64) verdictOf {
	switch after {
	case before:
		return no
	case before + 1:
		return yes
	}
	return notKnown
}

// change flushes, and sets filters and directions.
func (u *user) change(rnd *rand.Rand, over <-chan struct{}) {
	last := rule{classes: 0b1111, dir: bpf.InOut}
	for {
		select {
		case <-over:
			return
		default:
		}
		next, begin := last, u.h.moment()
		resets, fails := false, u.fail != nil && rnd.IntN(6) == 0
		var err error
		switch rnd.IntN(6) {
		case 0:
			resets = true
			u.failNext(fails, "BIOCFLUSH")
			err = u.r.Flush()
		case 1, 2:
			next.classes, resets = uint8(rnd.IntN(16))|1<<rnd.IntN(classCount), true
			u.willBe(next, begin, fails)
			u.failNext(fails, "BIOCSETF")
			err = u.setFilter(rnd, next.classes, true)
		case 3:
			next.classes = uint8(rnd.IntN(16)) | 1<<rnd.IntN(classCount)
			u.willBe(next, begin, fails)
			u.failNext(fails, "BIOCSETFNR")
			err = u.setFilter(rnd, next.classes, false)
		case 4:
			next.dir = bpf.Direction(rnd.IntN(3))
			u.willBe(next, begin, fails)
			u.failNext(fails, "BIOCSDIRECTION")
			err = u.r.SetDirection(next.dir)
		default:
			fails = false
		}
		end := u.h.moment()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err == nil:
			u.h.mu.Lock()
			if resets {
				u.h.resets = append(u.h.resets, span{begin, end})
			}
			u.h.rules[len(u.h.rules)-1].end = end
			u.h.mu.Unlock()
			last = next
		default:
			assert.ErrorIs(u.t, err, syscall.EINVAL)
		}
		pause(rnd)
		u.rest(rnd)
	}
}

// setFilter sets the filter for classes, as a program or as an expression.
func (u *user) setFilter(rnd *rand.Rand, classes uint8, flush bool) error {
	if rnd.IntN(2) == 0 {
		return u.r.SetFilter(filterFor(classes), flush)
	}
	var any []string
	for c := range classCount {
		if classes>>c&1 != 0 {
			any = append(any, fmt.Sprintf("link[%d] = %d", atClass, c))
		}
	}
	return u.r.SetExpression(strings.Join(any, " or "), flush)
}

// willBe enters a rule that a call is about to set. The call may fail.
func (u *user) willBe(next rule, begin moment, fails bool) {
	if fails {
		return
	}
	u.h.mu.Lock()
	defer u.h.mu.Unlock()
	next.begin, next.end = begin, moment{1 << 62, 1 << 62}
	u.h.rules = append(u.h.rules, next)
}

func (u *user) failNext(yes bool, request string) {
	if yes {
		u.fail(request)
	}
}

// disturb makes the calls that must change nothing.
func (u *user) disturb(rnd *rand.Rand, over <-chan struct{}) {
	var last bpf.Stats
	for {
		select {
		case <-over:
			return
		default:
		}
		switch rnd.IntN(4) {
		case 0:
			s, _ := u.r.Stats()
			assert.GreaterOrEqual(u.t, s.Packets, last.Packets)
			assert.GreaterOrEqual(u.t, s.Bytes, last.Bytes)
			last = s
		case 1:
			u.h.setDeadline(u.r, time.Duration(rnd.IntN(30))*time.Millisecond)
		case 2:
			u.h.setDeadline(u.r, -1)
		case 3:
			u.r.LinkTypes()
		}
		pause(rnd)
	}
}
