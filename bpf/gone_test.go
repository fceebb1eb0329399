package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
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

// A reader that is awake anyway checks whether the interface is there. Otherwise the reader wakes
// up for that check alone. It then asks for packets only if there may be some.
func TestLookAtTheInterface(t *testing.T) {
	const packets = 100
	for name, c := range map[string]struct {
		mode             bpf.Mode
		gap              time.Duration // between packets; 0 is none of them
		waits, eachWait  int
		looks, eachExtra int // in ten seconds, and the system calls for one
	}{
		"lent, silence":     {bpf.ZeroCopy, 0, 14, 1, 14, 2},
		"buffered, silence": {bpf.Buffered, 0, 14, 1, 14, 3},
		"lent, packets":     {bpf.ZeroCopy, 100 * time.Millisecond, packets, 2, 15, 2},
		"buffered, packets": {bpf.Buffered, 100 * time.Millisecond, packets, 2, 15, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: c.mode, ReadTimeout: 20 * time.Millisecond})
				if c.gap > 0 {
					go func() {
						for i := range uint32(packets) {
							time.Sleep(c.gap) // in the time of the bubble
							w.em0.Receive(numbered(i, 64))
						}
					}()
				}
				require.NoError(t, w.r.SetReadDeadline(time.Now().Add(10*time.Second+time.Millisecond)))
				for {
					l, err := w.r.Lease(t.Context())
					if err != nil {
						require.ErrorIs(t, err, os.ErrDeadlineExceeded)
						break
					}
					for range l.Packets() {
					}
					require.NoError(t, l.Release())
				}
				s, err := w.r.Stats()
				require.NoError(t, err)
				if c.gap > 0 {
					assert.EqualValues(t, packets, s.Packets)
				}
				const over = 6 // the first wait, woken by SetReadDeadline, and the last, at the deadline
				assert.InDelta(t, c.waits, s.Waits, 2)
				assert.InDelta(t, c.waits*c.eachWait+c.looks*c.eachExtra, s.Syscalls, over)
			})
		})
	}
}

func TestInterfaceGone(t *testing.T) {
	for name, vanish := range map[string]func(*capture){
		"destroyed":             func(w *capture) { w.k.RemoveInterface("em0") },
		"moved to another vnet": func(w *capture) { w.em0.MoveAway() },
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})
				var gone time.Time
				go func() {
					time.Sleep(100 * time.Millisecond) // in the time of the bubble
					w.em0.Receive(numbered(7, 64))
					gone = time.Now()
					vanish(w)
				}()
				l, err := w.r.Lease(t.Context())
				require.NoError(t, err, "what is left comes first")
				for p := range l.Packets() {
					assert.EqualValues(t, 7, number(t, p.Data()))
				}
				require.NoError(t, l.Release())
				_, err = w.r.Lease(t.Context())
				assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
				assert.Less(t, time.Since(gone), time.Second)
				_, err = w.r.Lease(t.Context())
				assert.ErrorIs(t, err, bpf.ErrInterfaceGone, "it stays gone")
			})
		})
	}
}

// The reader is woken more often than it looks by itself: that must not put the look off.
func TestInterfaceGoneWhileOthersWakeTheReader(t *testing.T) {
	for _, every := range []time.Duration{30, 400, 600, 690} {
		t.Run(fmt.Sprintf("%d ms", every), func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout})
				over := make(chan struct{})
				var gone time.Time
				var others sync.WaitGroup
				others.Go(func() {
					time.Sleep(time.Millisecond) // in the time of the bubble
					gone = time.Now()
					w.k.RemoveInterface("em0")
					for {
						select {
						case <-over:
							return
						case <-time.After(every * time.Millisecond):
							w.r.SetReadDeadline(time.Time{})
						}
					}
				})
				_, err := w.r.Lease(t.Context())
				close(over)
				others.Wait()
				assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
				assert.LessOrEqual(t, time.Since(gone), 700*time.Millisecond)
			})
		})
	}
}

func TestRenameIsNotGone(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode})
		go func() {
			time.Sleep(2 * time.Second) // in the time of the bubble
			w.em0.Rename("wan0")
			time.Sleep(2 * time.Second) // in the time of the bubble
			w.em0.Receive(numbered(1, 64))
		}()
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.Release())
	})
}

// Where the kernel tells of interfaces, a reader says at once that its interface has gone, and an
// idle reader hardly wakes up to look.
func TestInterfaceGoneIsSaidAtOnceWithAWatch(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*capture)
		gone   bool
	}{
		"destroyed":             {func(w *capture) { w.em0.Remove() }, true},
		"moved to another vnet": {func(w *capture) { w.em0.MoveAway() }, true},
		"renamed":               {func(w *capture) { w.em0.Rename("wan0") }, false},
		"another comes":         {func(w *capture) { w.k.AddInterface("em1", zbuf.DLT_EN10MB) }, false},
		"renamed, and another has its name": {func(w *capture) {
			w.em0.Rename("wan0")
			w.k.AddInterface("em0", zbuf.DLT_EN10MB)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: 100 * time.Millisecond},
					bpftest.WithInterfaceWatch())
				var changed time.Time
				go func() {
					time.Sleep(time.Minute) // in the time of the bubble
					w.em0.Receive(numbered(7, 64))
					changed = time.Now()
					c.change(w)
					if !c.gone {
						time.Sleep(5 * time.Second) // in the time of the bubble
						w.em0.Receive(numbered(8, 64))
					}
				}()
				p, _, err := w.r.ReadPacket(t.Context())
				require.NoError(t, err, "what is left comes first")
				assert.EqualValues(t, 7, number(t, p))
				s, err := w.r.Stats()
				require.NoError(t, err)
				assert.LessOrEqual(t, s.Waits, uint64(10), "in a minute")
				p, _, err = w.r.ReadPacket(t.Context())
				if c.gone {
					require.ErrorIs(t, err, bpf.ErrInterfaceGone)
					assert.Less(t, time.Since(changed), 101*time.Millisecond, "the read timeout of what is left")
				} else {
					require.NoError(t, err)
					assert.EqualValues(t, 8, number(t, p))
				}
			})
		})
	}
}

// deaf is a kernel whose watch has no memory to tell of a change.
type deaf struct{ zbuf.System }

type deafBackend struct{ zbuf.Backend }

func (d deaf) Open() (zbuf.Backend, error) {
	b, err := d.System.Open()
	return deafBackend{b}, err
}

func (deafBackend) WatchInterfaces() bool { return true }

func TestAWatchThatTellsNothingIsNotTrustedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := bpftest.New(zerocopyOn(true))
		em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
		r, err := bpf.Open("em0", bpf.Config{System: deaf{k}})
		require.NoError(t, err)
		defer r.Close()
		var gone time.Time
		go func() {
			time.Sleep(time.Second) // in the time of the bubble
			gone = time.Now()
			em0.MoveAway()
		}()
		_, err = r.Lease(t.Context())
		require.ErrorIs(t, err, bpf.ErrInterfaceGone)
		assert.LessOrEqual(t, time.Since(gone), 12*time.Second)
	})
}

// Wherever the clock stands when the reader opens and when the interface goes, and whoever wakes
// the reader in between, it says so within 900 ms. With a watch it says so at once.
func TestInterfaceGoneIsSaidWithinASecond(t *testing.T) {
	rnd := rand.New(rand.NewPCG(lab.RandomSeed(t), 0))
	within := func(most time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(most))) }
	worst := time.Duration(0)
	for range 300 {
		mode := []bpf.Mode{bpf.ZeroCopy, bpf.Buffered}[rnd.IntN(2)]
		var watch []bpftest.Option
		if rnd.IntN(2) == 0 {
			watch = append(watch, bpftest.WithInterfaceWatch())
		}
		offset, alive := within(2*time.Second), within(3*time.Second)
		every := time.Millisecond + within(time.Second)
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(offset) // in the time of the bubble
			w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: bpf.NoTimeout}, watch...)
			var gone time.Time
			var others sync.WaitGroup
			over := make(chan struct{})
			others.Go(func() {
				time.Sleep(alive) // in the time of the bubble
				gone = time.Now()
				w.k.RemoveInterface("em0")
			})
			others.Go(func() {
				for {
					select {
					case <-over:
						return
					case <-time.After(every):
						w.r.SetReadDeadline(time.Time{})
					}
				}
			})
			_, err := w.r.Lease(t.Context())
			close(over)
			others.Wait()
			require.ErrorIs(t, err, bpf.ErrInterfaceGone)
			took := time.Since(gone)
			if len(watch) > 0 {
				require.Zero(t, took)
			} else {
				worst = max(worst, took)
			}
		})
	}
	assert.LessOrEqual(t, worst, 900*time.Millisecond)
	assert.Greater(t, worst, 500*time.Millisecond, "no look was far away")
}
