package sink

import (
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/compression"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// Each packet is in one file, in order, and each file is whole, whatever the rules are and whenever
// packets, flushes, signals and full disks come. ZBUF_SEEDS is the number of seeds, and
// ZBUF_SEED is one alone.
func TestRandomRotation(t *testing.T) {
	seeds := uint64(2000)
	if testing.Short() {
		seeds = 100
	}
	seeds = lab.Setting(t, "ZBUF_SEEDS", seeds)
	seen := map[string]int{}
	first, last := uint64(1), seeds
	if one := lab.Setting(t, "ZBUF_SEED", uint64(0)); one != 0 {
		first, last = one, one
	}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("ZBUF_SEED=%d", seed)
				}
			}()
			randomRotation(t, seed, seen)
		})
	}
	t.Log(seen)
	if first != last {
		for _, what := range []string{"full", "full and dropped", "ring", "gzip", "signals", "clock",
			"empty files", "by packets"} {
			require.NotZero(t, seen[what], "no seed tried: %s", what)
		}
	}
}

func randomRotation(t *testing.T, seed uint64, seen map[string]int) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	oneIn := func(n int) bool { return rnd.IntN(n) == 0 }
	rules := Rotation{Name: "out.pcapng", Naming: Naming(rnd.IntN(2))}
	for rules.Size == 0 && rules.Packets == 0 && rules.Every == 0 {
		if oneIn(2) {
			rules.Size = int64(300 + rnd.IntN(4000))
		}
		if oneIn(3) {
			rules.Packets = uint64(1 + rnd.IntN(20))
		}
		if oneIn(3) {
			rules.Every = []time.Duration{time.Second, 10 * time.Second, time.Minute}[rnd.IntN(3)]
		}
	}
	spec := Spec{Format: Pcapng}
	if oneIn(4) {
		spec.Compression, rules.Name = compression.Gzip, "out.pcapng.gz"
	}
	in := newMemory()
	if oneIn(3) {
		in.room.Store(3000 + rnd.Int64N(20000))
		rules.DropOldest = oneIn(2)
	}
	if oneIn(3) {
		rules.KeepFiles = 2 + rnd.IntN(6)
	}
	if oneIn(4) && rules.Size > 0 {
		rules.KeepBytes = rules.Size * int64(2+rnd.IntN(4))
	}
	rules.ByPackets = oneIn(5)

	s := &paced{length: func(int) int { return 20 + rnd.IntN(200) }}
	for range 1 + rnd.IntN(300) {
		pause := time.Duration(0)
		if oneIn(2) {
			pause = time.Duration(rnd.ExpFloat64() * float64(500*time.Millisecond))
		}
		s.pauses = append(s.pauses, pause)
	}
	total := len(s.pauses)
	r := rotateSpec(t, in, spec, rules)
	p := &capture.Pipeline{Source: s, Sink: r.Rotating}
	signals := 0
	s.before = func(int) {
		if oneIn(30) {
			signals++
			p.Rotate()
		}
		if oneIn(100) && in.room.Load() < unlimited { // somebody else needs room, or frees some
			in.room.Store(max(2000, in.room.Load()+rnd.Int64N(6000)-3000))
		}
	}
	_, err := p.Run(t.Context())
	limited := in.room.Load() < unlimited
	if err != nil {
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.True(t, limited)
		seen["full"]++
	}

	names := in.names()
	slices.SortFunc(names, func(a, b string) int {
		p, ok := r.names.place(a)
		require.True(t, ok)
		q, ok := r.names.place(b)
		require.True(t, ok)
		return p.compare(q)
	})
	var all []int
	for _, name := range names {
		numbers := in.contents(t, name)
		if len(numbers) == 0 {
			seen["empty files"]++
		}
		if rules.Packets > 0 {
			require.LessOrEqual(t, uint64(len(numbers)), rules.Packets)
		}
		all = append(all, numbers...)
	}
	packets, _ := r.Written()
	missing := int(packets) - len(all) // at the beginning: the files that were removed
	for i, n := range all {
		require.Equal(t, missing+i, n, "of %d packets, in %v", total, names)
	}
	removed := rules.KeepFiles > 0 || rules.KeepBytes > 0 || rules.DropOldest
	if !removed {
		require.Zero(t, missing)
	}
	if err == nil {
		require.EqualValues(t, total, packets)
		require.Len(t, r.finished, r.Files())
	}
	if rules.KeepFiles > 0 {
		require.LessOrEqual(t, len(names), rules.KeepFiles)
	}
	for what, yes := range map[string]bool{
		"full and dropped": strings.Contains(strings.Join(r.said, "\n"), "removed the oldest file"),
		"ring":             missing > 0 && !rules.DropOldest, "gzip": spec.Compression != 0,
		"signals":    signals > 0,
		"clock":      rules.Every > 0 && !rules.ByPackets && r.Files() > 2,
		"by packets": rules.ByPackets,
	} {
		if yes {
			seen[what]++
		}
	}
}
