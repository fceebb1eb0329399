package contest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/bench/internal/trial"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A program does with a packet what a contestant in Go does: it counts the same packets and bytes,
// and loads the same words.
func TestProgramsTouchTheSame(t *testing.T) {
	kernel(t)
	for _, file := range []string{"contest", "cgo"} {
		for _, size := range []int{7, 8, 64, 71, 72, 1500} {
			c, missing, err := trial.TouchCost(file, size)
			require.NoError(t, err)
			if missing != "" {
				t.Logf("%s did not run: %s", file, missing)
				break
			}
			g := contestant.TouchCost(size)
			t.Logf("%s, %d bytes: %v a packet, Go %v", file, size,
				c.Elapsed/time.Duration(c.Packets), g.Elapsed/time.Duration(g.Packets))
			c.Elapsed, g.Elapsed = 0, 0
			assert.Equal(t, g, c, "%s, %d bytes", file, size)
		}
	}
}

// Every contestant delivers what the writer writes. Of what it delivers, nothing is lost.
func TestProgramsDeliver(t *testing.T) {
	w := kernel(t)
	p := lab.NewPair(t, w)
	s, err := load.NewWriter(64, p.B)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Share(load.Frames))
	for _, name := range contestant.All() {
		t.Run(name, func(t *testing.T) {
			if name == "go-pcap" {
				t.Skip("go-pcap delivers the first packet of each read")
			}
			r, err := trial.Run(trial.Spec{
				Contestant: name, Interface: p.A, Share: load.Frames, Memory: memoryOfAll,
				Timeout: timeout, Warm: warm, Length: time.Second, Trace: time.Second,
			})
			require.NoError(t, err)
			if r.Missing != "" {
				t.Skip(r.Missing)
			}
			require.Empty(t, r.Stuck)
			assert.Zero(t, r.Dropped)
			near := float64(load.Rate) / 4 // what is in the buffers at the beginning and at the end
			assert.InDelta(t, r.Matched, r.Packets, near)
			assert.Equal(t, 64*r.Packets, r.Bytes)
			assert.Positive(t, r.Traced.Reader, "it waits for packets")
			assert.Greater(t, r.RSS, int64(1<<20), "the whole program")
			assert.Less(t, r.RSS, int64(64<<20), "the whole program")
			t.Logf("%s: %d packets, %v CPU, %d calls %v", r.Version, r.Packets, r.CPU,
				r.Traced.Reader, r.Traced.ByName)
		})
	}
}
