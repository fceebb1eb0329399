package merge_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/merge"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// Packets on two interfaces, one of which goes, come each once and in the order of their times.
func TestKernelMerge(t *testing.T) {
	lab.InModes(t, bpf.ZeroCopy, bpf.Buffered, func(t *testing.T, w lab.World, mode bpf.Mode) {
		var pairs []*lab.Pair
		var readers []*bpf.Reader
		for range 2 {
			p := lab.NewPair(t, w)
			r, err := bpf.Open(p.A, bpf.Config{Mode: mode, BufferSize: 128 << 10, // holds all
				ReadTimeout: 20 * time.Millisecond})
			require.NoError(t, err)
			defer r.Close()
			pairs, readers = append(pairs, p), append(readers, r)
		}
		const each = 300
		ctx, cancel := context.WithTimeout(t.Context(), 3*lab.Patience)
		defer cancel()
		const bound = time.Second
		lag := lab.WatchLag(t)
		m := merge.New(bound, readers...)
		sent := make([][][]byte, 2)
		posted := make(chan error, 1)
		post := func() error {
			for i := range uint32(2 * each) {
				k := int(i % 2)
				f := lab.Frame(60+int(i%200), i)
				sent[k] = append(sent[k], f)
				if err := pairs[k].Post(pairs[k].A, f); err != nil {
					return err
				}
			}
			if err := lab.Until(func() (bool, error) {
				a, errA := readers[0].Stats()
				b, errB := readers[1].Stats()
				return a.Received >= each && b.Received >= each, errors.Join(errA, errB)
			}); err != nil {
				return err
			}
			return w.Destroy(pairs[1].A)
		}
		go func() {
			err := post()
			if err != nil {
				cancel() // nothing more comes
			}
			posted <- err
		}()
		got := make([][][]byte, 2)
		gone, late := 0, uint64(0)
		var latest time.Time
		for p, err := range m.Packets(ctx) {
			switch {
			case errors.Is(err, bpf.ErrInterfaceGone):
				assert.Equal(t, 1, p.Reader)
				gone++
			case err != nil:
				require.ErrorIs(t, err, context.Canceled)
			default:
				if p.Time.Before(latest) {
					late++
				} else {
					latest = p.Time
				}
				got[p.Reader] = append(got[p.Reader], p.Data)
			}
			if gone == 1 && len(got[0])+len(got[1]) == 2*each {
				cancel()
			}
		}
		require.NoError(t, <-posted)
		assert.Equal(t, 1, gone)
		assert.Equal(t, late, m.Late())
		t.Logf("%d packets late, worst lag of the machine %v", late, lag.Worst())
		if lag.Worst() < bound/4 {
			assert.Zero(t, late, "no reader is a second behind the other")
		}
		for i := range got {
			assert.Equal(t, sent[i], got[i])
		}
	})
}
