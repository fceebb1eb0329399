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

// A reader counts exactly the system calls that ktrace sees on its thread.
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
						Contestant: name, Interface: s.Ifname, Share: l.share, Memory: memoryOfAll, Timeout: timeout,
						Immediate: immediate, Warm: warm, Length: warm, Trace: time.Second,
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
	for _, size := range []int{64, 1500} {
		for _, name := range []string{"zbuf-lease", "zbuf-packet", "zbuf-packetreader",
			"zbuf-gopacket", "zbuf-copy"} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				const perBuffer = 40
				s := storm(t, size)
				r, err := trial.Run(trial.Spec{
					Contestant: name, Interface: s.Ifname, Share: load.Frames, Memory: 2 * perBuffer * (size + 32),
					Timeout: timeout, Behind: true, Warm: warm, Length: warm, Trace: time.Minute,
					Enough: 6 * perBuffer,
				})
				require.NoError(t, err)
				require.Greater(t, r.Traced.Packets, uint64(4*perBuffer), "it did not go round the buffers")
				assert.Zero(t, r.Traced.Reader, "%v", r.Traced.ByName)
				assert.Zero(t, r.Traced.Own)
				t.Logf("%d packets, %d system calls; on the same thread Go's scheduler and what holds it "+
					"up made: %v", r.Traced.Packets, r.Traced.Reader, r.Traced.ByName)
			})
		}
	}
}
