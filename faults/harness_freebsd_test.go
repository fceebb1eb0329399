package faults

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

const readTimeout = 20 * time.Millisecond

// inBothModes runs f in each buffer mode that the kernel has.
func inBothModes(t *testing.T, f func(t *testing.T, w lab.World, mode bpf.Mode)) {
	lab.InModes(t, bpf.ZeroCopy, bpf.Buffered, f)
}

// seeded is the test's source of chance; ZBUF_SEED repeats a run.
func seeded(t *testing.T) *rand.Rand {
	return rand.New(rand.NewPCG(lab.RandomSeed(t), 0))
}

func upTo(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most)))
}

func open(t *testing.T, ifname string, cfg bpf.Config) *bpf.Reader {
	t.Helper()
	r, err := bpf.Open(ifname, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// traffic is numbered frames that arrive at a pair's A, each known to have arrived.
type traffic struct {
	p     *lab.Pair
	sent  atomic.Uint32
	ahead func(sent uint32) bool // whether it must wait
	stop  atomic.Bool
	ended chan error
	turn  sync.Mutex // held for a batch: while a test holds it, no packet is sent
}

// batch is few enough for the wire's queues.
const batch = 32

// frame is number n.
func frame(n uint32) []byte { return lab.Frame(64+int(n*7%200), n) }

// frameRoom is more than a frame takes in a buffer.
const frameRoom = 320

// send starts traffic, a batch and a pause by turns.
func send(p *lab.Pair, pause time.Duration, ahead func(sent uint32) bool) *traffic {
	f := &traffic{p: p, ahead: ahead, ended: make(chan error, 1)}
	go func() { f.ended <- f.run(pause) }()
	return f
}

func (f *traffic) run(pause time.Duration) error {
	for !f.stop.Load() {
		if f.ahead != nil && f.ahead(f.sent.Load()+batch) {
			time.Sleep(time.Millisecond) // until the reader has caught up: the loop looks again
			continue
		}
		f.turn.Lock()
		err := f.once(batch)
		f.turn.Unlock()
		if err != nil {
			return err
		}
		time.Sleep(pause) // the pause between batches is the load
	}
	return nil
}

func (f *traffic) once(n int) error {
	for range n {
		if err := f.p.Post(f.p.A, frame(f.sent.Load())); err != nil {
			return err
		}
		f.sent.Add(1)
	}
	return f.p.SettleNow()
}

// end stops it and returns how many frames there were.
func (f *traffic) end() (uint32, error) {
	f.stop.Store(true)
	err := <-f.ended
	f.ended <- err // for the next caller
	return f.sent.Load(), err
}

// tally counts the fates of numbered frames.
type tally struct {
	Sent, Received, Dropped uint64 // written; shown to the descriptor; without room
	Delivered               uint64
	Again, Torn             uint64 // twice or out of order; not as they were sent
	next                    uint32
}

func (s *tally) take(data []byte) {
	n := lab.Seed(data)
	if n < s.next {
		s.Again++
		return
	}
	if !bytes.Equal(data, frame(n)) {
		s.Torn++
	}
	s.next = n + 1
	s.Delivered++
}

// lost is everything that was promised and not kept.
func (s *tally) lost() uint64 {
	lost := s.Again + s.Torn
	for _, pair := range [][2]uint64{{s.Sent, s.Received}, {s.Received, s.Delivered + s.Dropped}} {
		lost += max(pair[0], pair[1]) - min(pair[0], pair[1])
	}
	return lost
}

// capture takes the packets of a reader, in a separate goroutine.
type capture struct {
	r     *bpf.Reader
	tally tally
	taken atomic.Uint64 // tally.Delivered, for others to look at
	ended chan error
	from  *traffic // with watched
}

func take(r *bpf.Reader) *capture {
	c := &capture{r: r, ended: make(chan error, 1)}
	go func() { c.ended <- c.run() }()
	return c
}

// run ends when the deadline passes or the interface goes.
func (c *capture) run() error {
	for {
		l, err := c.r.Lease(context.Background())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		for p := range l.Packets() {
			c.tally.take(p.Data())
		}
		c.taken.Store(c.tally.Delivered)
		if err := errors.Join(l.Err(), l.Release()); err != nil {
			return err
		}
	}
}

// room holds traffic back while the reader is so far behind that its buffers might overflow.
func (c *capture) room() func(sent uint32) bool {
	most := uint64(c.r.BufferSize() / frameRoom)
	return func(sent uint32) bool { return uint64(sent) > c.taken.Load()+most }
}

// end waits until the reader has delivered the rest, once the traffic is over, and counts.
func (c *capture) end(sent uint32) (tally, error) {
	c.r.SetReadDeadline(time.Now())
	if err := <-c.ended; err != nil {
		return c.tally, err
	}
	s, err := c.r.Stats()
	c.tally.Sent, c.tally.Received, c.tally.Dropped = uint64(sent), s.Received, s.Dropped
	return c.tally, err
}

// watched captures with a reader of its own while f does its worst, and sees to it that nothing is
// lost. What f returns is the number of faults.
func watched(
	t *testing.T, p *lab.Pair, cfg bpf.Config, f func(c *capture, sent func() uint32) (faults int),
) {
	t.Helper()
	r := open(t, p.A, cfg)
	c := take(r)
	tr := send(p, 10*time.Millisecond, c.room())
	c.from = tr
	defer tr.end() // also when f gives up
	faults := f(c, tr.sent.Load)
	sent, err := tr.end()
	assert.NoError(t, err)
	sum, err := c.end(sent)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	requireNothingLost(t, sum)
	assert.Zero(t, sum.Dropped, "it had room")
	lab.Report(t, lab.Faults, uint64(faults))
	lab.Report(t, lab.Packets, sum.Delivered)
	lab.Report(t, lab.Lost, sum.lost())
}

func requireNothingLost(t *testing.T, sum tally) {
	t.Helper()
	t.Logf("%+v", sum)
	require.NotZero(t, sum.Delivered)
	require.Zero(t, sum.lost(), "sent = received = delivered + dropped, in order, none twice, "+
		"none torn: %+v", sum)
}

// wired is the number of pages that the kernel may not page out.
func wired(t *testing.T) int {
	n, err := sysctl.Host().Int64("vm.stats.vm.v_wire_count")
	require.NoError(t, err)
	return int(n)
}

// listeners returns the descriptors on an interface that net.bpf.stats knows, without the pair's
// own.
func listeners(t *testing.T, ifname string) []sysctl.Listener {
	all, err := sysctl.Host().BPF().Stats()
	require.NoError(t, err)
	var on []sysctl.Listener
	own := 0
	for _, l := range all {
		if l.Interface != ifname {
			continue
		}
		if l.PID == os.Getpid() && l.HeaderComplete && own < 2 {
			own++
			continue
		}
		on = append(on, l)
	}
	return on
}

// requireNobodyLeft waits until nobody but the pair has a descriptor on the interface.
func requireNobodyLeft(t *testing.T, ifname string) {
	t.Helper()
	var on []sysctl.Listener
	err := lab.Until(func() (bool, error) {
		on = listeners(t, ifname)
		return len(on) == 0, nil
	})
	require.NoError(t, err, "left in net.bpf.stats: %+v", on)
}

// requireWiredBack waits until no more than 1,024 pages, one pair of the largest buffers, are wired
// than before.
func requireWiredBack(t *testing.T, before int) {
	t.Helper()
	var now int
	err := lab.Until(func() (bool, error) {
		now = wired(t)
		return now-before < 1024, nil
	})
	require.NoError(t, err, "%d pages are wired, %d were before", now, before)
	t.Logf("wired pages: %d before, %d after", before, now)
}
