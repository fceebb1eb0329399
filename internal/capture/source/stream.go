package source

import (
	"context"
	"math"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// A stream is one interface of the model, and the reader that captures there.
type stream struct {
	iface   *bpftest.Interface
	index   int // in the file
	r       *bpf.Reader
	room    int    // bytes of records that a buffer has room for
	matched uint64 // packets announced; the shower's

	lease  bpf.Lease
	cursor bpf.Cursor
}

// next puts at most n packets into a batch, and returns their number. The packets are in the kernel
// already.
func (s *stream) next(ctx context.Context, b *capture.Batch, n uint64) (uint64, error) {
	for {
		if fill(b, s.index, &s.cursor, int(min(n, math.MaxInt32))); len(b.Packets) > 0 {
			return uint64(len(b.Packets)), nil
		}
		if err := s.cursor.Err(); err != nil {
			return 0, err
		}
		s.lease.Release() // the first time, there is none
		lease, err := s.r.Lease(ctx)
		if err != nil {
			return 0, err
		}
		s.lease, s.cursor = lease, lease.Cursor()
	}
}

// add adds the model's counters of the stream.
func (s *stream) add(to pcapio.Statistics) pcapio.Statistics {
	st, _ := s.r.Stats()
	to.Received += st.Received
	to.Dropped += st.Dropped
	return to
}

func (s *stream) close() {
	s.lease.Release()
	s.r.Close()
}
