package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	xbpf "golang.org/x/net/bpf"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// largest is the size of each buffer of a process that is killed: 512 pages.
const largest = 2 << 20

// moments names the calls during which a victim is killed.
var moments = []string{"starting", "lending", "opening", "blocked", "leasing", "reading"}

// victim captures in the way that its arguments say: moment, interface and mode.
func victim(args []string) error {
	moment, ifname := args[0], args[1]
	mode, err := bpf.ParseMode(args[2])
	if err != nil {
		return err
	}
	cfg := bpf.Config{Mode: mode, BufferSize: largest, ReadTimeout: readTimeout}
	switch moment {
	case "lending":
		say("ready")
		for {
			d, err := zbuf.Open()
			if err != nil {
				return err
			}
			if mode == bpf.ZeroCopy {
				if err := d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF); err != nil {
					return err
				}
				if _, err := d.SetBuffers(largest); err != nil {
					return err
				}
			} else if _, err := d.SetBufferLen(largest); err != nil {
				return err
			}
			if err := d.Close(); err != nil {
				return err
			}
		}
	case "opening":
		say("ready")
		for {
			r, err := bpf.Open(ifname, cfg)
			if err != nil {
				return err
			}
			if err := r.Close(); err != nil {
				return err
			}
		}
	case "blocked":
		cfg.ReadTimeout = bpf.NoTimeout
		cfg.Filter = []xbpf.RawInstruction{{Op: 0x06}} // nothing
	}
	r, err := bpf.Open(ifname, cfg)
	if err != nil {
		return err
	}
	switch moment {
	case "blocked":
		say("ready")
		_, err = r.Lease(context.Background())
	case "leasing":
		for err == nil {
			var l bpf.Lease
			if l, err = r.Lease(context.Background()); err != nil {
				break
			}
			say("ready")                      // each time: most of the time a lease is out
			time.Sleep(10 * time.Millisecond) // so that the lease is out for most of the time
			err = l.Release()
		}
	case "starting", "reading":
		for err == nil {
			_, _, err = r.ReadPacket(context.Background())
			say("ready")
		}
	}
	return fmt.Errorf("the victim ended by itself: %w", err)
}

func TestKilledAtRandomMoments(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		rng := seeded(t)
		n := kills.n()
		if mode == bpf.Buffered {
			n = killsBuffered.n()
		}
		p := lab.NewPair(t, w)
		at := map[string]int{}
		watched(t, p, bpf.Config{Mode: mode, ReadTimeout: readTimeout},
			func(c *capture, sent func() uint32) int {
				before := wired(t) // with the witness' buffers
				order := rng.Perm(len(moments))
				for i := range n {
					moment := moments[order[i%len(moments)]]
					at[moment]++
					killAt(t, rng, moment, p.A, mode)
				}
				require.NoError(t, lab.Until(func() (bool, error) { return len(listeners(t, p.A)) == 1, nil }),
					"only the witness is left: %+v", listeners(t, p.A))
				requireWiredBack(t, before)
				return n
			})
		requireNobodyLeft(t, p.A)
		t.Logf("%d killed: %v", n, at)
	})
}

// killAt starts a victim and kills it a little after it has begun the call that moment names.
func killAt(t *testing.T, rng *rand.Rand, moment, ifname string, mode bpf.Mode) {
	t.Helper()
	c := startChild(t, "victim", moment, ifname, mode)
	if moment == "starting" { // as early as before main
		time.Sleep(upTo(rng, 150*time.Millisecond)) // the moment is what the test varies
	} else {
		c.ready()
		time.Sleep(upTo(rng, 30*time.Millisecond)) // the moment is what the test varies
	}
	c.kill()
}
