package packet_test

import (
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/packet"
)

func racyRead(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	s := newStream()
	var others, readers sync.WaitGroup
	others.Go(func() { s.send(a, -1) })
	require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Millisecond)))
	for range 5 {
		readers.Go(func() {
			buf, other := make([]byte, 1024), make([]byte, 1024)
			for range 50 {
				_, _, err := b.ReadFrom(buf)
				copy(buf, other)
				if err != nil {
					assertTimeout(t, err)
					b.SetReadDeadline(time.Now().Add(time.Millisecond))
					continue
				}
				<-s.room
			}
		})
	}
	readers.Wait()
	require.NoError(t, b.SetReadDeadline(time.Time{}))
	require.NoError(t, a.Close())
	others.Go(func() { s.drain(b) }) // so the sender goes on, and sees that it is over
	require.NoError(t, lab.Until(func() (bool, error) { return len(s.room) == 0, nil }))
	b.Close()
	others.Wait()
}

func racyWrite(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	s := newStream()
	var others, writers sync.WaitGroup
	defer others.Wait()
	defer b.Close()
	others.Go(func() { s.drain(b) })
	defer writers.Wait()
	require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Millisecond)))
	for i := range 5 {
		writers.Go(func() {
			frame, to := a.frame(experiment, numbered(i, 0)), &packet.Addr{HardwareAddr: a.peer}
			for range 50 {
				s.room <- struct{}{}
				_, err := a.WriteTo(frame, to)
				frame[len(frame)-1]++
				if err != nil {
					<-s.room
					assertTimeout(t, err)
					a.SetWriteDeadline(time.Now().Add(time.Millisecond))
				}
			}
		})
	}
}

func readDeadlineAlone(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	require.NoError(t, a.SetReadDeadline(longAgo))
	_, _, err := a.receive()
	assertTimeout(t, err)
	require.NoError(t, a.send(numbered(1, 0)))
	b.requireNext(t, numbered(1, 0))
}

func writeDeadlineAlone(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	require.NoError(t, a.SetWriteDeadline(longAgo))
	assertTimeout(t, a.send(numbered(1, 0)))
	require.NoError(t, b.send(numbered(2, 0)))
	a.requireNext(t, numbered(2, 0))
}

func pastDeadline(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	for n := range 3 {
		require.NoError(t, b.send(numbered(n, 0)))
	}
	a.requireNext(t, numbered(0, 0))
	require.NoError(t, a.SetDeadline(longAgo))
	for range 2 {
		n, from, err := a.ReadFrom(make([]byte, 2048))
		assertTimeout(t, err)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Zero(t, n)
		assert.Nil(t, from)
		n, err = a.WriteTo(a.frame(experiment, numbered(9, 0)), b.LocalAddr())
		assertTimeout(t, err)
		assert.Zero(t, n)
	}
	require.NoError(t, a.SetDeadline(time.Time{}))
	a.requireNext(t, numbered(1, 0)) // it was there all the time
	a.requireNext(t, numbered(2, 0))
	require.NoError(t, a.send(numbered(3, 0)))
	b.requireNext(t, numbered(3, 0))
}

// waiting returns when n goroutines have begun, and have had time to wait. Nobody sees from outside
// that they do. If they don't, a test finds less, and holds nevertheless.
func waiting(t *testing.T, begun *atomic.Int32, n int32) {
	require.NoError(t, lab.Until(func() (bool, error) { return begun.Load() >= n, nil }))
	time.Sleep(20 * time.Millisecond) // the time that they have
}

func presentDeadline(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	s := newStream()
	var set atomic.Bool
	var begun atomic.Int32
	var calls, drain sync.WaitGroup
	drain.Go(func() { s.drain(b) })
	for range 3 {
		calls.Go(func() {
			begun.Add(1)
			_, _, err := a.receive()
			assertTimeout(t, err)
			assert.True(t, set.Load(), "it ended before the deadline was set")
		})
	}
	calls.Go(func() {
		begun.Add(1)
		assertTimeout(t, s.send(a, -1))
		assert.True(t, set.Load(), "it ended before the deadline was set")
	})
	waiting(t, &begun, 4)
	set.Store(true)
	require.NoError(t, a.SetDeadline(longAgo))
	calls.Wait()
	b.Close()
	drain.Wait()
}

func futureDeadline(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	s := newStream()
	var calls, drain sync.WaitGroup
	drain.Go(func() { s.drain(b) })
	until := time.Now().Add(50 * time.Millisecond)
	require.NoError(t, a.SetDeadline(until))
	for range 2 {
		calls.Go(func() {
			_, _, err := a.receive()
			assertTimeout(t, err)
			assert.False(t, time.Now().Before(until), "it ended early")
		})
	}
	calls.Go(func() {
		assertTimeout(t, s.send(a, -1))
		assert.False(t, time.Now().Before(until), "it ended early")
	})
	calls.Wait()
	require.NoError(t, b.SetReadDeadline(longAgo))
	drain.Wait()
	require.NoError(t, b.SetReadDeadline(time.Time{}))
	go echo(b)
	requireRoundTrip(t, a, 1<<20)
}

func closeEndsCalls(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	s := newStream()
	var begun atomic.Int32
	var calls, drain sync.WaitGroup
	drain.Go(func() { s.drain(b) })
	require.NoError(t, a.SetDeadline(time.Now().Add(time.Hour)))
	for range 3 {
		calls.Go(func() {
			begun.Add(1)
			_, _, err := a.receive()
			assert.ErrorIs(t, err, net.ErrClosed)
		})
	}
	calls.Go(func() {
		begun.Add(1)
		assert.ErrorIs(t, s.send(a, -1), net.ErrClosed)
	})
	waiting(t, &begun, 4)
	require.NoError(t, a.Close())
	calls.Wait()
	b.Close()
	drain.Wait()
}

func afterClose(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	require.NoError(t, b.send(numbered(1, 0)))
	require.NoError(t, b.send(numbered(2, 0)))
	a.requireNext(t, numbered(1, 0))
	require.NoError(t, a.Close())
	_, _, read := a.receive()
	_, stats := a.Stats()
	for op, err := range map[string]error{
		"read": read, "getsockopt": stats, "write": a.send(numbered(1, 0)), "close": a.Close(),
		"set": a.SetDeadline(longAgo), "setsockopt": a.SetBPF(nil),
	} {
		var oe *net.OpError
		require.ErrorAs(t, err, &oe, op)
		assert.Equal(t, op, oe.Op)
		assert.ErrorIs(t, err, net.ErrClosed, op)
		assert.ErrorIs(t, err, fs.ErrClosed, op)
		assert.False(t, oe.Timeout())
	}
	for _, err := range []error{a.SetReadDeadline(longAgo), a.SetWriteDeadline(longAgo),
		a.SetPromiscuous(true), a.SetPromiscuous(false), a.JoinGroup(someGroup),
		a.LeaveGroup(someGroup)} {
		assert.ErrorIs(t, err, net.ErrClosed)
	}
	assert.Equal(t, &packet.Addr{HardwareAddr: w.ifi[0].HardwareAddr}, a.LocalAddr())
}

func allAtOnce(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	go echo(b)
	var calls sync.WaitGroup
	for range w.many(30) {
		for _, call := range []func(){
			func() { a.receive() },
			func() { a.send(numbered(1, 0)) },
			func() { a.SetDeadline(time.Now().Add(10 * time.Millisecond)) },
			func() { a.SetReadDeadline(longAgo) },
			func() { a.SetWriteDeadline(longAgo) },
			func() { a.SetBPF(nil) },
			func() { a.Stats() },
			func() { a.SetPromiscuous(true) },
			func() { a.SetPromiscuous(false) },
			func() { a.JoinGroup(someGroup) },
			func() { a.LeaveGroup(someGroup) },
			func() { a.LocalAddr() },
		} {
			calls.Go(call)
		}
	}
	calls.Wait()
	requireRoundTrip(t, a, 1<<20)
}
