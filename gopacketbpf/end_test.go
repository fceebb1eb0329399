package gopacketbpf_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

var errWhy = errors.New("the program's own reason")

// endings are the ways in which a capture ends, and what Err returns then. cause is that of the
// context.
var endings = []struct {
	name  string
	end   func(w *capture)
	cause error
	want  error
}{
	{"Close", func(w *capture) { w.h.Close() }, nil, os.ErrClosed},
	{"Close of the Reader", func(w *capture) { w.r.Close() }, nil, os.ErrClosed},
	{"interface destroyed", func(w *capture) { w.em0.Remove() }, nil, bpf.ErrInterfaceGone},
	{"interface moved to another vnet", func(w *capture) { w.em0.MoveAway() }, nil,
		bpf.ErrInterfaceGone},
	{"a system call that fails", func(w *capture) {
		for _, op := range []string{"read", "BIOCROTZBUF"} {
			w.k.FailNext(op, 1, syscall.EIO)
		}
		w.r.SetReadDeadline(time.Time{}) // wakes it
	}, nil, syscall.EIO},
	{"context cancelled", nil, context.Canceled, context.Canceled},
	{"context with a cause", nil, errWhy, errWhy},
	{"context past its deadline", nil, context.DeadlineExceeded, context.DeadlineExceeded},
	{"context with a cause that looks like a pause", nil, os.ErrDeadlineExceeded,
		os.ErrDeadlineExceeded},
	{"context with a cause that looks like a fault", nil, bpf.ErrCorrupt, bpf.ErrCorrupt},
}

// endLater ends the capture after a second of the bubble's time.
func endLater(
	t *testing.T, w *capture, cancel context.CancelCauseFunc, end func(*capture), cause error,
) {
	time.Sleep(time.Second) // in the time of the bubble
	assert.NoError(t, w.h.Err(), "before the end")
	if end == nil {
		cancel(cause)
		return
	}
	end(w)
}

// The channel of Packets ends when the capture does, after every packet that was captured before.
func TestPacketsEnds(t *testing.T) {
	for _, e := range endings {
		for name, source := range sources {
			t.Run(e.name+"/"+name, func(t *testing.T) {
				modes(t, func(t *testing.T, mode bpf.Mode) {
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					w := newCapture(t, ctx, bpf.Config{Mode: mode})
					go func() {
						w.em0.Receive(numbered(1, 60))
						endLater(t, w, cancel, e.end, e.cause)
					}()
					begin, packets := time.Now(), 0
					for p := range source(w.h).Packets() {
						packets++
						assert.EqualValues(t, packets, number(p.Data()))
					}
					assert.Equal(t, 1, packets)
					assert.LessOrEqual(t, time.Since(begin), 2*time.Second)
					assert.ErrorIs(t, w.h.Err(), e.want)
				})
			})
		}
	}
}

// A context whose deadline passes ends the channel as one that is cancelled does. Its error is a
// net.Error with Timeout, which PacketSource would meet again and again.
func TestPacketsEndsAtTheDeadlineOfTheContext(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := newCapture(t, ctx, bpf.Config{Mode: mode})
		begin := time.Now()
		for range sources["PacketSource"](w.h).Packets() {
			assert.Fail(t, "a packet out of nowhere")
		}
		assert.Equal(t, time.Second, time.Since(begin))
		assert.ErrorIs(t, w.h.Err(), context.DeadlineExceeded)
	})
}

// Every read after the end returns io.EOF itself, and the first reason stays.
func TestReadsAfterTheEnd(t *testing.T) {
	for _, e := range endings {
		for _, rd := range readings {
			t.Run(e.name+"/"+rd.name, func(t *testing.T) {
				modes(t, func(t *testing.T, mode bpf.Mode) {
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					w := newCapture(t, ctx, bpf.Config{Mode: mode})
					go endLater(t, w, cancel, e.end, e.cause)
					_, _, err := rd.read(w.h)
					assert.True(t, err == io.EOF, "programs compare: %v", err)
					w.em0.Receive(numbered(1, 60))
					require.NoError(t, w.h.Close())
					for _, again := range readings {
						_, _, err := again.read(w.h)
						assert.True(t, err == io.EOF, "%s: %v", again.name, err)
					}
					assert.ErrorIs(t, w.h.Err(), e.want)
					if e.want != os.ErrClosed {
						assert.NotErrorIs(t, w.h.Err(), os.ErrClosed)
					}
				})
			})
		}
	}
}

// A context that is done ends the capture although packets come as fast as they are read. No memory
// stays mapped.
func TestContextEndsABusyCapture(t *testing.T) {
	const size = 100
	for _, rd := range readings {
		t.Run(rd.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				ctx, cancel := context.WithCancel(t.Context())
				w := newCapture(t, ctx, bpf.Config{Mode: mode, BufferSize: 16 << 10})
				more := func() { // than one for each that is read
					w.em0.Receive(numbered(0, size))
					w.em0.Receive(numbered(0, size))
				}
				for range 1000 {
					more()
					_, _, err := rd.read(w.h)
					require.NoError(t, err)
				}
				cancel()
				most := 3 * w.r.BufferSize() / size
				packets := 0
				for ; packets <= most; packets++ {
					more()
					_, _, err := rd.read(w.h)
					if err == io.EOF {
						break
					}
					require.NoError(t, err)
				}
				assert.LessOrEqual(t, packets, most)
				assert.Greater(t, packets, most/2, "what was captured comes first")
				assert.ErrorIs(t, w.h.Err(), context.Canceled)
				require.NoError(t, w.h.Close())
				assert.Zero(t, w.k.MappedBytes())
			})
		})
	}
}

// A deadline is a pause: PacketSource tries again, and the channel stays open.
func TestDeadlineIsNoEnd(t *testing.T) {
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, t.Context(), bpf.Config{Mode: mode, Immediate: true})
				require.NoError(t, w.r.SetReadDeadline(time.Now()))
				for _, rd := range readings {
					_, _, err := rd.read(w.h)
					var timeout net.Error
					require.ErrorAs(t, err, &timeout, rd.name)
					assert.True(t, timeout.Timeout())
					assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
				}
				assert.NoError(t, w.h.Err())
				packets := source(w.h).Packets()
				time.Sleep(time.Second) // in the time of the bubble: it meets the deadline often
				require.NoError(t, w.r.SetReadDeadline(time.Time{}))
				w.em0.Receive(numbered(7, 60))
				p, open := <-packets
				require.True(t, open)
				assert.EqualValues(t, 7, number(p.Data()))
				require.NoError(t, w.h.Close())
				_, open = <-packets
				assert.False(t, open)
			})
		})
	}
}

// Somebody else's lease is no end, and loses nothing.
func TestLeaseOutIsNoEnd(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, t.Context(), bpf.Config{Mode: mode, Immediate: true})
		w.em0.Receive(numbered(1, 60))
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		packets := sources["PacketSource"](w.h).Packets()
		w.em0.Receive(numbered(2, 60))
		time.Sleep(time.Second) // in the time of the bubble: it meets the lease often
		for _, rd := range readings {
			_, _, err = rd.read(w.h)
			assert.ErrorIs(t, err, bpf.ErrLeaseOut, rd.name)
		}
		require.NoError(t, l.Release())
		p, open := <-packets
		require.True(t, open)
		assert.EqualValues(t, 2, number(p.Data()))
		assert.NoError(t, w.h.Err())
		require.NoError(t, w.h.Close())
		_, open = <-packets
		assert.False(t, open)
	})
}

// corrupting is a kernel in buffered mode whose first answers end with a record that is longer than
// the rest of the buffer.
type corrupting struct {
	*bpftest.Kernel
	answers int
	lost    []uint32 // the numbers of the packets that were cut
}

type corruptingDescriptor struct {
	zbuf.Backend
	k *corrupting
}

func (k *corrupting) Open() (zbuf.Backend, error) {
	d, err := k.Kernel.Open()
	return corruptingDescriptor{d, k}, err
}

func (d corruptingDescriptor) Read(p []byte) (int, error) {
	n, err := d.Backend.Read(p)
	if n > 0 && d.k.answers > 0 {
		d.k.answers--
		d.k.lost = append(d.k.lost, number(p[n-60:n]))
		n -= 8
	}
	return n, err
}

// A corrupt buffer is said by the read that meets it, and by Err although PacketSource discards it.
// The packets before and behind it come.
func TestCorruptIsNotLost(t *testing.T) {
	const corrupt = 2
	run := func(t *testing.T, reads func(w *capture) (read func() ([]byte, error))) {
		synctest.Test(t, func(t *testing.T) {
			k := bpftest.New()
			w := &capture{k: k, em0: k.AddInterface("em0", zbuf.DLT_EN10MB)}
			system := &corrupting{Kernel: k, answers: corrupt}
			w.open(t, t.Context(), bpf.Config{System: system})
			go func() {
				for n := range uint32(6) { // mostly two packets a buffer; the reader may be faster
					w.em0.Receive(numbered(n, 60))
					if n%2 == 1 {
						time.Sleep(time.Second) // in the time of the bubble
						if n < 2*corrupt {
							assert.ErrorIs(t, w.h.Err(), bpf.ErrCorrupt, "before the end")
							assert.NotErrorIs(t, w.h.Err(), os.ErrClosed)
						}
					}
				}
				w.h.Close()
			}()
			var numbers []uint32
			said := 0
			read := reads(w)
			data, err := read()
			for ; err != io.EOF; data, err = read() {
				if err != nil {
					require.ErrorIs(t, err, bpf.ErrCorrupt)
					said++
				} else {
					numbers = append(numbers, number(data))
				}
			}
			assert.Len(t, system.lost, corrupt)
			assert.Equal(t, corrupt, said)
			all := slices.Sorted(slices.Values(slices.Concat(numbers, system.lost)))
			assert.Equal(t, []uint32{0, 1, 2, 3, 4, 5}, all)
			assert.IsIncreasing(t, numbers)
			err = w.h.Err()
			assert.ErrorIs(t, err, bpf.ErrCorrupt)
			assert.ErrorIs(t, err, os.ErrClosed)
			assert.ErrorContains(t, err, "gopacketbpf: 2 corrupt, the first: bpf: corrupt buffer at byte ")
			var where *bpf.CorruptError
			assert.ErrorAs(t, err, &where)
		})
	}
	for _, rd := range readings {
		t.Run(rd.name, func(t *testing.T) {
			run(t, func(w *capture) func() ([]byte, error) {
				return func() ([]byte, error) {
					data, _, err := rd.read(w.h)
					return data, err
				}
			})
		})
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *capture) func() ([]byte, error) {
				// The channel of Packets would let packets that are not copied grow stale.
				packets := source(w.h)
				return func() ([]byte, error) {
					p, err := packets.NextPacket()
					if err != nil {
						return nil, err
					}
					return p.Data(), nil
				}
			})
		})
	}
}
