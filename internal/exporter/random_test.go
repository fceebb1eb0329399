package exporter

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

// life is a made-up kernel in which listeners come, count and go at random.
type life struct {
	r       *rand.Rand
	onePID  bool // all listeners of a program look alike
	present []sysctl.Listener
	pids    int
	counted map[string]counts // of each program, at the looks
	at      map[int]counts    // by pid, at the latest look
}

func (f *life) step() {
	for range f.r.IntN(4) {
		switch n := len(f.present); {
		case n > 0 && f.r.IntN(2) == 0:
			i := f.r.IntN(n)
			f.present = append(f.present[:i:i], f.present[i+1:]...)
		case n < 8:
			program := f.r.IntN(3)
			f.pids++
			pid := f.pids
			if f.onePID {
				pid = program + 1
			}
			l := listener("abc"[program:][:1], pid, "em0", 0, 0, 0)
			f.present = append([]sysctl.Listener{l}, f.present...) // the kernel's order
		}
	}
	for i := range f.present {
		l := &f.present[i]
		n := f.r.Uint64N(5)
		l.Received += n
		if l.PID%2 == 0 {
			l.Matched += n
			l.Dropped += min(n, f.r.Uint64N(3))
		}
		if f.r.IntN(20) == 0 { // BIOCFLUSH
			l.Received, l.Matched, l.Dropped = 0, 0, 0
		}
	}
}

// looked books what a perfect exporter counts now, if it can tell all listeners apart.
func (f *life) looked() {
	for _, l := range f.present {
		was, now := f.at[l.PID], countsOf(l)
		if now.received < was.received || now.matched < was.matched || now.dropped < was.dropped {
			was = counts{}
		}
		sum := f.counted[l.Process]
		sum.add(counts{now.received - was.received, now.matched - was.matched,
			now.dropped - was.dropped})
		f.counted[l.Process], f.at[l.PID] = sum, now
	}
}

// rounds are fewer in short form.
func rounds() int {
	if testing.Short() {
		return 300
	}
	return 5000
}

func TestRandomLivesOfListeners(t *testing.T) {
	seed := lab.RandomSeed(t)
	for name, onePID := range map[string]bool{"of different pids": false, "of one pid": true} {
		t.Run(name, func(t *testing.T) {
			f := &life{r: rand.New(rand.NewPCG(seed, 1)), onePID: onePID, counted: map[string]counts{},
				at: map[int]counts{}}
			l := &list{}
			e := New(Config{Listeners: l.get})
			last := map[string]float64{}
			for round := range rounds() {
				f.step()
				l.set(append([]sysctl.Listener(nil), f.present...)...)
				now := look(t, e)
				f.looked()
				for key, was := range last {
					if strings.Contains(key, "_total{") {
						require.GreaterOrEqual(t, now[key], was, "round %d: %s", round, key)
					}
				}
				last = now
				if onePID {
					continue
				}
				for program, want := range f.counted {
					of := "{interface=em0,program=" + program + "}"
					got := counts{uint64(now["bpf_received_packets_total"+of]),
						uint64(now["bpf_matched_packets_total"+of]),
						uint64(now["bpf_dropped_packets_total"+of])}
					require.Equal(t, want, got, "round %d: %s", round, program)
				}
			}
			require.Len(t, combinations(last), 3)
		})
	}
}

// Where listeners look alike, the exporter may count too little. It never counts too much.
func TestListenersThatLookAlikeAreNotCountedTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(lab.RandomSeed(t), 2))
	for range 2000 {
		var old, now []sysctl.Listener
		var truth uint64
		for range r.IntN(5) { // listeners of the latest look, some of which are there now
			was := listener("a", 1, "em0", r.Uint64N(20), r.Uint64N(20), r.Uint64N(20))
			old = append(old, was)
			if r.IntN(3) > 0 {
				grown := counts{r.Uint64N(9), r.Uint64N(9), r.Uint64N(9)}
				truth += grown.sum()
				now = append(now, listener("a", 1, "em0", was.Received+grown.received,
					was.Matched+grown.matched, was.Dropped+grown.dropped))
			}
		}
		for range r.IntN(3) { // new ones come before them
			l := listener("a", 1, "em0", r.Uint64N(20), r.Uint64N(20), r.Uint64N(20))
			truth += countsOf(l).sum()
			now = append([]sysctl.Listener{l}, now...)
		}
		var entries []entry
		for _, l := range old {
			entries = append(entries, entry{Listener: l})
		}
		var sum uint64
		for _, g := range match(entries, now) {
			sum += g.sum()
		}
		require.LessOrEqual(t, sum, truth, "old %+v now %+v", old, now)
	}
}
