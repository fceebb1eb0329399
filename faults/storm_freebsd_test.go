package faults

import (
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// The process that captures forks all the time, so that its memory is copied on write, and starts
// programs. Small buffers go round often.
func TestForkAndExecStorm(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		self, err := os.Executable()
		require.NoError(t, err)
		watched(t, p, bpf.Config{Mode: mode, BufferSize: 32 << 10, ReadTimeout: readTimeout},
			func(c *capture, sent func() uint32) int {
				var forked, execed atomic.Int64
				var storms sync.WaitGroup
				until := time.Now().Add(atLeast(t))
				on := func() bool {
					return forked.Load() < int64(forks.n()) || execed.Load() < int64(execs.n()) ||
						time.Now().Before(until)
				}
				storms.Go(func() {
					for on() {
						pid, err := lab.Fork()
						if !assert.NoError(t, err) {
							return
						}
						was := sent()
						assert.NoError(t, lab.Until(func() (bool, error) { return sent() != was, nil }),
							"packets come while the memory is shared")
						assert.NoError(t, unix.Kill(pid, unix.SIGKILL))
						_, err = unix.Wait4(pid, nil, 0, nil)
						assert.NoError(t, err)
						forked.Add(1)
					}
				})
				storms.Go(func() {
					for on() {
						cmd := exec.Command(self)
						cmd.Env = append(os.Environ(), "ZBUF_CHILD=nothing")
						if !assert.NoError(t, cmd.Run()) {
							return
						}
						execed.Add(1)
					}
				})
				storms.Wait()
				s, err := c.r.Stats()
				require.NoError(t, err)
				t.Logf("%d forks, %d execs, %+v", forked.Load(), execed.Load(), s)
				return int(forked.Load() + execed.Load())
			})
		requireNobodyLeft(t, p.A)
	})
}
