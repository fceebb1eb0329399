package bpf_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
)

// reading are the methods that read until a context is done. Each delivers what one call reads.
var reading = []struct {
	name string
	read func(ctx context.Context, r *bpf.Reader, deliver func(p []byte)) error
}{
	{"Lease", func(ctx context.Context, r *bpf.Reader, deliver func([]byte)) error {
		l, err := r.Lease(ctx)
		if err != nil {
			return err
		}
		for p := range l.Packets() {
			deliver(p.Data())
		}
		return errors.Join(l.Err(), l.Release())
	}},
	{"Packets", func(ctx context.Context, r *bpf.Reader, deliver func([]byte)) error {
		for p, err := range r.Packets(ctx) {
			if err != nil {
				return err
			}
			deliver(p.Data())
		}
		return errors.New("the loop ended in silence")
	}},
	{"ReadPacket", func(ctx context.Context, r *bpf.Reader, deliver func([]byte)) error {
		p, _, err := r.ReadPacket(ctx)
		if err == nil {
			deliver(p)
		}
		return err
	}},
	{"ReadInto", func(ctx context.Context, r *bpf.Reader, deliver func([]byte)) error {
		b := make([]byte, 200)
		n, _, err := r.ReadInto(ctx, b)
		if err == nil {
			deliver(b[:n])
		}
		return err
	}},
	{"PacketReader", func(ctx context.Context, r *bpf.Reader, deliver func([]byte)) error {
		one := r.PacketReader()
		defer one.Release()
		for {
			p, _, err := one.ReadSlice(ctx)
			if err != nil {
				return err
			}
			deliver(p)
		}
	}},
	{"ReadSlice", func(ctx context.Context, r *bpf.Reader, deliver func([]byte)) error {
		p, _, err := r.ReadSlice(ctx)
		if err == nil {
			deliver(p)
		}
		return err
	}},
}

// Packets come faster than they are read, so that the kernel always has some. A read is over
// nevertheless once it has delivered what was captured before. The next read goes on behind that.
func TestReadIsOverUnderOverload(t *testing.T) {
	cause := errors.New("enough")
	for _, end := range []struct {
		name string
		end  func(w *capture, cancel context.CancelCauseFunc)
		err  error
	}{
		{"the context is done", func(_ *capture, cancel context.CancelCauseFunc) {
			cancel(cause)
		}, cause},
		{"the deadline passes", func(w *capture, _ context.CancelCauseFunc) {
			w.r.SetReadDeadline(time.Now())
		}, os.ErrDeadlineExceeded},
	} {
		for _, rd := range reading {
			t.Run(end.name+"/"+rd.name, func(t *testing.T) {
				modes(t, func(t *testing.T, mode bpf.Mode) {
					w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096})
					const buffer = 40 // packets, about
					var got []uint32
					captured := func() int {
						s, err := w.r.Stats()
						require.NoError(t, err)
						return int(s.Received - s.Dropped)
					}
					w.receive(0, 3*buffer)
					sent := uint32(3 * buffer)
					more := func(p []byte) {
						got = append(got, number(t, p))
						w.receive(sent, 3)
						sent += 3
						require.Less(t, len(got), 20*buffer, "the read goes on")
					}
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					before := 0
					var err error
					for err == nil {
						err = rd.read(ctx, w.r, func(p []byte) {
							more(p)
							if before == 0 && len(got) > 5*buffer {
								end.end(w, cancel)
								before = captured()
							}
						})
					}
					require.ErrorIs(t, err, end.err)
					require.Greater(t, int(sent), 2*captured(), "most packets are dropped")
					assert.GreaterOrEqual(t, len(got), before, "what was captured before")
					assert.LessOrEqual(t, len(got), before+2*buffer)

					require.NoError(t, w.r.SetReadDeadline(time.Time{}))
					rest, nothingMore := context.WithCancelCause(t.Context())
					defer nothingMore(nil)
					before = captured()
					for err = nil; err == nil; {
						err = rd.read(rest, w.r, func(p []byte) {
							if got = append(got, number(t, p)); len(got) == before {
								nothingMore(cause)
							}
						})
					}
					require.ErrorIs(t, err, cause)
					assert.Len(t, got, captured())
					assert.IsIncreasing(t, got)
				})
			})
		}
	}
}

// What sticks in the store buffer comes in pieces. All of them were captured before the end.
func TestEndDeliversAllPiecesOfABuffer(t *testing.T) {
	cause := errors.New("enough")
	for _, rd := range reading {
		t.Run(rd.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 512 << 10})
				const first = 200 // too many to be copied out, so the lease is of a buffer
				w.receive(0, first)
				l, err := w.r.Lease(t.Context())
				require.NoError(t, err)
				require.Equal(t, first, count(l))
				const pieces = 5
				const more = pieces * 32 << 10 / 84 // packets that take more than so many pieces
				w.receive(first, more)
				require.NoError(t, l.Release())
				ctx, cancel := context.WithCancelCause(t.Context())
				cancel(cause)
				var got []uint32
				for err == nil {
					err = rd.read(ctx, w.r, func(p []byte) { got = append(got, number(t, p)) })
				}
				require.ErrorIs(t, err, cause)
				assert.Equal(t, sequence(first, more), got)
			})
		})
	}
}

// count goes over a lease and returns how many packets it has.
func count(l bpf.Lease) (n int) {
	for range l.Packets() {
		n++
	}
	return n
}
