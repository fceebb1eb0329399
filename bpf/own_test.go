package bpf_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A reader that sees what the host sends sees what it has written itself.
func ownPackets(t *testing.T, w lab.World, mode bpf.Mode) {
	for name, c := range map[string]struct {
		dir  bpf.Direction
		want []uint32 // of 1, which it writes, and 2, which comes in
	}{
		"InOut": {bpf.InOut, []uint32{1, 2}}, "In": {bpf.In, []uint32{2}}, "Out": {bpf.Out, []uint32{1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := lab.NewPair(t, w)
			r, err := bpf.Open(p.A, bpf.Config{System: w, Mode: mode, Direction: c.dir,
				ReadTimeout: 20 * time.Millisecond})
			require.NoError(t, err)
			defer r.Close()
			require.NoError(t, p.PostBy(p.B, func() error {
				_, err := r.Write(numbered(1, 64))
				return err
			}))
			p.Settle(t)
			p.Inject(t, numbered(2, 64))
			require.NoError(t, r.SetReadDeadline(time.Now()))
			var got []uint32
			for {
				data, _, err := r.ReadPacket(t.Context())
				if err != nil {
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					break
				}
				got = append(got, number(t, data))
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestOwnPackets(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) { ownPackets(t, lab.Model(), mode) })
	}
}
