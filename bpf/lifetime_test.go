package bpf_test

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A loop that leaves before a good packet has seen nothing corrupt.
func TestErrAfterALoopThatLeavesEarly(t *testing.T) {
	w := newCapture(t, bpf.Config{BufferSize: 4096})
	w.receive(0, 10)
	for leave := range 10 {
		l, err := w.r.Lease(t.Context())
		require.NoError(t, err)
		n := 0
		for range l.Packets() {
			if n++; n > leave {
				break
			}
		}
		assert.Equal(t, leave+1, n)
		assert.NoError(t, l.Err(), "after %d packets", n)
		require.NoError(t, l.Release())
		w.receive(0, 10)
	}
}

// forget opens a Reader and drops it, without Close, once use has taken something from it.
//
//go:noinline
func forget(t *testing.T, k *bpftest.Kernel, use func(*bpf.Reader)) {
	r, err := bpf.Open("em0", bpf.Config{System: k, BufferSize: 4096, ReadTimeout: time.Millisecond})
	require.NoError(t, err)
	use(r)
}

// Memory that a Reader has given to the program stays mapped, also if the program drops the Reader.
// Once the program has given it back, nothing stays mapped.
func TestMemoryOfAForgottenReader(t *testing.T) {
	var cursor bpf.Cursor
	var packet bpf.Packet
	var data []byte
	for _, c := range []struct {
		name  string
		use   func(*bpf.Reader)
		stays bool
		ok    func() bool // the memory that the program has is as it was
	}{
		{"a Cursor", func(r *bpf.Reader) {
			l, err := r.Lease(t.Context())
			require.NoError(t, err)
			cursor = l.Cursor()
		}, true, func() bool { return cursor.Next() && number(t, cursor.Packet().Data()) == 0 }},
		{"a Packet", func(r *bpf.Reader) {
			l, err := r.Lease(t.Context())
			require.NoError(t, err)
			for packet = range l.Packets() {
				break
			}
		}, true, func() bool { return number(t, packet.Data()) == 0 }},
		{"data of ZeroCopyReadPacketData", func(r *bpf.Reader) {
			var err error
			data, _, err = r.ZeroCopyReadPacketData()
			require.NoError(t, err)
		}, true, func() bool { return number(t, data) == 0 }},
		{"a copy", func(r *bpf.Reader) {
			var err error
			data, _, err = r.ReadPacket(t.Context())
			require.NoError(t, err)
		}, false, func() bool { return number(t, data) == 0 }},
		{"a loop that was left", func(r *bpf.Reader) {
			for _, err := range r.Packets(t.Context()) {
				require.NoError(t, err)
				break
			}
		}, false, func() bool { return true }},
		{"nothing", func(*bpf.Reader) {}, false, func() bool { return true }},
		{"a lease that was released", func(r *bpf.Reader) {
			l, err := r.Lease(t.Context())
			require.NoError(t, err)
			require.NoError(t, l.Release())
		}, false, func() bool { return true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := bpftest.New(zerocopyOn(true))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			forget(t, k, func(r *bpf.Reader) {
				for i := range uint32(100) { // both buffers are full, so nothing is copied out
					em0.Receive(numbered(i, 64))
				}
				c.use(r)
			})
			require.NoError(t, lab.Until(func() (bool, error) {
				runtime.GC()
				return k.OpenCount() == 0 && (c.stays || k.MappedBytes() == 0), nil
			}), "the descriptor is closed")
			assert.Equal(t, c.stays, k.MappedBytes() > 0)
			assert.True(t, c.ok())
		})
	}
}

// A context that lives on keeps nothing of the Readers that were closed.
func TestCloseLeavesNothingInTheContext(t *testing.T) {
	ctx := &countedContext{Context: t.Context(), done: make(chan struct{})}
	for _, when := range []string{"idle", "a lease is out", "a packet was copied",
		"a read is under way"} {
		t.Run(when, func(t *testing.T) {
			w := newCapture(t, bpf.Config{BufferSize: 4096, ReadTimeout: time.Millisecond})
			w.receive(0, 2)
			ended := make(chan error, 1)
			switch when {
			case "a packet was copied":
				_, _, err := w.r.ReadPacket(ctx)
				require.NoError(t, err)
			case "a read is under way":
				go func() {
					for {
						if _, _, err := w.r.ReadPacket(ctx); err != nil {
							ended <- err
							return
						}
					}
				}()
				require.NoError(t, lab.Until(func() (bool, error) {
					s, err := w.r.Stats()
					return s.Packets == 2, err
				}))
			default:
				l, err := w.r.Lease(ctx)
				require.NoError(t, err)
				if when == "idle" {
					require.NoError(t, l.Release())
				}
			}
			require.NoError(t, w.r.Close())
			if when == "a read is under way" {
				require.ErrorIs(t, <-ended, os.ErrClosed)
			}
			assert.Zero(t, ctx.watchers)
			assert.NotZero(t, ctx.watched)
		})
	}
}

// countedContext counts the functions that context.AfterFunc has left in it.
type countedContext struct {
	context.Context
	done     chan struct{}
	watched  int
	watchers int
}

func (c *countedContext) Done() <-chan struct{} { return c.done }

func (c *countedContext) AfterFunc(func()) func() bool {
	c.watched++
	c.watchers++
	stopped := false
	return func() bool {
		if stopped {
			return false
		}
		stopped = true
		c.watchers--
		return true
	}
}

// Close and Release come while a reset is in the kernel. Afterwards the reset looks at lent memory.
func TestCloseDuringAReset(t *testing.T) {
	var w *capture
	var lease bpf.Lease
	var others sync.WaitGroup
	hook := bpftest.WithTrace(func(op string) {
		if op != "BIOCFLUSH" {
			return
		}
		others.Go(func() { assert.NoError(t, w.r.Close()) })
		for w.r.SetReadDeadline(time.Time{}) == nil {
			runtime.Gosched() // until Close has begun
		}
		released := make(chan struct{})
		others.Go(func() {
			assert.NoError(t, lease.Release())
			close(released)
		})
		select {
		case <-released:
		case <-time.After(50 * time.Millisecond): // it waits for the reset
		}
	})
	w = newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 4096}, hook)
	w.receive(0, 100)
	var err error
	lease, err = w.r.Lease(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.r.Flush())
	others.Wait()
	assert.Zero(t, w.k.MappedBytes())
}

func readOf(t *testing.T, r *bpf.Reader, n int) error {
	_, err := readers[n%len(readers)].read(t, r)
	return err
}

// Close may come at any moment of a reset, and of a read.
func TestCloseBesideResetsAndReads(t *testing.T) {
	k := bpftest.New(zerocopyOn(true))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		for n := range 400 {
			r, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode, BufferSize: 4096, Immediate: true})
			require.NoError(t, err)
			var others sync.WaitGroup
			for _, call := range []func() error{
				r.Flush,
				func() error { return r.SetFilter(nil, true) },
				func() error { _, err := r.Stats(); return err },
				func() error { return readOf(t, r, n) },
			} {
				others.Go(func() {
					for {
						if err := call(); err != nil {
							assert.ErrorIs(t, err, os.ErrClosed)
							return
						}
					}
				})
			}
			for i := range uint32(n % 50) {
				em0.Receive(numbered(i, 64))
			}
			runtime.Gosched()
			require.NoError(t, r.Close())
			others.Wait()
			require.Zero(t, k.OpenCount())
			require.Zero(t, k.MappedBytes())
		}
	}
}

// One ENXIO can come from a rename between two system calls.
func TestOneLookThatFailsIsNotTheEnd(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: 10 * time.Millisecond})
		w.k.FailNext("index", 1, syscall.ENXIO)
		go func() {
			time.Sleep(5 * time.Second) // in the time of the bubble
			w.receive(0, 1)
		}()
		p, _, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 0, number(t, p))
	})
}

// Since 16 an interface that bpf can listen on need not be a network interface.
func TestTapWithoutAnIndex(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		noIndex := bpftest.WithFault(func(op string) error {
			if op == "index" {
				return syscall.ENXIO
			}
			return nil
		})
		w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: 10 * time.Millisecond}, noIndex,
			bpftest.WithFeatures(bpftest.Features{IfList: true}))
		go func() {
			time.Sleep(5 * time.Second) // in the time of the bubble
			w.receive(0, 1)
			time.Sleep(5 * time.Second) // in the time of the bubble
			w.em0.Remove()
		}()
		p, info, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 0, number(t, p))
		assert.Zero(t, info.InterfaceIndex())
		_, _, err = w.r.ReadPacket(t.Context())
		assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
	})
}

// Only an error of the sandbox is ErrSandboxed.
func TestErrSandboxedIsTheSandboxs(t *testing.T) {
	w := newCapture(t, bpf.Config{WriteFilter: []xbpf.RawInstruction{{Op: 0x06}}})
	require.NoError(t, w.r.Sandbox(bpf.Sandbox{Write: true}))
	for _, c := range []struct {
		name      string
		call      func() error
		want      error
		sandboxed bool
	}{
		{"the write filter refuses", func() error { _, err := w.r.Write(numbered(0, 64)); return err },
			syscall.EPERM, false},
		{"too long", func() error { _, err := w.r.Write(make([]byte, 4000)); return err },
			syscall.EMSGSIZE, false},
		{"interface down", func() error {
			w.em0.SetUp(false)
			defer w.em0.SetUp(true)
			_, err := w.r.Write(numbered(0, 64))
			return err
		}, syscall.ENETDOWN, false},
		{"Flush that fails", func() error {
			w.k.FailNext("BIOCFLUSH", 1, syscall.EINVAL)
			return w.r.Flush()
		}, syscall.EINVAL, false},
		{"SetFilter", func() error { return w.r.SetFilter(nil, true) }, nil, true},
		{"SetExpression", func() error { return w.r.SetExpression("tcp", true) }, nil, true},
		{"SetDirection", func() error { return w.r.SetDirection(bpf.In) }, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.call()
			require.Error(t, err)
			if c.want != nil {
				assert.ErrorIs(t, err, c.want)
			}
			assert.Equal(t, c.sandboxed, strings.Contains(err.Error(), bpf.ErrSandboxed.Error()), "%v", err)
		})
	}
	no := newCapture(t, bpf.Config{})
	require.NoError(t, no.r.Sandbox(bpf.Sandbox{}))
	_, err := no.r.Write(numbered(0, 64))
	assert.ErrorIs(t, err, bpf.ErrSandboxed, "writing was given up")
}

// The counters miss packets that arrive between the sample of the kernel's counters and the reset
// that zeroes them, as the documentation of Stats says. They miss no others.
func TestStatsAreLowerBounds(t *testing.T) {
	for _, meanwhile := range []uint32{0, 3} {
		var w *capture
		hook := bpftest.WithTrace(func(op string) {
			if op == "BIOCFLUSH" {
				w.receive(0, meanwhile)
			}
		})
		w = newCapture(t, bpf.Config{}, hook)
		w.receive(0, 10)
		require.NoError(t, w.r.Flush())
		w.receive(0, 7)
		s, err := w.r.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, 17, s.Received, "%d packets meanwhile", meanwhile)
	}
}

func TestZeroPacket(t *testing.T) {
	var p bpf.Packet
	assert.Empty(t, p.Data())
	assert.Zero(t, p.CapLen())
	assert.Zero(t, p.WireLen())
	assert.NotPanics(t, func() { p.Time() })
	sec, nsec := p.Timestamp()
	assert.Zero(t, sec)
	assert.Zero(t, nsec)
}

// The reason for a mode is one line, for a log.
func TestReasonIsOneLine(t *testing.T) {
	k := bpftest.New(zerocopyOn(false))
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k})
	require.NoError(t, err)
	defer r.Close()
	_, reason := r.Mode()
	require.ErrorIs(t, reason, bpf.ErrZeroCopyRefused)
	assert.NotContains(t, reason.Error(), "\n")
}
