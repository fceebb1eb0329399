package bpf_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
)

// readOnce calls one reading method, as rnd has it. It returns false when the Reader is closed.
func (u *user) readOnce(rnd *rand.Rand) bool {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	done := u.h.moment().at
	if rnd.IntN(2) == 0 {
		in := time.Duration(rnd.IntN(60)) * time.Millisecond
		done += in
		ctx, cancel = context.WithTimeout(ctx, in)
	}
	defer cancel()
	switch rnd.IntN(8) {
	case 0:
		return u.loop(rnd, ctx, done)
	case 1:
		return u.packetReader(rnd, ctx, done)
	}
	c := call{span: span{begin: u.h.moment()}}
	var frames [][]byte
	var lease bpf.Lease
	var err error
	method := rnd.IntN(5)
	if method >= 3 && u.several {
		method = 1 // the next call of anybody would end the data's life
	}
	switch method {
	case 0:
		lease, err = u.r.Lease(ctx)
	case 1:
		var p []byte
		p, _, err = u.r.ReadPacket(ctx)
		frames = [][]byte{p}
	case 2:
		var n int
		b := make([]byte, 2048)
		n, _, err = u.r.ReadInto(ctx, b)
		frames = [][]byte{b[:n]}
	case 3:
		var p []byte
		p, _, err = u.r.ReadSlice(ctx)
		frames = [][]byte{p}
	default:
		if rnd.IntN(2) == 0 {
			u.h.setDeadline(u.r, time.Duration(rnd.IntN(60))*time.Millisecond)
		}
		var p []byte
		p, _, err = u.r.ZeroCopyReadPacketData()
		frames = [][]byte{p}
	}
	c.end = u.h.moment()
	if err != nil {
		c.since = done
		return u.failed(rnd, c, err)
	}
	if method != 0 {
		u.passed.Add(1)
	} else {
		cur := lease.Cursor()
		for cur.Next() {
			frames = append(frames, cur.Packet().Data())
		}
		assert.NoError(u.t, cur.Err())
	}
	assert.NoError(u.t, u.h.deliver(c, frames), "method %d", method)
	if method == 0 {
		u.useLease(rnd, lease, len(frames))
	}
	if !u.several && rnd.IntN(4) == 0 {
		s, err := u.r.Stats()
		assert.True(u.t, err == nil || errors.Is(err, os.ErrClosed))
		assert.Equal(u.t, u.passed.Load(), s.Packets, "Stats after method %d", method)
	}
	if rnd.IntN(4) == 0 {
		pause(rnd)
	}
	return true
}

// failed takes the error of a reading method. It returns false when the Reader is closed.
func (u *user) failed(rnd *rand.Rand, c call, err error) bool {
	switch {
	case errors.Is(err, os.ErrClosed):
		return false
	case errors.Is(err, bpf.ErrLeaseOut):
		time.Sleep(100 * time.Microsecond) // time stands still while anybody is busy
		return true
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		c.err, c.deadline = true, errors.Is(err, os.ErrDeadlineExceeded)
		assert.NoError(u.t, u.h.deliver(c, nil))
		pause(rnd) // or a deadline that has passed would be met for ever, in no time
		return true
	}
	return assert.NoError(u.t, err)
}

// loop has some turns of the loop over packets, each of which is a call of a reading method. It
// returns false when the Reader is closed. ctx is done at that time.
func (u *user) loop(rnd *rand.Rand, ctx context.Context, done time.Duration) bool {
	turns := 1 + rnd.IntN(100)
	c := call{span: span{begin: u.h.moment()}}
	for p, err := range u.r.Packets(ctx) {
		c.end = u.h.moment()
		if err != nil {
			c.since = done
			return u.failed(rnd, c, err)
		}
		assert.NoError(u.t, u.h.deliver(c, [][]byte{p.Data()}), "in the loop")
		u.passed.Add(1)
		if turns--; turns == 0 {
			return true
		}
		if rnd.IntN(8) == 0 {
			pause(rnd)
		}
		c = call{span: span{begin: u.h.moment()}}
	}
	return assert.Fail(u.t, "the loop ended in silence")
}

// packetReader reads some packets with a PacketReader. It returns false when the Reader is closed.
// ctx is done at that time.
func (u *user) packetReader(rnd *rand.Rand, ctx context.Context, done time.Duration) bool {
	one := u.r.PacketReader()
	defer one.Release()
	b := make([]byte, 2048)
	for range 1 + rnd.IntN(100) {
		var p []byte
		var n int
		var err error
		c := call{span: span{begin: u.h.moment()}}
		switch rnd.IntN(3) {
		case 0:
			p, _, err = one.ReadPacket(ctx)
		case 1:
			p, _, err = one.ReadSlice(ctx)
		default:
			n, _, err = one.ReadInto(ctx, b)
			p = b[:n]
		}
		c.end = u.h.moment()
		if err != nil {
			c.since = done
			return u.failed(rnd, c, err)
		}
		assert.NoError(u.t, u.h.deliver(c, [][]byte{p}), "with a PacketReader")
		u.passed.Add(1)
		if !u.several && rnd.IntN(8) == 0 {
			s, err := u.r.Stats()
			assert.True(u.t, err == nil || errors.Is(err, os.ErrClosed))
			assert.Equal(u.t, u.passed.Load(), s.Packets, "Stats with a PacketReader")
		}
		if rnd.IntN(8) == 0 {
			pause(rnd)
		}
	}
	return true
}

// useLease goes over a lease in one of several ways, and releases it, now or later, here or
// elsewhere.
func (u *user) useLease(rnd *rand.Rand, l bpf.Lease, n int) {
	leave := rnd.IntN(n + 1)
	switch rnd.IntN(3) {
	case 0:
		seen := 0
		for range l.Packets() {
			if seen++; seen > leave {
				break
			}
		}
		assert.NoError(u.t, l.Err())
		u.passed.Add(uint64(seen))
	case 1:
		c := l.Cursor()
		for range leave {
			assert.True(u.t, c.Next())
		}
		u.r.Count(&c)
		u.passed.Add(uint64(leave))
	}
	if rnd.IntN(3) > 0 {
		assert.NoError(u.t, l.Release())
		return
	}
	later := rand.New(rand.NewPCG(rnd.Uint64(), 5))
	u.held.Go(func() {
		pause(later)
		assert.NoError(u.t, l.Release())
		assert.ErrorIs(u.t, l.Release(), bpf.ErrReleased)
	})
}

// readToTheEnd reads until nothing comes for a second.
func (u *user) readToTheEnd() {
	u.held.Wait()
	u.h.setDeadline(u.r, time.Second)
	for {
		c := call{span: span{begin: u.h.moment()}}
		l, err := u.r.Lease(context.Background())
		c.end = u.h.moment()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.err, c.deadline = true, true
			require.NoError(u.t, u.h.deliver(c, nil))
			return
		}
		require.NoError(u.t, err)
		var frames [][]byte
		for p := range l.Packets() {
			frames = append(frames, p.Data())
		}
		u.passed.Add(uint64(len(frames)))
		require.NoError(u.t, l.Err())
		require.NoError(u.t, u.h.deliver(c, frames))
		require.NoError(u.t, l.Release())
	}
}
