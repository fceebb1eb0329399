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

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// still is a source that has some packets and then nothing.
type still struct {
	packets []capture.Packet
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

func TestLiveLine(t *testing.T) {
	packets := fixture.Packets(t, 150, 1000)
	for _, terminal := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var stderr bytes.Buffer
			out := sink.New(sink.Spec{Format: sink.Pcapng}, io.Discard)
			p := &capture.Pipeline{Source: &still{packets: packets}, Sink: out}
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
				"the kernel\n"
			assert.Equal(t, want, stderr.String())
		})
	}
}
