// Package merge merges the packets of several readers by time.
//
//	m := merge.New(50*time.Millisecond, em0, em1)
//	for p, err := range m.Packets(ctx) {
//		if err != nil {
//			log.Print(err)
//			continue // the other interfaces go on
//		}
//		use(p.Reader, p.Time, p.Data)
//	}
//
// Each interface delivers its packets in order, but one of them may be a little behind another. So
// the Merger holds a packet until every other interface has delivered a later one. It never holds a
// packet for longer than the bound: an interface that is idle, or has gone, delays nobody for
// longer. A packet that comes after a later one has gone out is late. The loop delivers it out of
// order, and [Merger.Late] counts it. No packet is dropped.
//
// The Merger copies packets out of the readers' memory and releases each lease at once, so the
// kernel has both buffers to fill. If the loop's body is slow, the Merger copies at most about a
// buffer of each reader. Then the kernel's buffers fill up, and [bpf.Stats] counts what the kernel
// drops.
//
// All readers must have the same [bpf.Clock]. The bound comes on top of the readers' ReadTimeout,
// which also puts interfaces behind each other. So the bound should be longer than that.
package merge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
)

// Packet is one captured packet. It is the caller's to keep. The packets of one lease share an
// allocation. So a program that keeps a few of them for long should clone their Data.
type Packet struct {
	Reader  int       // which of the readers captured it, from 0, in the order of New
	Time    time.Time // as bpf.Packet.Time returns it
	WireLen int       // bytes the packet had
	Data    []byte    // the captured bytes, from the link header on
}

// A Merger merges what its readers capture. One goroutine at a time uses it, but any goroutine may
// call Late.
type Merger struct {
	bound time.Duration
	news  chan struct{} // an input has changed

	mu       sync.Mutex // guards what follows, and the inputs
	room     sync.Cond  // an input has room, or the loop is over
	inputs   []*input
	arrivals uint64
	over     bool
	latest   time.Time // of the packets that went out
	late     uint64
}

// input holds the packets that one reader has delivered and the loop has not.
type input struct {
	r     *bpf.Reader
	queue []item // in the order of arrival
	bytes int
	done  bool // nothing more comes in this loop
}

// item is a packet or an error.
type item struct {
	Packet
	err     error
	arrived time.Time
	number  uint64 // of the arrival
}

// before reports whether a goes out before b.
func (a *item) before(b *item) bool {
	if a.err != nil || b.err != nil {
		return b.err == nil || a.err != nil && a.number < b.number
	}
	if c := a.Time.Compare(b.Time); c != 0 {
		return c < 0
	}
	return a.number < b.number
}

// New returns a Merger of readers. It holds a packet for at most bound. The readers stay the
// caller's to close.
func New(bound time.Duration, readers ...*bpf.Reader) *Merger {
	m := &Merger{bound: bound, news: make(chan struct{}, 1)}
	m.room.L = &m.mu
	for _, r := range readers {
		m.inputs = append(m.inputs, &input{r: r})
	}
	return m
}

// Late returns how many packets the loop has delivered behind a later one.
func (m *Merger) Late() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.late
}

// Packets returns a loop over the packets of all readers, merged by time. It reads until the body
// leaves it, all readers have ended, or ctx is done.
//
// An error of a reader, such as bpf.ErrInterfaceGone, os.ErrClosed or bpf.ErrCorrupt, has a turn of
// its own, behind the packets of that reader. Its text names the interface, and Packet.Reader is
// the reader. The other readers go on, and so does this one after bpf.ErrCorrupt. The loop ends
// when the last reader has ended. If ctx is done, the loop delivers everything that was captured.
// Its last turn has context.Cause(ctx). So the loop never ends in silence.
//
// If the body leaves the loop, the next loop goes on with the next packet.
func (m *Merger) Packets(ctx context.Context) iter.Seq2[Packet, error] {
	return func(yield func(Packet, error) bool) {
		if len(m.inputs) == 0 {
			yield(Packet{}, errors.New("merge: no readers"))
			return
		}
		stop := m.start(ctx)
		defer stop()
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			it, wait, over := m.next(time.Now())
			switch {
			case it != nil:
				if !yield(it.Packet, it.err) {
					return
				}
			case over:
				if ctx.Err() != nil {
					yield(Packet{}, context.Cause(ctx))
				}
				return
			default:
				timer.Reset(wait)
				select {
				case <-m.news:
				case <-timer.C:
				}
			}
		}
	}
}

// start has a goroutine read each reader. stop ends and awaits them. What they have taken stays in
// the queues.
func (m *Merger) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = false
	for i, in := range m.inputs {
		in.done = false
		readers.Go(func() { m.read(ctx, i, in) })
	}
	return func() {
		cancel()
		m.mu.Lock()
		m.over = true
		m.room.Broadcast()
		m.mu.Unlock()
		readers.Wait()
	}
}

// read fills the queue of one input.
func (m *Merger) read(ctx context.Context, reader int, in *input) {
	for final := false; !final; {
		var items []item
		bytes := 0
		l, err := in.r.Lease(ctx)
		if err != nil {
			final = true
		} else {
			items, bytes = copies(l, reader)
			err = l.Err()
			l.Release()
		}
		if err != nil && (ctx.Err() == nil || !errors.Is(err, context.Cause(ctx))) {
			items = append(items, item{
				Packet: Packet{Reader: reader}, err: fmt.Errorf("merge: %s: %w", in.r.Interface(), err),
			})
		}
		final = m.add(in, items, bytes, final)
	}
}

// copies returns the packets of a lease. They share one allocation.
func copies(l bpf.Lease, reader int) (items []item, bytes int) {
	n := 0
	c := l.Cursor()
	for c.Next() {
		n++
		bytes += c.Packet().CapLen()
	}
	items, data := make([]item, 0, n+1), make([]byte, 0, bytes)
	for p := range l.Packets() {
		from := len(data)
		data = append(data, p.Data()...)
		items = append(items, item{Packet: Packet{
			Reader: reader, Time: p.Time(), WireLen: p.WireLen(), Data: data[from:len(data):len(data)],
		}})
	}
	return items, bytes
}

// add queues what came from a reader. It waits for room. It returns true if the input is done.
func (m *Merger) add(in *input, items []item, bytes int, final bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for in.bytes > 0 && in.bytes+bytes > in.r.BufferSize() && !m.over {
		m.room.Wait()
	}
	for i := range items {
		m.arrivals++
		items[i].arrived, items[i].number = now, m.arrivals
	}
	in.queue = append(in.queue, items...)
	in.bytes += bytes
	in.done = final || m.over
	select {
	case m.news <- struct{}{}:
	default:
	}
	return in.done
}

// next takes the item out that goes out now. If there is none, it returns how long the loop may
// wait, and whether the loop is over.
func (m *Merger) next(now time.Time) (it *item, wait time.Duration, over bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first, due *input // those with the first item, and with the one that was held the longest
	all, over := true, true
	wait = time.Hour
	for _, in := range m.inputs {
		over = over && in.done && len(in.queue) == 0
		if len(in.queue) == 0 {
			all = all && in.done
			continue
		}
		head := &in.queue[0]
		if first == nil || head.before(&first.queue[0]) {
			first = in
		}
		left := m.bound - now.Sub(head.arrived)
		if left <= 0 && (due == nil || head.arrived.Before(due.queue[0].arrived)) {
			due = in
		}
		wait = min(wait, left)
	}
	switch {
	case first == nil:
		return nil, wait, over
	case first.queue[0].err != nil:
		return m.out(first), 0, false
	case due != nil && first.queue[0].arrived.After(due.queue[0].arrived.Add(m.bound)):
		return m.out(due), 0, false // what came after its time must not put it off
	case due != nil || all:
		return m.out(first), 0, false
	}
	return nil, wait, false
}

// out takes the first item out of an input.
func (m *Merger) out(in *input) *item {
	it := in.queue[0]
	in.queue[0] = item{}
	in.queue = in.queue[1:]
	in.bytes -= len(it.Data)
	m.room.Broadcast()
	if it.err != nil {
		return &it
	}
	if it.Time.Before(m.latest) {
		m.late++
	} else {
		m.latest = it.Time
	}
	return &it
}
