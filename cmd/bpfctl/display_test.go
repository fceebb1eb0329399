package main

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
	"github.com/zbuf-go/zbuf/internal/pcapio"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// still is a source that has some packets and then nothing.
type still struct {
	packets []bpf.Packet
	told    bool
}

func (*still) Describe() string { return "still" }
func (*still) Close() error     { return nil }
func (*still) Notes() []string  { return nil }
func (*still) Statistics() []pcapio.Statistics {
	return []pcapio.Statistics{{Received: 1500, Dropped: 7}}
}

func (s *still) Next(ctx context.Context, b *capture.Batch) error {
	if s.told {
		<-ctx.Done()
		return io.EOF
	}
	s.told = true
	b.New = []pcapio.Interface{{}}
	b.Packets = append(b.Packets, s.packets...)
	return nil
}

// leased returns n packets of the model, whose lease is out until the test ends.
func leased(t *testing.T, n int) (all []bpf.Packet) {
	t.Helper()
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{Mode: bpf.ZeroCopy, System: k})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	for i := range n {
		em0.Receive(scenario.Frame(1000, uint32(i)))
	}
	lease, err := r.Lease(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { lease.Release() })
	for p := range lease.Packets() {
		all = append(all, p)
	}
	require.Len(t, all, n)
	return all
}

func TestLiveLine(t *testing.T) {
	packets := leased(t, 150)
	for _, terminal := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var stderr bytes.Buffer
			p := &capture.Pipeline{Source: &still{packets: packets}, Sink: sink.New(sink.Pcapng, io.Discard)}
			ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
			defer cancel()
			require.NoError(t, showOn(ctx, p, &stderr, terminal))
			want := "bpfctl: still\n"
			if terminal {
				want += "\r\x1b[K150 packets  300/s  150.0 kB  7 dropped" +
					"\r\x1b[K150 packets  0/s  150.0 kB  7 dropped" +
					"\r\x1b[K"
			}
			want += "bpfctl: 150 packets captured, 150000 bytes, in 1.2s; 1500 received and 7 dropped by " +
				"the kernel\nbpfctl: still\n"
			assert.Equal(t, want, stderr.String())
		})
	}
}
