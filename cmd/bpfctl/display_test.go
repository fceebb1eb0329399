package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// still is a source that has three packets and then nothing.
type still struct{}

func (still) describe() string { return "still" }
func (still) close()           {}
func (still) statistics() []pcapio.Statistics {
	return []pcapio.Statistics{{Received: 1500, Dropped: 7}}
}

func (still) pump(ctx context.Context, r *captureRun) error {
	if err := errors.Join(r.addInterface(pcapio.Interface{}), r.batch()); err != nil {
		return err
	}
	r.end(1500, 2_345_678)
	<-ctx.Done()
	return nil
}

func TestLiveLine(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var stderr bytes.Buffer
			r := newCaptureRun(still{}, &pcapng{w: pcapio.NewWriter(io.Discard)}, 0, &stderr)
			r.live = terminal
			ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
			defer cancel()
			require.NoError(t, r.run(ctx))
			want := "bpfctl: still\n"
			if terminal {
				want += "\r\x1b[K1500 packets  3000/s  2.3 MB  7 dropped" +
					"\r\x1b[K1500 packets  0/s  2.3 MB  7 dropped" +
					"\r\x1b[K"
			}
			want += "bpfctl: 1500 packets captured, 2345678 bytes, in 1.2s; 1500 received and 7 dropped by the kernel\nbpfctl: still\n"
			assert.Equal(t, want, stderr.String())
		})
	}
}
