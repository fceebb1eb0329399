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

// chunkSize is the number of packets that a worker sorts at a time. With so many, claiming a chunk
// and reporting it sorted cost almost nothing beside sorting it. With so few, a lease has chunks
// for all workers.
const chunkSize = 256

// A worker that is done with a lease polls for the next one before it sleeps: once for each perPoll
// that it worked, and at most mostPolls times. A poll takes less than a tenth of perPoll. Being
// woken takes as long as handling many packets.
const (
	perPoll   = time.Microsecond
	mostPolls = 1000
	sortPolls = 32 // while another worker sorts a chunk: about as long as that takes
)

// chunk is a run of packets of the lease. docs/design.md, "Fan-out", has its states and says which
// goroutine may touch it in each.
type chunk struct {
	packets *[chunkSize]bpf.Packet // in the order of capture; when sorted, worker by worker
	n       int
	ends    []uint32 // of each worker's packets in it
	sorted  atomic.Bool
}

// of returns worker i's packets of a chunk that is sorted.
func (h *chunk) of(i int) []bpf.Packet {
	from := uint32(0)
	if i > 0 {
		from = h.ends[i-1]
	}
	return h.packets[from:h.ends[i]:h.ends[i]]
}

// spreader has the workers' goroutines and the chunks.
type spreader struct {
	linkType uint32
	hash     func(linkType uint32, packet []byte) uint32 // nil is FlowHash
	handle   func(worker int, packets []bpf.Packet) error
	workers  []*worker
	modulo   divisor        // their number
	running  sync.WaitGroup // goroutines

	// pending counts workers that are not done with the lease, and Run's goroutine until it waits.
	pending atomic.Int32
	over    chan struct{} // pending has come to 0
	polls   int           // that Run's goroutine makes for that

	chunks []chunk // more than the lease has

	mu      sync.Mutex // for all that follows
	changed sync.Cond  // one more is listed or sorted, or end is known
	listed  int        // chunks that may be sorted
	claimed int        // chunks that a worker has sorted, or is sorting
	end     int        // chunks that there are; up to a Hash that failed
	failed  *PanicError
}

// worker belongs to one worker's goroutine, and to Run's while that worker is done.
type worker struct {
	number   int
	wake     chan struct{}
	err      error
	panicked *PanicError

	// Sorting a chunk uses these.
	scratch [chunkSize]bpf.Packet
	at      [chunkSize]uint32 // the worker of each packet
}

var errGoexit = errors.New("fanout: Handle or Hash has called runtime.Goexit")

func newSpreader(linkType uint32, cfg Config) (*spreader, error) {
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Workers < 0 {
		return nil, fmt.Errorf("%w: Workers is %d: set a positive number, or 0 for the processors",
			ErrConfig, cfg.Workers)
	}
	if cfg.Handle == nil {
		return nil, fmt.Errorf("%w: Handle is nil: set it to a function", ErrConfig)
	}
	s := &spreader{
		linkType: linkType, hash: cfg.Hash, handle: cfg.Handle,
		workers: make([]*worker, cfg.Workers), modulo: newDivisor(cfg.Workers),
		over: make(chan struct{}, 1),
	}
	s.changed.L = &s.mu
	for i := range s.workers {
		w := &worker{number: i, wake: make(chan struct{}, 1)}
		s.workers[i] = w
		s.running.Go(func() {
			for polls := 0; receive(w.wake, polls); {
				polls = s.work(w)
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

// spread has the workers handle l, and releases it when all of them are done.
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

// begin makes all chunks empty. It makes as many as l may need.
func (s *spreader) begin(l bpf.Lease) {
	for i := range s.chunks[:s.listed] {
		s.chunks[i].sorted.Store(false)
	}
	const minRecord = 26 // a record header, up to its last field
	if most := l.Len()/minRecord/chunkSize + 2; most > len(s.chunks) {
		s.chunks = append(s.chunks, make([]chunk, most-len(s.chunks))...)
	}
	s.listed, s.claimed, s.end = 0, 0, math.MaxInt
	s.pending.Store(1)
}

// handleAll returns when all workers are done. Run's goroutine does the work of one worker itself.
func (s *spreader) handleAll(l bpf.Lease) {
	defer s.done() // before the lease is released, also if Handle or Hash ends this goroutine
	last := s.workers[len(s.workers)-1]
	if n := s.walk(l); n == 0 {
		return
	} else if n == 1 {
		s.claimed = 1
		s.sort(last, 0)
		if last = s.wakeWorkersWithPackets(); last == nil {
			return
		}
	}
	s.pending.Add(1)
	s.polls = s.work(last)
}

// walk lists the packets of l, and returns the number of chunks. If there is more than one, walk
// wakes the other workers. They sort and handle the chunks while walk goes on.
func (s *spreader) walk(l bpf.Lease) int {
	c, h := 0, s.emptyChunk(0)
	n := 0
	for p := range l.Packets() {
		if n == chunkSize {
			h.n = n
			s.publish(c+1, math.MaxInt)
			if c == 0 {
				for _, w := range s.workers[:len(s.workers)-1] {
					s.wake(w)
				}
			}
			c, n = c+1, 0
			h = s.emptyChunk(c)
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

func (s *spreader) emptyChunk(c int) *chunk {
	h := &s.chunks[c]
	if h.packets == nil {
		h.packets, h.ends = new([chunkSize]bpf.Packet), make([]uint32, len(s.workers))
	}
	return h
}

// publish tells the workers how many chunks are listed, and how many there are.
func (s *spreader) publish(listed, end int) {
	s.mu.Lock()
	s.listed, s.end = listed, min(s.end, end)
	s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *spreader) wake(w *worker) {
	s.pending.Add(1)
	w.wake <- struct{}{}
}

// wakeWorkersWithPackets wakes the workers that have packets in the only chunk, except the last of
// them, which it returns.
func (s *spreader) wakeWorkersWithPackets() (last *worker) {
	if s.end == 0 {
		return nil // Hash failed
	}
	for i, w := range s.workers {
		if len(s.chunks[0].of(i)) == 0 {
			continue
		}
		if last != nil {
			s.wake(last)
		}
		last = w
	}
	return last
}

// done waits for the workers. Workers that failed have left packets in their lists.
func (s *spreader) done() {
	if s.pending.Add(-1) != 0 {
		receive(s.over, s.polls)
	}
	failed := s.failed != nil
	for _, w := range s.workers {
		failed = failed || w.err != nil
	}
	if failed {
		for i := range s.chunks[:s.listed] {
			clear(s.chunks[i].packets[:])
		}
	}
}

// result returns the errors of a lease that all workers are done with. If Handle or Hash has
// panicked, result panics.
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

// work does a worker's part of one lease. It returns the number of polls for the next lease.
func (s *spreader) work(w *worker) (polls int) {
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
	w.err = s.handleChunks(w)
	return int(min(time.Since(began)/perPoll, mostPolls))
}

// handleChunks handles w's packets of all chunks, in order, and helps to sort.
func (s *spreader) handleChunks(w *worker) error {
	for c := 0; s.await(w, c); c++ {
		packets := s.chunks[c].of(w.number)
		if len(packets) == 0 {
			continue
		}
		err := s.handle(w.number, packets)
		clear(packets) // a Handle that keeps the slice sees empty packets
		if err != nil {
			return err
		}
	}
	return nil
}

// await returns when chunk c is sorted. Until then it sorts chunks that no worker has claimed: c,
// or later ones if another worker sorts c. It returns false if there is no chunk c.
func (s *spreader) await(w *worker, c int) bool {
	for !s.chunks[c].sorted.Load() {
		next, ok := s.claim(c)
		if !ok {
			return false
		}
		if next >= 0 {
			s.sort(w, next)
		}
	}
	return true
}

// claim claims a chunk for the caller to sort. If there is none to sort, it waits until c is sorted
// and returns -1. It returns false if there is no chunk c.
func (s *spreader) claim(c int) (next int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for polls := sortPolls; ; polls-- {
		switch {
		case c >= s.end:
			return 0, false
		case s.chunks[c].sorted.Load():
			return -1, true
		case s.claimed < min(s.listed, s.end):
			s.claimed++
			return s.claimed - 1, true
		}
		if polls <= 0 {
			s.changed.Wait()
			continue
		}
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

// receive waits for a value, and returns false if c is closed. Before it sleeps it polls c polls
// times. In between it lets other goroutines run, because one may be about to send.
func receive(c <-chan struct{}, polls int) bool {
	for range polls {
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

// sort orders the packets of chunk c by worker.
func (s *spreader) sort(w *worker, c int) {
	sorted := false
	defer func() {
		if !sorted {
			s.drop(c, recover())
		}
	}()
	h := &s.chunks[c]
	if len(s.workers) == 1 {
		h.ends[0] = uint32(h.n)
	} else {
		s.partition(w, h)
	}
	sorted = true
	s.mu.Lock()
	h.sorted.Store(true)
	s.mu.Unlock()
	s.changed.Broadcast()
}

// partition counts the packets of each worker, and then places them: a counting sort, which keeps
// their order.
func (s *spreader) partition(w *worker, h *chunk) {
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
		h.ends[i] = begin // moves to the end of the worker's packets as they are placed
		begin += count
	}
	unsorted := w.scratch[:copy(w.scratch[:], packets)]
	for i, p := range unsorted {
		end := &h.ends[at[i]]
		packets[*end] = p
		*end++
	}
	clear(unsorted)
}

// hashes sets to[i] to the hash of packets[i].
func (s *spreader) hashes(to []uint32, packets []bpf.Packet) {
	if s.hash == nil {
		flowHashes(to, s.linkType, packets)
		return
	}
	for i, p := range packets {
		to[i] = s.hash(s.linkType, p.Data())
	}
}

// drop ends the lease before chunk c. It can't be sorted, because Hash has panicked with v. If v is
// nil, Hash has ended its goroutine.
func (s *spreader) drop(c int, v any) {
	s.mu.Lock()
	s.end = min(s.end, c)
	if v != nil {
		s.failed = &PanicError{Worker: -1, Value: v, Stack: debug.Stack()}
	}
	s.mu.Unlock()
	s.changed.Broadcast()
}
