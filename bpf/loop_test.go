package bpf_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
)

// take reads n packets with the loop and returns their numbers.
func take(t *testing.T, r *bpf.Reader, n int) (got []uint32) {
	t.Helper()
	for p, err := range r.Packets(t.Context()) {
		require.NoError(t, err)
		if got = append(got, number(t, p.Data())); len(got) == n {
			return got
		}
	}
	require.Fail(t, "the loop ended in silence")
	return nil
}

// A loop that is left goes on where it was, whatever reads next, and Stats has counted its packets.
func TestLoopThatIsLeftKeepsTheRest(t *testing.T) {
	for _, rd := range readers {
		t.Run(rd.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, Immediate: true})
				w.receive(0, 60) // more than a buffer
				var got []uint32
				for n := 1; len(got) < 60; n++ {
					got = append(got, take(t, w.r, min(n, 60-len(got)))...)
					s, err := w.r.Stats()
					require.NoError(t, err)
					require.EqualValues(t, len(got), s.Packets)
					require.EqualValues(t, 64*len(got), s.Bytes)
					if len(got) < 60 {
						more, err := rd.read(t, w.r)
						require.NoError(t, err)
						got = append(got, more...)
					}
				}
				assert.Equal(t, sequence(0, 60), got)
			})
		})
	}
}

// The loop ends with one error, and says which.
func TestLoopEndsWithItsError(t *testing.T) {
	cause := errors.New("enough")
	for _, c := range []struct {
		name string
		end  func(w *capture, cancel context.CancelCauseFunc) error
		want error
	}{
		{"the context is done", func(w *capture, cancel context.CancelCauseFunc) error {
			cancel(cause)
			return nil
		}, cause},
		{"Close", func(w *capture, _ context.CancelCauseFunc) error { return w.r.Close() }, os.ErrClosed},
		{"the deadline passes", func(w *capture, _ context.CancelCauseFunc) error {
			return w.r.SetReadDeadline(time.Now())
		}, os.ErrDeadlineExceeded},
		{"the interface goes", func(w *capture, _ context.CancelCauseFunc) error {
			w.em0.Remove()
			return nil
		}, bpf.ErrInterfaceGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode})
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				w.receive(0, 5)
				go func() {
					time.Sleep(time.Second) // in the time of the bubble
					assert.NoError(t, c.end(w, cancel))
				}()
				packets, errs := 0, 0
				for p, err := range w.r.Packets(ctx) {
					if err == nil {
						packets++
						require.Zero(t, errs, "the error is the last")
						continue
					}
					errs++
					assert.ErrorIs(t, err, c.want)
					assert.Empty(t, p.Data())
				}
				assert.Equal(t, 5, packets)
				assert.Equal(t, 1, errs)
				synctest.Wait()
			})
		})
	}
}

// While the loop runs, it is the reader.
func TestLoopIsTheOnlyReader(t *testing.T) {
	w := newCapture(t, bpf.Config{Immediate: true})
	w.receive(0, 3)
	for range w.r.Packets(t.Context()) {
		_, err := w.r.Lease(t.Context())
		assert.ErrorIs(t, err, bpf.ErrLeaseOut)
		_, _, err = w.r.ReadPacket(t.Context())
		assert.ErrorIs(t, err, bpf.ErrLeaseOut)
		for _, err := range w.r.Packets(t.Context()) {
			assert.ErrorIs(t, err, bpf.ErrLeaseOut)
		}
		break
	}
	assert.Equal(t, sequence(1, 2), take(t, w.r, 2))
}

// What happens in the body holds for the next turn.
func TestLoopSeesWhatItsBodyDoes(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, Immediate: true})
				w.receive(0, 30)
				want := sequence(0, 40)
				if c.discards {
					want = append(sequence(0, 10), sequence(30, 10)...)
				}
				var got []uint32
				for p, err := range w.r.Packets(t.Context()) {
					require.NoError(t, err)
					got = append(got, number(t, p.Data()))
					if len(got) == 10 {
						require.NoError(t, c.call(w))
						w.receive(30, 10)
					}
					if len(got) == len(want) {
						break
					}
				}
				assert.Equal(t, want, got)
			})
		})
	}
	t.Run("Close", func(t *testing.T) {
		modes(t, func(t *testing.T, mode bpf.Mode) {
			w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096})
			w.receive(0, 60)
			turns := 0
			for p, err := range w.r.Packets(t.Context()) {
				if turns++; turns == 1 {
					require.NoError(t, w.r.Close())
					require.EqualValues(t, 0, number(t, p.Data()), "it is there until the body ends")
					continue
				}
				require.ErrorIs(t, err, os.ErrClosed)
			}
			assert.Equal(t, 2, turns)
			assert.Zero(t, w.k.MappedBytes())
		})
	})
}

// However the body leaves the loop, nothing is lost, and nothing keeps the memory.
func TestLoopLeftInAnyWay(t *testing.T) {
	for name, leave := range map[string]func(r *bpf.Reader){
		"break": func(r *bpf.Reader) {
			for range r.Packets(context.Background()) {
				break
			}
		},
		"panic": func(r *bpf.Reader) {
			defer func() { recover() }()
			for range r.Packets(context.Background()) {
				panic("left")
			}
		},
		"Goexit": func(r *bpf.Reader) {
			over := make(chan struct{})
			go func() {
				defer close(over)
				for range r.Packets(context.Background()) {
					runtime.Goexit()
				}
			}()
			<-over
		},
	} {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			t.Run(name+"/"+mode.String(), func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, Immediate: true})
				w.receive(0, 60)
				leave(w.r)
				assert.Equal(t, sequence(1, 20), take(t, w.r, 20))
				leave(w.r)
				require.NoError(t, w.r.Close())
				assert.Zero(t, w.k.MappedBytes())
			})
		}
	}
}

// The loop costs the same few allocations for any number of packets.
func TestLoopAllocatesNothingForAPacket(t *testing.T) {
	w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 1 << 20, Immediate: true})
	frame := numbered(0, 64)
	turns := func(n int) float64 {
		ctx := context.Background()
		// AllocsPerRun counts what the whole process allocates, and rounds down. A few allocations by
		// others meanwhile make no difference.
		return testing.AllocsPerRun(20, func() {
			for range n {
				w.em0.Receive(frame)
			}
			left := n
			for range w.r.Packets(ctx) {
				if left--; left == 0 {
					break
				}
			}
		})
	}
	assert.Equal(t, turns(1), turns(2000))
}
