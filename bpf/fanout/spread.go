package fanout

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
)

// handSize is how many packets are dealt at a time: so many that taking a hand and telling of it costs nothing beside
// dealing it, so few that a lease has enough for everybody.
const handSize = 256

// Who is through with a lease looks for the next one before going to sleep: as many times as it was at work for perTurn, but not
// for ever. A time costs less than a tenth of that; to be woken costs as much as handling many packets.
const (
	perTurn   = time.Microsecond
	mostTurns = 1000
	dealTurns = 32 // while somebody deals a hand: about as long as that takes
)

// hand is a run of packets of the lease. docs/design.md, "Fan-out", has the states and who owns it in each.
type hand struct {
	packets *[handSize]bpf.Packet // in the order of capture; when dealt, worker by worker
	n       int
	ends    []uint32 // of each worker's packets in it
	dealt   atomic.Bool
}

// of returns worker i's packets of a hand that is dealt.
func (h *hand) of(i int) []bpf.Packet {
	from := uint32(0)
	if i > 0 {
		from = h.ends[i-1]
	}
	return h.packets[from:h.ends[i]:h.ends[i]]
}

// spreader owns the workers' goroutines and the hands.
type spreader struct {
	linkType uint32
	hash     func(linkType uint32, packet []byte) uint32 // nil is FlowHash
	handle   func(worker int, packets []bpf.Packet) error
	workers  []*worker
	modulo   divisor        // their number
	running  sync.WaitGroup // goroutines

	pending atomic.Int32  // workers that are not through with the lease, and Run's goroutine until it waits for them
	over    chan struct{} // pending has come to 0
	turns   int           // that Run's goroutine looks for that

	hands []hand // more than the lease has

	mu      sync.Mutex // for all that follows
	changed sync.Cond  // one more is walked or dealt, or end is known
	walked  int        // hands that may be dealt
	taken   int        // hands that somebody has dealt, or is dealing
	end     int        // hands that there are; up to a Hash that failed
	failed  *PanicError
}

// worker is one worker's, and Run's while that is through.
type worker struct {
	number   int
	wake     chan struct{}
	err      error
	panicked *PanicError

	// What it deals with.
	hand [handSize]bpf.Packet
	at   [handSize]uint32 // which worker's
}

var errGoexit = errors.New("fanout: Handle or Hash has called runtime.Goexit")

func newSpreader(linkType uint32, cfg Config) (*spreader, error) {
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Workers < 0 {
		return nil, fmt.Errorf("%w: Workers %d: must be positive, or 0 for one for each processor", ErrConfig, cfg.Workers)
	}
	if cfg.Handle == nil {
		return nil, fmt.Errorf("%w: Handle is missing", ErrConfig)
	}
	s := &spreader{linkType: linkType, hash: cfg.Hash, handle: cfg.Handle, workers: make([]*worker, cfg.Workers), modulo: newDivisor(cfg.Workers), over: make(chan struct{}, 1)}
	s.changed.L = &s.mu
	for i := range s.workers {
		w := &worker{number: i, wake: make(chan struct{}, 1)}
		s.workers[i] = w
		s.running.Go(func() {
			for turns := 0; receive(w.wake, turns); {
				turns = s.work(w)
			}
		})
	}
	return s, nil
}

// stop ends the goroutines.
func (s *spreader) stop() {
	for _, w := range s.workers {
		close(w.wake)
	}
	s.running.Wait()
}

// spread has the workers handle l, and releases it when all of them are through.
func (s *spreader) spread(l bpf.Lease) error {
	defer l.Release()
	s.begin(l)
	s.handleAll(l)
	err := s.result()
	if e := l.Err(); e != nil {
		return errors.Join(err, e)
	}
	return err
}

// begin makes all hands empty, and as many as l may need.
func (s *spreader) begin(l bpf.Lease) {
	for i := range s.hands[:s.walked] {
		s.hands[i].dealt.Store(false)
	}
	const minRecord = 26 // a record header, up to its last field
	if most := l.Len()/minRecord/handSize + 2; most > len(s.hands) {
		s.hands = append(s.hands, make([]hand, most-len(s.hands))...)
	}
	s.walked, s.taken, s.end = 0, 0, math.MaxInt
	s.pending.Store(1)
}

// handleAll returns when everybody is through. Run's goroutine does the work of one worker itself.
func (s *spreader) handleAll(l bpf.Lease) {
	defer s.through() // before the lease goes, also if Handle or Hash ends this goroutine
	own := s.workers[len(s.workers)-1]
	if n := s.walk(l); n == 0 {
		return
	} else if n == 1 {
		s.taken = 1
		s.deal(own, 0)
		if own = s.wakeThoseWithPackets(); own == nil {
			return
		}
	}
	s.pending.Add(1)
	s.turns = s.work(own)
}

// walk lists the packets of l, and returns how many hands they are. If more than one, the other workers are woken, and
// deal and handle them while this goes on.
func (s *spreader) walk(l bpf.Lease) int {
	c, h := 0, s.emptyHand(0)
	n := 0
	for p := range l.Packets() {
		if n == handSize {
			h.n = n
			s.publish(c+1, math.MaxInt)
			if c == 0 {
				for _, w := range s.workers[:len(s.workers)-1] {
					s.wake(w)
				}
			}
			c, n = c+1, 0
			h = s.emptyHand(c)
		}
		h.packets[n] = p
		n++
	}
	if h.n = n; n > 0 {
		c++
	}
	s.publish(c, c)
	return c
}

func (s *spreader) emptyHand(c int) *hand {
	h := &s.hands[c]
	if h.packets == nil {
		h.packets, h.ends = new([handSize]bpf.Packet), make([]uint32, len(s.workers))
	}
	return h
}

// publish says how many hands are walked, and how many there are.
func (s *spreader) publish(walked, end int) {
	s.mu.Lock()
	s.walked, s.end = walked, min(s.end, end)
	s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *spreader) wake(w *worker) {
	s.pending.Add(1)
	w.wake <- struct{}{}
}

// wakeThoseWithPackets in the only hand, except the last of them, which it returns.
func (s *spreader) wakeThoseWithPackets() (last *worker) {
	if s.end == 0 {
		return nil // it could not be dealt
	}
	for i, w := range s.workers {
		if len(s.hands[0].of(i)) == 0 {
			continue
		}
		if last != nil {
			s.wake(last)
		}
		last = w
	}
	return last
}

// through waits for the workers. Those that failed have left packets in their lists.
func (s *spreader) through() {
	if s.pending.Add(-1) != 0 {
		receive(s.over, s.turns)
	}
	failed := s.failed != nil
	for _, w := range s.workers {
		failed = failed || w.err != nil
	}
	if failed {
		for i := range s.hands[:s.walked] {
			clear(s.hands[i].packets[:])
		}
	}
}

// result of a lease that everybody is through with.
func (s *spreader) result() error {
	if s.failed != nil {
		panic(s.failed)
	}
	var errs []error
	for _, w := range s.workers {
		if w.panicked != nil {
			panic(w.panicked)
		}
		if w.err != nil {
			errs = append(errs, w.err)
		}
	}
	return errors.Join(errs...)
}

// work is what a worker does for one lease. It returns how many times to look for what comes next.
func (s *spreader) work(w *worker) (turns int) {
	began := time.Now()
	defer func() {
		if s.pending.Add(-1) == 0 {
			s.over <- struct{}{}
		}
	}()
	w.err = errGoexit
	defer func() {
		if v := recover(); v != nil {
			w.panicked = &PanicError{Worker: w.number, Value: v, Stack: debug.Stack()}
		}
	}()
	w.err = s.handleHands(w)
	return int(min(time.Since(began)/perTurn, mostTurns))
}

// handleHands handles w's packets of all hands, in order, and helps dealing.
func (s *spreader) handleHands(w *worker) error {
	for c := 0; s.await(w, c); c++ {
		packets := s.hands[c].of(w.number)
		if len(packets) == 0 {
			continue
		}
		err := s.handle(w.number, packets)
		clear(packets) // whoever keeps them has none
		if err != nil {
			return err
		}
	}
	return nil
}

// await returns when hand c is dealt. Until then it deals what nobody else does: that one, or if somebody is at it
// later ones. It returns false if there is no hand c.
func (s *spreader) await(w *worker, c int) bool {
	for !s.hands[c].dealt.Load() {
		next, ok := s.take(c)
		if !ok {
			return false
		}
		if next >= 0 {
			s.deal(w, next)
		}
	}
	return true
}

// take takes a hand to deal; or waits until c is dealt, and returns -1. It returns false if there is no hand c.
func (s *spreader) take(c int) (next int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for turns := dealTurns; ; turns-- {
		switch {
		case c >= s.end:
			return 0, false
		case s.hands[c].dealt.Load():
			return -1, true
		case s.taken < min(s.walked, s.end):
			s.taken++
			return s.taken - 1, true
		}
		if turns <= 0 {
			s.changed.Wait()
			continue
		}
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

// receive returns false if c is closed. Before it sleeps it lets others run so often, and looks again: they may be about to send.
func receive(c <-chan struct{}, turns int) bool {
	for range turns {
		select {
		case _, ok := <-c:
			return ok
		default:
			runtime.Gosched()
		}
	}
	_, ok := <-c
	return ok
}

// deal sorts hand c by worker.
func (s *spreader) deal(w *worker, c int) {
	dealt := false
	defer func() {
		if !dealt {
			s.drop(c, recover())
		}
	}()
	h := &s.hands[c]
	if len(s.workers) == 1 {
		h.ends[0] = uint32(h.n)
	} else {
		s.sort(w, h)
	}
	dealt = true
	s.mu.Lock()
	h.dealt.Store(true)
	s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *spreader) sort(w *worker, h *hand) {
	packets, at := h.packets[:h.n], w.at[:h.n]
	clear(h.ends)
	s.hashes(at, packets)
	for i, hash := range at {
		to := s.modulo.of(hash)
		at[i] = to
		h.ends[to]++
	}
	begin := uint32(0)
	for i, count := range h.ends {
		h.ends[i] = begin // moves to the end as the list fills
		begin += count
	}
	hand := w.hand[:copy(w.hand[:], packets)]
	for i, p := range hand {
		end := &h.ends[at[i]]
		packets[*end] = p
		*end++
	}
	clear(hand)
}

// hashes sets to[i] to that of packets[i].
func (s *spreader) hashes(to []uint32, packets []bpf.Packet) {
	if s.hash == nil {
		flowHashes(to, s.linkType, packets)
		return
	}
	for i, p := range packets {
		to[i] = s.hash(s.linkType, p.Data())
	}
}

// drop ends the lease in front of hand c, whose packets can't be told apart because Hash has panicked, or ended its goroutine: v
// is nil then.
func (s *spreader) drop(c int, v any) {
	s.mu.Lock()
	s.end = min(s.end, c)
	if v != nil {
		s.failed = &PanicError{Worker: -1, Value: v, Stack: debug.Stack()}
	}
	s.mu.Unlock()
	s.changed.Broadcast()
}
