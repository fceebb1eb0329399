package main

import (
	"bufio"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/pcapio"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// From lease to release nothing is allocated, however many packets there are.
func TestWritingALeaseDoesNotAllocate(t *testing.T) {
	for name, out := range map[string]sink{
		"pcapng": &pcapng{w: pcapio.NewWriter(io.Discard)},
		"lines":  &lines{w: bufio.NewWriter(io.Discard)},
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
			em0 := k.AddInterface("em0", bpftest.DLT_EN10MB)
			r, err := bpf.Open("em0", bpf.Config{Mode: bpf.ZeroCopy, System: k})
			require.NoError(t, err)
			defer r.Close()
			const packets = 1000
			for i := range uint32(packets) {
				em0.Receive(scenario.Frame(100, i))
			}
			l := &live{r: r}
			run := newCaptureRun(l, out, 0, io.Discard)
			require.NoError(t, run.addInterface(l.description()))
			lease, err := r.Lease(context.Background())
			require.NoError(t, err)
			require.NoError(t, l.write(run, lease))
			require.EqualValues(t, packets, run.packets.Load())
			assert.Zero(t, testing.AllocsPerRun(10, func() {
				if l.write(run, lease) != nil {
					t.Fail()
				}
			}))
			require.NoError(t, lease.Release())
		})
	}
}
