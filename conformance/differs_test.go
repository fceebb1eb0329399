package conformance

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// mtu is the longest payload of a frame on a new wire.
const mtu = 1500

// queue is one registration of a descriptor's filters, made once and edge-triggered, as Go's own
// poller makes it.
type queue struct {
	t *testing.T
	q lab.Queue
}

// queue registers EVFILT_READ and EVFILT_WRITE. It returns nil, after having seen the refusal,
// where there is no EVFILT_WRITE.
func (s *sess) queue() *queue {
	s.t.Helper()
	q, err := s.Watch(lab.FilterRead, lab.FilterWrite)
	if !featuresOf(s.w).WriteFilter {
		require.Equal(s.t, error(syscall.EPERM), err)
		return nil
	}
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, q.Close()) })
	return &queue{s.t, q}
}

// requireNext compares the edges that come next. The kernel tells one registration after the other,
// so the edges of a wakeup may come one by one.
func (q *queue) requireNext(why string, want ...bpftest.Edge) {
	q.t.Helper()
	var got []bpftest.Edge
	for until := time.Now().Add(lab.Patience); len(got) < len(want) && time.Now().Before(until); {
		edges, err := q.q.Wait(max(time.Until(until), 0))
		require.NoError(q.t, err)
		got = append(got, edges...)
	}
	require.ElementsMatch(q.t, want, got, why)
}

func (q *queue) requireQuiet(why string) {
	q.t.Helper()
	for until := time.Now().Add(quiet); time.Now().Before(until); {
		edges, err := q.q.Wait(max(time.Until(until), 0))
		require.NoError(q.t, err)
		require.Empty(q.t, edges, why)
	}
}

func readEdge(n int) bpftest.Edge { return bpftest.Edge{Filter: lab.FilterRead, Data: n} }

var writeEdge = bpftest.Edge{Filter: lab.FilterWrite, Data: mtu}

var writeFilter = []string{"WriteFilter"}

// Rules of a registration for reading and writing that is made once and never again.
var _ = add(
	rule{name: "kqueue/EVFILT_READ works, EVFILT_WRITE in later releases",
		differs: writeFilter,
		run: func(t *testing.T, w lab.World) {
			for _, s := range []*sess{zerocopy(t, w, page), open(t, w)} {
				q, err := s.Watch(lab.FilterRead)
				require.NoError(t, err)
				require.NoError(t, q.Close())
				q, err = s.Watch(lab.FilterWrite)
				if featuresOf(w).WriteFilter {
					require.NoError(t, err)
					require.NoError(t, q.Close())
				} else {
					require.Equal(t, error(syscall.EPERM), err)
				}
			}
			_, err := zerocopy(t, w, page).Watch(-3) // EVFILT_AIO
			require.Equal(t, error(syscall.EPERM), err)
		}},
	rule{name: "kqueue once/writable while attached: the data is the MTU",
		differs: []string{"WriteFilter", "AttachWakes"},
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair().lend(page)
			q := s.queue()
			if q == nil {
				return
			}
			q.requireQuiet("not attached: not writable")
			s.attach(s.p.A)
			q.requireNext("attaching brings it", writeEdge)
			q.requireQuiet("once")
			require.NoError(t, w.SetMTU(s.p.A, 1000))
			q.requireQuiet("another MTU is no edge")
			late := s.queue()
			late.requireNext("a registration sees it at once", bpftest.Edge{Filter: lab.FilterWrite,
				Data: 1000})
		}},
	rule{name: "kqueue once/every wakeup of the readers is an edge of both filters",
		differs: writeFilter,
		run: func(t *testing.T, w lab.World) {
			timeoutOfAnother(t, w)
			s := zerocopy(t, w, page)
			q := s.queue()
			if q == nil {
				return
			}
			q.requireNext("attached", writeEdge)
			s.p.Send(t, lab.Frame(64, 1))
			q.requireQuiet("what goes out is none, as long as it is stored")
			s.inject(full - 1)
			q.requireQuiet("packets that are stored are none")
			s.inject(1)
			q.requireNext("a buffer is full", readEdge(fullLen+one), writeEdge)
			s.h[0].Ack()
			s.rotate()
			q.requireQuiet("BIOCROTZBUF is none")
		}},
	rule{name: "kqueue once/a tail brings no edge, in immediate mode every packet does",
		differs: writeFilter,
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			q := s.queue()
			if q == nil {
				return
			}
			q.requireNext("attached", writeEdge)
			s.inject(1)
			q.requireQuiet("a tail")
			s.set(zbuf.BIOCIMMEDIATE, 1)
			q.requireQuiet("switching on is none")
			s.inject(1)
			q.requireNext("the next packet", readEdge(stride+one), writeEdge)
			s.inject(1)
			q.requireNext("and the next, though nothing was read", readEdge(2*stride+one), writeEdge)
		}},
	rule{name: "kqueue once/nobody starts the read timeout again after an ioctl, but a wakeup",
		differs: writeFilter,
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(50*time.Millisecond))
			q := s.queue() // looks, and so starts it
			if q == nil {
				return
			}
			// Taken before there is a packet: edges of one filter that nobody takes become one. If the
			// timeout has run out by the time that the packet comes, the packet wakes instead of it.
			q.requireNext("attached", writeEdge)
			require.NoError(t, s.p.Post(s.p.A, lab.Frame(64, 1)))
			q.requireNext("it ran out", readEdge(one), writeEdge)
			s.stats()
			s.inject(1)
			q.requireQuiet("an ioctl stopped it, and waiting does not start it")
			s.inject(full - 2)
			q.requireQuiet("nor do packets")
			s.inject(1)
			q.requireNext("a full buffer wakes", readEdge(fullLen+one), writeEdge)
			s.h[0].Ack()
			s.rotate()
			q.requireQuiet("and nothing after it")
		}},
	rule{name: "kqueue once/detaching brings no edge but for stored bytes in immediate mode",
		differs: writeFilter,
		run: func(t *testing.T, w lab.World) {
			for immediate := range uint32(2) {
				s := zerocopy(t, w, page)
				s.set(zbuf.BIOCIMMEDIATE, immediate)
				q := s.queue()
				if q == nil {
					return
				}
				q.requireNext("attached", writeEdge)
				s.inject(1)
				if immediate == 1 {
					q.requireNext("a packet", readEdge(one), writeEdge)
				}
				require.NoError(t, w.Destroy(s.p.A))
				if immediate == 1 {
					q.requireNext("readable, not writable", readEdge(one))
				}
				q.requireQuiet("no end of file either")
			}
		}},
)

var attachWakes = []string{"AttachWakes"}

var _ = add(
	rule{name: "attach/BIOCSETIF to another interface wakes who waits, or not",
		differs: attachWakes,
		run: func(t *testing.T, w lab.World) {
			s, o := zerocopy(t, w, page), lab.NewPair(t, w)
			s.inject(full + 1)
			require.True(t, s.wait(false).Readable)
			s.requireQuiet(false, "taken")
			s.attach(o.A)
			require.True(t, s.h[0].Owned(), "the hold buffer stays the process's")
			if featuresOf(w).AttachWakes {
				require.Equal(t, zbuf.Event{Readable: true, Data: fullLen}, s.wait(false))
			}
			s.requireQuiet(false, "no edge")
			s.attach(o.A)
			s.requireQuiet(false, "the same interface again")
		}},
	rule{name: "attach/BIOCSETIF to another interface starts the read timeout, or not",
		differs: attachWakes,
		run: func(t *testing.T, w lab.World) {
			s, o := zerocopy(t, w, page), lab.NewPair(t, w)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(50*time.Millisecond))
			s.attach(o.A)
			o.Inject(t, lab.Frame(64, 1))
			if featuresOf(w).AttachWakes {
				require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(false))
				return
			}
			s.requireQuiet(false, "nobody started it")
			require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true), "EV_ADD does")
		}},
	rule{name: "promisc/the mark of a descriptor goes with its interface, or stays",
		differs: []string{"StalePromisc"},
		run: func(t *testing.T, w lab.World) {
			s, o := open(t, w).pair(), lab.NewPair(t, w)
			s.attach(s.p.A)
			s.do(zbuf.BIOCPROMISC, nil)
			require.NoError(t, w.Destroy(s.p.A))
			s.attach(o.A)
			require.Equal(t, by[uint8](featuresOf(w).StalePromisc, 1, 0), listeners(t, w, o.A)[0].Promisc)
			// Leaving o.A any other way could bring the kernel down.
			require.NoError(t, w.Destroy(o.A))
		}},
	rule{name: "promisc/leaving another interface with the mark is a panic",
		only: model, why: "it would bring the kernel down", differs: []string{"StalePromisc"},
		run: func(t *testing.T, w lab.World) {
			s, o := open(t, w).pair(), lab.NewPair(t, w)
			s.attach(s.p.A)
			s.do(zbuf.BIOCPROMISC, nil)
			require.NoError(t, w.Destroy(s.p.A))
			s.attach(o.A)
			d := s.Desc
			s.Desc = nil
			err := d.Close()
			if featuresOf(w).StalePromisc {
				require.ErrorIs(t, err, bpftest.ErrPanic)
				return
			}
			require.NoError(t, err)
		}},
)

// timeoutOfAnother shows that EV_ADD in another kqueue starts the read timeout for all. It is a
// part of the rule about the edges of every wakeup.
func timeoutOfAnother(t *testing.T, w lab.World) {
	s := zerocopy(t, w, page)
	s.do(zbuf.BIOCSRTIMEOUT, timeval(50*time.Millisecond))
	q := s.queue()
	if q == nil {
		return
	}
	q.requireNext("attached", writeEdge)
	for range 2 {
		s.stats()
		s.inject(1)
		q.requireQuiet("an ioctl stopped it")
		require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true), "EV_ADD starts it")
		q.requireNext("the registration that was made once has its own edge", readEdge(one),
			writeEdge)
		_, n := s.rotate()
		require.Equal(t, one, n)
		s.h[0].Ack()
		s.h[1].Ack()
		s.requireQuiet(false, "taken here")
		q.requireQuiet("and there")
	}
}
