package bpf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// readers are the reading methods. Each returns the numbers of the packets that one call delivers.
var readers = []struct {
	name string
	read func(t testing.TB, r *bpf.Reader) ([]uint32, error)
}{
	{"Lease", func(t testing.TB, r *bpf.Reader) (got []uint32, err error) {
		l, err := r.Lease(context.Background())
		if err != nil {
			return nil, err
		}
		for p := range l.Packets() {
			got = append(got, number(t, p.Data()))
		}
		return got, errors.Join(l.Err(), l.Release())
	}},
	{"ReadPacket", func(t testing.TB, r *bpf.Reader) ([]uint32, error) {
		p, _, err := r.ReadPacket(context.Background())
		if err != nil {
			return nil, err
		}
		return []uint32{number(t, p)}, nil
	}},
	{"ReadInto", func(t testing.TB, r *bpf.Reader) ([]uint32, error) {
		b := make([]byte, 200)
		n, _, err := r.ReadInto(context.Background(), b)
		if err != nil {
			return nil, err
		}
		return []uint32{number(t, b[:n])}, nil
	}},
	{"ReadSlice", func(t testing.TB, r *bpf.Reader) ([]uint32, error) {
		p, _, err := r.ReadSlice(context.Background())
		if err != nil {
			return nil, err
		}
		return []uint32{number(t, p)}, nil
	}},
	{"PacketReader", func(t testing.TB, r *bpf.Reader) ([]uint32, error) {
		one := r.PacketReader()
		defer one.Release()
		p, _, err := one.ReadSlice(context.Background())
		if err != nil {
			return nil, err
		}
		return []uint32{number(t, p)}, nil
	}},
	{"ZeroCopyReadPacketData", func(t testing.TB, r *bpf.Reader) ([]uint32, error) {
		p, _, err := r.ZeroCopyReadPacketData()
		if err != nil {
			return nil, err
		}
		return []uint32{number(t, p)}, nil
	}},
}

// changes are the calls that another goroutine may make meanwhile. discards marks those that throw
// away the packets captured before.
var changes = []struct {
	name     string
	discards bool
	call     func(w *capture) error
}{
	{"Flush", true, func(w *capture) error { return w.r.Flush() }},
	{"SetFilter with flush", true, func(w *capture) error { return w.r.SetFilter(nil, true) }},
	{"SetFilter without flush", false, func(w *capture) error { return w.r.SetFilter(nil, false) }},
	{"SetExpression with flush", true, func(w *capture) error {
		return w.r.SetExpression("len > 0", true)
	}},
	{"SetExpression without flush", false, func(w *capture) error {
		return w.r.SetExpression("len > 0", false)
	}},
	{"SetExpression that is wrong", false, func(w *capture) error {
		if err := w.r.SetExpression("host", true); !errors.Is(err, bpf.ErrConfig) {
			return fmt.Errorf("ErrConfig is wanted: %w", err)
		}
		return nil
	}},
	{"SetFilter with flush that fails", false, func(w *capture) error {
		w.k.FailNext("BIOCSETF", 1, syscall.EINVAL)
		if err := w.r.SetFilter(nil, true); !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("EINVAL is wanted: %w", err)
		}
		return nil
	}},
	{"Flush that fails", false, func(w *capture) error {
		w.k.FailNext("BIOCFLUSH", 1, syscall.ENXIO)
		if err := w.r.Flush(); !errors.Is(err, syscall.ENXIO) {
			return fmt.Errorf("ENXIO is wanted: %w", err)
		}
		return nil
	}},
	{"SetDirection", false, func(w *capture) error { return w.r.SetDirection(bpf.InOut) }},
	{"Stats", false, func(w *capture) error { _, err := w.r.Stats(); return err }},
	{"LinkTypes", false, func(w *capture) error { _, err := w.r.LinkTypes(); return err }},
	{"SetWriteFilter", false, func(w *capture) error { return w.r.SetWriteFilter(nil) }},
	{"SetReadDeadline", false, func(w *capture) error { return w.r.SetReadDeadline(time.Time{}) }},
}

// combinations runs f for every reading method, mode and change.
func combinations(
	t *testing.T, f func(t *testing.T, w *capture, read func() ([]uint32, error), change func(),
		discards bool),
) {
	for _, rd := range readers {
		for _, c := range changes {
			for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
				t.Run(fmt.Sprintf("%s/%v/%s", rd.name, mode, c.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096,
							ReadTimeout: 10 * time.Millisecond})
						read := func() ([]uint32, error) { return rd.read(t, w.r) }
						f(t, w, read, func() { require.NoError(t, c.call(w)) }, c.discards)
					})
				})
			}
		}
	}
}

// readAll reads until nothing comes for a second.
func readAll(t *testing.T, w *capture, read func() ([]uint32, error)) (got []uint32) {
	t.Helper()
	require.NoError(t, w.r.SetReadDeadline(time.Now().Add(time.Second)))
	for {
		n, err := read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got
		}
		require.NoError(t, err)
		got = append(got, n...)
	}
}

func sequence(from, n uint32) (s []uint32) {
	for i := range n {
		s = append(s, from+i)
	}
	return s
}

func (w *capture) receive(from, n uint32) {
	for _, i := range sequence(from, n) {
		w.em0.Receive(numbered(i, 64))
	}
}

// A reset discards the packets captured before it. The reader delivers the packets captured after
// it. It may have been doing anything at the time.
func TestPacketsCapturedAfterAChangeAreDelivered(t *testing.T) {
	t.Run("the reader sleeps", func(t *testing.T) {
		combinations(t, func(
			t *testing.T, w *capture, read func() ([]uint32, error), change func(), _ bool,
		) {
			go func() {
				time.Sleep(time.Second) // in the time of the bubble
				change()
				time.Sleep(3 * time.Second) // in the time of the bubble
				w.receive(0, 5)
			}()
			require.NoError(t, w.r.SetReadDeadline(time.Now().Add(20*time.Second)))
			got, err := read()
			require.NoError(t, err)
			assert.Equal(t, sequence(0, 5), append(got, readAll(t, w, read)...))
		})
	})
	t.Run("the reader has read the half of a buffer", func(t *testing.T) {
		combinations(t, func(
			t *testing.T, w *capture, read func() ([]uint32, error), change func(), discards bool,
		) {
			w.receive(0, 6)
			got, err := read()
			require.NoError(t, err)
			require.EqualValues(t, 0, got[0])
			change()
			w.receive(6, 6)
			got = append(got, readAll(t, w, read)...)
			if discards && len(got) <= 7 {
				assert.Equal(t, append([]uint32{0}, sequence(6, 6)...), got)
			} else { // nothing is discarded, or the first read had delivered everything
				assert.Equal(t, sequence(0, 12), got)
			}
		})
	})
	t.Run("packets wait in both kernel buffers", func(t *testing.T) {
		combinations(t, func(
			t *testing.T, w *capture, read func() ([]uint32, error), change func(), discards bool,
		) {
			w.receive(0, 40) // 40 records of 96 bytes fill a buffer, and begin the next one with 1 or 2
			w.receive(40, 10)
			change()
			w.receive(50, 10)
			want := sequence(50, 10)
			if !discards {
				want = sequence(0, 60)
			}
			assert.Equal(t, want, readAll(t, w, read))
		})
	})
}

// A read that begins while a reset is under way delivers the packets captured after the reset. If
// the reset fails, it delivers those captured before as well.
func TestReadThatBeginsDuringAReset(t *testing.T) {
	for _, rd := range readers {
		for _, half := range []bool{false, true} {
			for _, fail := range []error{nil, syscall.EINVAL} {
				for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
					t.Run(fmt.Sprintf("%s/half=%v/%v/%v", rd.name, half, fail, mode), func(t *testing.T) {
						readDuringReset(t, rd.read, mode, half, fail)
					})
				}
			}
		}
	}
}

// readDuringReset runs in real time: in a bubble time stands still while a goroutine waits for a
// lock.
func readDuringReset(
	t *testing.T, read func(testing.TB, *bpf.Reader) ([]uint32, error), mode bpf.Mode, half bool,
	fail error,
) {
	begun, end := make(chan struct{}), make(chan struct{})
	slow := bpftest.WithFault(func(op string) error {
		if op != "BIOCFLUSH" {
			return nil
		}
		close(begun)
		<-end
		return fail
	})
	w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: 10 * time.Millisecond},
		slow)
	w.receive(0, 6)
	var got []uint32
	if half {
		var err error
		got, err = read(t, w.r)
		require.NoError(t, err)
	}
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() {
		assert.Equal(t, fail != nil, w.r.Flush() != nil)
		w.receive(6, 6)
	})
	<-begun
	require.NoError(t, w.r.SetReadDeadline(time.Now().Add(lab.Patience)))
	time.AfterFunc(2*time.Millisecond, func() { close(end) }) // while the read below waits for it
	for len(got) == 0 || got[len(got)-1] != 11 {
		n, err := read(t, w.r)
		require.NoError(t, err)
		got = append(got, n...)
	}
	if fail != nil {
		assert.Equal(t, sequence(0, 12), got, "the reset failed, so it discarded nothing")
		return
	}
	require.GreaterOrEqual(t, len(got), 6)
	assert.Equal(t, sequence(6, 6), got[len(got)-6:])
}
