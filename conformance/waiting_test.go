package conformance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A reader that waits with kqueue relies on these rules.
var _ = add(
	rule{name: "kqueue/immediate: one edge for each packet, no level",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			for i := range 5 {
				s.inject(1)
				require.Equal(t, zbuf.Event{Readable: true, Data: i*stride + one}, s.wait(false), "packet %d",
					i+1)
				s.requireQuiet(false, "the edge was taken, the bytes are still there")
			}
			require.Equal(t, 4*stride+one, s.nread())
		}},
	rule{name: "kqueue/immediate: packets before the wait are one edge",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(3)
			require.Equal(t, zbuf.Event{Readable: true, Data: 2*stride + one}, s.wait(false))
			s.requireQuiet(false, "three packets, one edge")
		}},
	rule{name: "kqueue/immediate: an edge under a lease", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.set(zbuf.BIOCIMMEDIATE, 1)
		s.inject(1)
		s.wait(false)
		which, n := s.rotate()
		require.Equal(t, 0, which)
		require.Equal(t, one, n)
		s.requireQuiet(false, "rotation is no wakeup")
		s.inject(1)
		require.Equal(t, zbuf.Event{Readable: true, Data: one + one}, s.wait(false))
		s.requireQuiet(false, "no spin while A is owned")
		s.h[0].Ack()
		s.requireQuiet(false, "an acknowledgement is no wakeup")
	}},
	rule{name: "kqueue/not immediate: no edge before a buffer is full",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(full)
			s.requireQuiet(false, "the buffer is full, but nobody needs it yet")
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: fullLen + one}, s.wait(false))
			s.requireHeader(0, 1, fullLen, 0)
		}},
	rule{name: "kqueue/EV_ADD looks afresh: two full buffers, acknowledged, until the next packet",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(2*full + 1)
			s.requireHeader(0, 1, fullLen, 0)
			s.requireHeader(1, 1, fullLen, 0)
			s.h[0].Ack()
			s.h[1].Ack()
			for range 3 {
				require.Equal(t, zbuf.Event{Readable: true, Data: 2 * fullLen}, s.wait(true),
					"although there is nothing to have")
				which, _ := s.rotate()
				require.Equal(t, -1, which)
			}
			s.requireQuiet(false, "no further edge")
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: fullLen + one}, s.wait(false))
		}},
	rule{name: "kqueue/EV_ADD looks afresh: immediate and bytes in store",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(1)
			s.wait(false)
			s.requireQuiet(false, "taken")
			lag := lab.WatchLag(t)
			var took []lab.Span
			for range 3 {
				from := lag.Now()
				require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true))
				took = append(took, lag.Since(from))
			}
			require.Empty(t, lag.Late(took, quiet), "at once")
			s.requireQuiet(false, "without EV_ADD it is an edge again")
		}},
	rule{name: "kqueue/EV_ADD looks afresh: an owned buffer", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.inject(1)
		s.rotate()
		require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true))
		s.h[0].Ack()
		s.requireQuiet(true, "acknowledged: not ready")
	}},
	rule{name: "kqueue/EV_ADD starts the read timeout of an idle descriptor",
		run: func(t *testing.T, w lab.World) {
			const timeout = 200 * time.Millisecond
			requireLasts(t, timeout-2*tick, func() time.Duration {
				s := zerocopy(t, w, page)
				s.do(zbuf.BIOCSRTIMEOUT, timeval(timeout))
				s.inject(1)
				s.requireQuiet(false, "without EV_ADD nobody started the timeout")
				from := time.Now()
				require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true))
				took := time.Since(from)
				require.Equal(t, 0, int(s.h[0].KernelGen.Load()), "a timeout assigns nothing")
				which, n := s.rotate()
				require.Equal(t, 0, which)
				require.Equal(t, one, n)
				return took
			})
		}},
	rule{name: "kqueue/a timeout that ran out empty makes the next packet an edge",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(50*time.Millisecond))
			s.requireQuiet(true, "no data, no wakeup")
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(false))
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: stride + one}, s.wait(false),
				"timed out stays: immediate for ever")
			s.get(zbuf.BIOCGDLT)
			s.inject(1)
			s.requireQuiet(false, "an ioctl ended it")
		}},
	rule{name: "kqueue/an ioctl stops the running timeout", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.do(zbuf.BIOCSRTIMEOUT, timeval(100*time.Millisecond))
		ev, err := s.Wait(true, 0)
		require.NoError(t, err)
		require.Equal(t, zbuf.Event{}, ev)
		s.stats()
		s.inject(1)
		s.requireQuiet(false, "stopped by BIOCGSTATS")
		require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true), "EV_ADD starts it again")
	}},
	rule{name: "poll/POLLHUP alone: 0 while attached, POLLHUP when not",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lend(page)
			require.True(t, s.Detached(), "before attach")
			s.attach(s.p.A)
			require.False(t, s.Detached())
			s.inject(1)
			require.False(t, s.Detached())
			ev, err := s.Poll(lab.PollHup, 30*time.Millisecond)
			require.NoError(t, err)
			require.Zero(t, ev)
			require.NoError(t, w.Destroy(s.p.A))
			require.True(t, s.Detached(), "the interface has gone")
		}},
	rule{name: "poll/POLLHUP alone does not stop the read timeout",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			const timeout = 200 * time.Millisecond
			s.do(zbuf.BIOCSRTIMEOUT, timeval(timeout))
			from := time.Now()
			ev, err := s.Wait(true, 0)
			require.NoError(t, err)
			require.Equal(t, zbuf.Event{}, ev)
			s.inject(1)
			for time.Since(from) < timeout-5*tick {
				require.False(t, s.Detached())
			}
			require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(false), "it ran on")
		}},
	rule{name: "poll/POLLHUP alone does not start the read timeout",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(20*time.Millisecond))
			s.inject(1)
			require.False(t, s.Detached())
			s.requireQuiet(false, "nobody started it")
		}},
	rule{name: "immediate/switched 1, 0, 1 in zero-copy mode",
		differs: []string{"StickyFlags"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(false))
			s.set(zbuf.BIOCIMMEDIATE, 0)
			s.inject(1)
			if featuresOf(w).StickyFlags {
				require.Equal(t, zbuf.Event{Readable: true, Data: stride + one}, s.wait(false), "it stays on")
				return
			}
			s.requireQuiet(false, "off: no edge")
			s.requireQuiet(true, "off: not ready")
			s.set(zbuf.BIOCIMMEDIATE, 1)
			s.requireQuiet(false, "switching on is no edge")
			s.inject(1)
			require.Equal(t, zbuf.Event{Readable: true, Data: 2*stride + one}, s.wait(false),
				"a packet right after is")
			s.set(zbuf.BIOCIMMEDIATE, 0)
			s.set(zbuf.BIOCIMMEDIATE, 1)
			require.Equal(t, zbuf.Event{Readable: true, Data: 2*stride + one}, s.wait(true),
				"and EV_ADD sees the level")
		}},
	rule{name: "wake/ends a wait under way", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		done := make(chan error, 1)
		go func() {
			time.Sleep(50 * time.Millisecond) // most likely it blocks by then; the result is the same if not
			done <- s.Wake()
		}()
		require.Equal(t, zbuf.Event{Woken: true}, s.wait(false))
		require.NoError(t, <-done)
		s.requireQuiet(false, "once")
	}},
	rule{name: "wake/before the wait is remembered, once", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		require.NoError(t, s.Wake())
		require.NoError(t, s.Wake())
		require.Equal(t, zbuf.Event{Woken: true}, s.wait(false))
		s.requireQuiet(false, "once")
		require.NoError(t, s.Wake())
		require.Equal(t, zbuf.Event{Woken: true}, s.wait(true))
	}},
)

var _ = add(
	rule{name: "flush/after both buffers were acknowledged and one packet came",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.fill()
			s.requireHeader(0, 1, fullLen, 0)
			s.requireHeader(1, 1, fullLen, 0)
			s.h[0].Ack()
			s.h[1].Ack()
			s.inject(1)
			which, _ := s.rotate()
			require.Equal(t, -1, which, "the packet is stuck behind the acknowledged B")
			require.Equal(t, fullLen+one, s.nread())
			s.do(zbuf.BIOCFLUSH, nil)
			require.Zero(t, s.nread(), "B is reclaimed and A emptied")
			which, _ = s.rotate()
			require.Equal(t, -1, which)
			s.requireHeader(0, 1, fullLen, 1)
			s.requireHeader(1, 1, fullLen, 1)
		}},
	rule{name: "flush/while the acknowledged buffer is still the store buffer",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.fill()
			s.h[0].Ack()
			s.h[1].Ack()
			require.Equal(t, 2*fullLen, s.nread(), "neither is reclaimed")
			s.do(zbuf.BIOCFLUSH, nil)
			require.Equal(t, fullLen, s.nread(), "hold A is; store B still counts as assigned")
			which, n := s.rotate()
			require.Equal(t, 1, which, "the stale buffer, again")
			require.Equal(t, fullLen, n)
			s.requireHeader(1, 1, fullLen, 1)
			require.False(t, s.h[1].Owned(), "and no new generation")
			require.Equal(t, fullLen, s.nread())
			want := s.inject(1)
			require.Equal(t, one, s.nread(), "the next packet frees it")
			which, n = s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, one, n)
			s.requireHeader(0, 2, one, 1)
			s.requireFrames(s.contents(0), want...)
		}},
	rule{name: "reset/leaves alone what the process owns", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		first := s.inject(2)
		s.rotate()
		s.inject(3)
		require.Equal(t, stride+one+2*stride+one, s.nread())
		accept := []zbuf.Insn{{Op: 0x06, K: 0xffff}}
		for _, c := range []struct {
			req zbuf.Request
			arg any
		}{
			{zbuf.BIOCFLUSH, nil},
			{zbuf.BIOCSETF, &zbuf.Program{Len: 1, Insns: &accept[0]}},
			{zbuf.BIOCSETIF, ifreq(s.p.A)},
			{zbuf.BIOCSETIF, ifreq(s.p.B)},
		} {
			s.do(c.req, c.arg)
			require.Equal(t, stride+one, s.nread(), "%v empties the store buffer alone", c.req)
			s.requireHeader(0, 1, stride+one, 0)
			s.requireFrames(s.contents(0), first...)
			recv, drop := s.stats()
			require.Zero(t, recv, "%v", c.req)
			require.Zero(t, drop, "%v", c.req)
		}
		s.attach(s.p.A)
		next := s.inject(1)
		s.h[0].Ack()
		more := s.inject(1)
		which, n := s.rotate()
		require.Equal(t, 1, which)
		require.Equal(t, stride+one, n)
		s.requireFrames(s.contents(1), next[0], more[0])
	}},
	rule{name: "reset/leaves alone a pair of owned buffers", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.fill()
		s.do(zbuf.BIOCFLUSH, nil)
		require.Equal(t, 2*fullLen, s.nread())
		s.requireHeader(0, 1, fullLen, 0)
		s.requireHeader(1, 1, fullLen, 0)
		s.inject(1)
		_, drop := s.stats()
		require.Equal(t, 1, int(drop))
		s.h[0].Ack()
		s.h[1].Ack()
		want := s.inject(2)
		_, drop = s.stats()
		require.Equal(t, 1, int(drop))
		which, n := s.rotate()
		require.Equal(t, 0, which)
		s.requireFrames(s.contents(0), want...)
		require.Equal(t, stride+one, n)
	}},
)
