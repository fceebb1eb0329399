package faults

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// neighbour captures on the interface that its arguments name, until it is stopped while it
// waits, or with a lease out.
func neighbour(args []string) error {
	mode, err := bpf.ParseMode(args[1])
	if err != nil {
		return err
	}
	r, err := bpf.Open(args[0], bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: readTimeout})
	if err != nil {
		return err
	}
	say("open")
	if args[2] == "waits" {
		return captureAndTell(r)
	}
	c := &capture{r: r, ended: make(chan error, 1)}
	l, err := r.Lease(context.Background())
	if err != nil {
		return err
	}
	say("ready")
	awaitStdin()
	for p := range l.Packets() {
		c.tally.take(p.Data())
	}
	if err := errors.Join(l.Err(), l.Release()); err != nil {
		return err
	}
	go func() { c.ended <- c.run() }()
	return c.tell()
}

func TestStoppedNeighbour(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		for _, when := range []string{"waits", "has a lease"} {
			t.Run("stopped while it "+when, func(t *testing.T) {
				p := lab.NewPair(t, w)
				watched(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: readTimeout},
					func(witness *capture, sent func() uint32) int {
						c := startNeighbour(t, witness.from, p.A, mode, when)
						c.ready()
						require.NoError(t, c.Process.Signal(syscall.SIGSTOP))
						var status unix.WaitStatus
						_, err := unix.Wait4(c.Process.Pid, &status, unix.WUNTRACED, nil)
						require.NoError(t, err)
						// Stopped itself does not count SIGSTOP
						require.EqualValues(t, 0x7f, status&0x7f, "it is stopped")
						overrun(t, p, c.Process.Pid, sent)
						require.NoError(t, c.Process.Signal(syscall.SIGCONT))
						var end told
						func() {
							witness.from.turn.Lock() // it counts at rest
							defer witness.from.turn.Unlock()
							c.release()
							c.hear(&end)
						}()
						c.finish()
						end.Tally.Sent = end.Tally.Received // it came later
						t.Log("the neighbour, when it goes on:")
						requireNothingLost(t, end.Tally)
						assert.NotZero(t, end.Tally.Dropped)

						c = startNeighbour(t, witness.from, p.A, mode, when)
						c.ready()
						require.NoError(t, c.Process.Signal(syscall.SIGSTOP))
						overrun(t, p, c.Process.Pid, sent)
						c.kill() // stopped for ever
						return 2
					})
				requireNobodyLeft(t, p.A)
			})
		}
		t.Run("never reads", func(t *testing.T) {
			p := lab.NewPair(t, w)
			never := open(t, p.A, bpf.Config{Mode: mode, BufferSize: 4096})
			watched(t, p, bpf.Config{Mode: mode, BufferSize: 64 << 10, ReadTimeout: readTimeout},
				func(_ *capture, sent func() uint32) int {
					goOn(t, sent)
					s, err := never.Stats()
					require.NoError(t, err)
					require.NotZero(t, s.Dropped)
					return 1
				})
			require.NoError(t, never.Close())
			requireNobodyLeft(t, p.A)
		})
	})
}

// startNeighbour holds the traffic back while the child opens its reader. The reader's first reset
// zeroes the counters, and would miss a packet that comes at that moment and is delivered.
func startNeighbour(
	t *testing.T, tr *traffic, ifname string, mode bpf.Mode, when string,
) *child {
	t.Helper()
	tr.turn.Lock()
	defer tr.turn.Unlock()
	c := startChild(t, "neighbour", ifname, mode, when)
	c.says("open")
	return c
}

// overrun waits until many packets more have been sent than the process that does not read had room
// for.
func overrun(t *testing.T, p *lab.Pair, pid int, sent func() uint32) {
	goOn(t, sent)
	require.NoError(t, lab.Until(func() (bool, error) {
		for _, l := range listeners(t, p.A) {
			if l.PID == pid && l.Dropped > 0 {
				return true, nil
			}
		}
		return false, nil
	}), "the one that is stopped drops: %+v", listeners(t, p.A))
}

// goOn waits until so many packets more have been sent.
func goOn(t *testing.T, sent func() uint32) {
	for need := sent() + uint32(strangers.n()); sent() < need; {
		at := sent()
		require.NoError(t, lab.Until(func() (bool, error) { return sent() > at, nil }),
			"the traffic goes on")
	}
}
