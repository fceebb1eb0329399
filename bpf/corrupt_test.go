package bpf

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// handed is an engine that hands out what a kernel never would.
type handed struct {
	*buffered
	batches [][]byte
}

func (e *handed) take() (batch, bool) {
	if len(e.batches) == 0 {
		return batch{}, false
	}
	b := batch{buf: e.batches[0], epoch: e.gate.epoch.Load(), idx: copied}
	e.batches = e.batches[1:]
	return b, true
}

// corruptBuffer has n good records and then one that is longer than the rest of the buffer.
func corruptBuffer(n int) (buf []byte, corrupt int) {
	for range n + 1 {
		corrupt = int(align(uint(len(buf))))
		buf = appendRecord(buf, make([]byte, 64), 64, 1, 1, 26)
	}
	binary.NativeEndian.PutUint32(buf[corrupt+offCaplen:], 4096)
	return buf, corrupt
}

// A loop whose body goes on after ErrCorrupt gets the packets of the next buffer.
func TestLoopGoesOnAfterACorruptBuffer(t *testing.T) {
	k := bpftest.New()
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := Open("em0", Config{System: k, Mode: Buffered})
	require.NoError(t, err)
	defer r.Close()
	buf, _ := corruptBuffer(4)
	fine, n := fullBuffer(1024, 64)
	r.eng = &handed{r.eng.(*buffered), [][]byte{buf, fine, buf, buf}}
	r.wait.eng = r.eng
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	packets, corrupt := 0, 0
	for _, err := range r.Packets(ctx) {
		switch {
		case errors.Is(err, ErrCorrupt):
			if corrupt++; corrupt == 3 {
				cancel()
			}
		case err != nil:
			require.ErrorIs(t, err, context.Canceled)
		default:
			packets++
		}
	}
	assert.Equal(t, 4+n+4+4, packets)
	assert.Equal(t, 3, corrupt)
	s, err := r.Stats()
	require.NoError(t, err)
	assert.EqualValues(t, packets, s.Packets)
}

// Every way to read returns the packets before a corrupt record, then ErrCorrupt once, and goes on
// with the next buffer.
func TestCorruptBufferIsSaid(t *testing.T) {
	one := func(_ []byte, _ Info, err error) (int, error) {
		if err != nil {
			return 0, err
		}
		return 1, nil
	}
	for _, way := range []struct {
		name string
		read func(r *Reader) (int, error) // how many packets came, also with an error
	}{
		{"ReadPacket", func(r *Reader) (int, error) { return one(r.ReadPacket(t.Context())) }},
		{"ReadInto", func(r *Reader) (int, error) {
			_, info, err := r.ReadInto(t.Context(), make([]byte, 10))
			return one(nil, info, err)
		}},
		{"ReadSlice", func(r *Reader) (int, error) { return one(r.ReadSlice(t.Context())) }},
		{"ZeroCopyReadPacketData", func(r *Reader) (int, error) {
			return one(r.ZeroCopyReadPacketData())
		}},
		{"PacketReader", func(r *Reader) (int, error) {
			p := r.PacketReader()
			defer p.Release()
			return one(p.ReadSlice(t.Context()))
		}},
		{"PacketReader to the end", func(r *Reader) (n int, err error) {
			for p := r.PacketReader(); ; n++ {
				if _, _, err := p.ReadPacket(t.Context()); err != nil {
					return n, err
				}
				if n == 4 {
					p.Release()
					return n + 1, nil
				}
			}
		}},
		{"Packets", func(r *Reader) (n int, err error) {
			for _, err := range r.Packets(t.Context()) {
				if err != nil {
					return n, err
				}
				if n++; n == 5 {
					break
				}
			}
			return n, nil
		}},
		{"Lease", func(r *Reader) (n int, err error) {
			l, err := r.Lease(t.Context())
			if err != nil {
				return 0, err
			}
			defer l.Release()
			for range l.Packets() {
				n++
			}
			return n, l.Err()
		}},
		{"Cursor", func(r *Reader) (n int, err error) {
			l, err := r.Lease(t.Context())
			if err != nil {
				return 0, err
			}
			defer l.Release()
			c := l.Cursor()
			for c.Next() {
				n++
			}
			r.Count(&c)
			return n, c.Err()
		}},
	} {
		for _, good := range []int{0, 1, 4} {
			t.Run(way.name, func(t *testing.T) {
				k := bpftest.New()
				k.AddInterface("em0", zbuf.DLT_EN10MB)
				r, err := Open("em0", Config{System: k, Mode: Buffered})
				require.NoError(t, err)
				defer r.Close()
				buf, at := corruptBuffer(good)
				fine, n := fullBuffer(1024, 64)
				require.Zero(t, n%5, "the loop above waits for five")
				r.eng = &handed{r.eng.(*buffered), [][]byte{buf, fine}}
				r.wait.eng = r.eng
				came := 0
				for err == nil {
					var some int
					some, err = way.read(r)
					came += some
				}
				assert.Equal(t, good, came)
				require.ErrorIs(t, err, ErrCorrupt)
				var c *CorruptError
				require.ErrorAs(t, err, &c)
				assert.Equal(t, CorruptError{at, len(buf), "record longer than what is left"}, *c)
				for came < good+n {
					some, err := way.read(r)
					require.NoError(t, err, "the next buffer is good")
					came += some
				}
				s, err := r.Stats()
				require.NoError(t, err)
				assert.EqualValues(t, good+n, s.Packets)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_, _, err = r.ReadPacket(ctx)
				assert.ErrorIs(t, err, context.Canceled)
			})
		}
	}
}
