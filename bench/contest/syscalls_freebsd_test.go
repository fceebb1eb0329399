package contest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/bench/internal/trial"
)

// What a reader counts of itself is what ktrace sees of its thread, to the call.
func TestCountersOfSystemCallsAreExact(t *testing.T) {
	kernel(t)
	s := storm(t, 64)
	for _, name := range contestant.Names {
		for _, l := range loads {
			for _, immediate := range []bool{false, true} {
				if l.work || immediate && l.share != 1 {
					continue
				}
				t.Run(fmt.Sprintf("%s %s immediate=%v", name, l.name, immediate), func(t *testing.T) {
					r, err := trial.Run(trial.Spec{
						Contestant: name, Interface: s.Ifname, Share: l.share, Memory: memory, Timeout: timeout, Immediate: immediate,
						Warm: warm, Length: warm, Trace: time.Second,
					})
					require.NoError(t, err)
					if !r.Traced.HasOwn {
						t.Skipf("%s counts nothing; ktrace: %v", name, r.Traced.ByName)
					}
					assert.Positive(t, r.Traced.Own)
					assert.Equal(t, r.Traced.Reader, r.Traced.Own, "%v", r.Traced.ByName)
				})
			}
		}
	}
}

// While a reader of lent buffers is behind, it makes no system call at all.
func TestNoSystemCallWhileBehind(t *testing.T) {
	kernel(t)
	work := 10 * spins() // far behind, also on a machine that has other things to do
	for _, size := range []int{64, 1500} {
		for _, name := range []string{"zbuf-lease", "zbuf-copy"} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				const perBuffer = 1000
				s := storm(t, size)
				r, err := trial.Run(trial.Spec{
					Contestant: name, Interface: s.Ifname, Share: load.Frames, Memory: 2 * perBuffer * (size + 32), Timeout: timeout, Work: work,
					Warm: 2 * time.Second, Length: time.Second, Trace: 5 * time.Second,
				})
				require.NoError(t, err)
				require.Positive(t, r.Dropped, "it was not behind")
				require.Greater(t, r.Traced.Packets, uint64(4*perBuffer), "it did not go round the buffers")
				assert.Zero(t, r.Traced.Reader, "%v", r.Traced.ByName)
				assert.Zero(t, r.Traced.Own)
				t.Logf("%d packets, %d system calls; Go's scheduler made, on the same thread: %v", r.Traced.Packets, r.Traced.Reader, r.Traced.ByName)
			})
		}
	}
}
