package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// inCapabilityMode captures with nothing but the rights that Sandbox leaves.
func inCapabilityMode(args []string) error {
	mode, err := bpf.ParseMode(args[1])
	if err != nil {
		return err
	}
	r, err := bpf.Open(args[0], bpf.Config{Mode: mode, BufferSize: 32 << 10, ReadTimeout: readTimeout})
	if err != nil {
		return err
	}
	if err := r.Sandbox(bpf.Sandbox{Enter: true}); err != nil {
		return err
	}
	if _, err := os.Open("/"); !errors.Is(err, syscall.Errno(unix.ECAPMODE)) {
		return fmt.Errorf("not in capability mode: %v", err)
	}
	if err := r.SetFilter(nil, true); !errors.Is(err, bpf.ErrSandboxed) {
		return fmt.Errorf("the filter can be changed: %v", err)
	}
	c := take(r)
	say("ready")
	over := make(chan struct{})
	go func() { awaitStdin(); close(over) }()
	waited := false
	for looks, on := 0, true; on; looks++ { // statistics all the time
		select {
		case <-over:
			on = false
		case <-time.After(5 * time.Millisecond):
		}
		s, err := r.Stats()
		if err != nil {
			return fmt.Errorf("statistics, %d times: %w", looks, err)
		}
		if !waited && s.Waits > 0 && (mode != bpf.ZeroCopy || s.Rotations > 0) {
			say("waited")
			waited = true
		}
		if _, err := r.LinkTypes(); err != nil {
			return err
		}
	}
	if err := c.tell(); err != nil {
		return err
	}
	if _, err := r.Lease(context.Background()); !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("after Close: %v", err)
	}
	return nil
}

func TestCapabilityMode(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		c := startChild(t, "sandboxed", p.A, mode)
		c.ready()
		tr := &traffic{p: p}
		for tr.sent.Load() < uint32(sandboxed.n()) {
			require.NoError(t, tr.once(batch))
		}
		require.NoError(t, lab.Until(func() (bool, error) { // a child without a processor only drops
			if len(c.lines) > 0 {
				c.says("waited")
				return true, nil
			}
			return false, tr.once(batch)
		}), "it waits, and rotates in zero-copy mode")
		c.release()
		var end told
		c.hear(&end)
		c.finish()
		end.Tally.Sent = uint64(tr.sent.Load())
		requireNothingLost(t, end.Tally)
		if mode == bpf.ZeroCopy {
			require.NotZero(t, end.Stats.Rotations)
		}
		require.NotZero(t, end.Stats.Waits)
		t.Logf("%+v", end.Stats)
		requireNobodyLeft(t, p.A)
		lab.Report(t, lab.Faults, 1)
		lab.Report(t, lab.Packets, end.Tally.Delivered)
		lab.Report(t, lab.Lost, end.Tally.lost())
	})
}
