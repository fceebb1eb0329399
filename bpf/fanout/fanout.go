package fanout

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/zbuf-go/zbuf/bpf"
)

// ErrConfig is in the error of Run when the Config is wrong.
var ErrConfig = errors.New("fanout: configuration")

// Config says how packets are spread, and what is done with them.
type Config struct {
	// Workers is how many shares there are; 0 is one for each processor that Go programs may use.
	Workers int

	// Hash decides which worker gets a packet: the number it returns, modulo Workers. nil is FlowHash. It is
	// given the reader's link type and what was captured of the packet, and is called by
	// Run's own goroutine, for each packet in turn.
	Hash func(linkType uint32, packet []byte) uint32

	// Handle does a worker's share of one lease: at least one packet, in the order of capture. It is called
	// for several workers at a time. Neither packets nor anything got from them may be kept when it returns.
	//
	// An error ends Run, when all workers are through with the lease.
	Handle func(worker int, packets []bpf.Packet) error
}

// PanicError is what Run panics with when Handle has panicked.
type PanicError struct {
	Worker int
	Value  any    // what Handle panicked with
	Stack  []byte // where, as debug.Stack formats it
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("fanout: worker %d: panic: %v\n\n%s", e.Worker, e.Value, e.Stack)
}

// Unwrap returns what Handle panicked with, if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errGoexit = errors.New("fanout: Handle has called runtime.Goexit")

// Run spreads what r captures until there is an error, which it returns. It is the one that reads from r as long as
// it runs; r is not closed.
//
// Errors: ErrConfig; those of [bpf.Reader.Lease], after everything that was captured before has been
// handled; those of Handle; bpf.ErrCorrupt, after the good packets of that buffer. After bpf.ErrCorrupt, and when a
// deadline has passed, Run may be called again. When ctx is done, what the kernel has by then is handled, three
// buffers at the most, although more may be coming in. Handle is not interrupted.
//
// If Handle panics, Run waits for the other workers, releases the lease and panics with a
// *PanicError.
func Run(ctx context.Context, r *bpf.Reader, cfg Config) error {
	s, err := newSpreader(r.LinkType(), cfg)
	if err != nil {
		return err
	}
	defer s.stop()
	left := 3 * r.BufferSize()
	for left > 0 {
		l, err := r.Lease(ctx)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			left -= l.Len()
		}
		if err := s.spread(l); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// spreader owns the workers' goroutines. All of it belongs to Run's goroutine, but that a share is its
// worker's from when it is woken until pending says that it is through.
type spreader struct {
	linkType uint32
	hash     func(linkType uint32, packet []byte) uint32
	handle   func(worker int, packets []bpf.Packet) error
	shares   []share
	pending  sync.WaitGroup // shares that are in goroutines' hands
	running  sync.WaitGroup // goroutines
}

// share is one worker's part of the lease.
type share struct {
	packets  []bpf.Packet // as many as were captured for it; the memory is used again
	wake     chan struct{}
	err      error
	panicked *PanicError
}

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
	if cfg.Hash == nil {
		cfg.Hash = FlowHash
	}
	s := &spreader{linkType: linkType, hash: cfg.Hash, handle: cfg.Handle, shares: make([]share, cfg.Workers)}
	for i := range s.shares {
		s.shares[i].wake = make(chan struct{}, 1)
		s.running.Go(func() {
			for range s.shares[i].wake {
				s.work(i)
			}
		})
	}
	return s, nil
}

// stop ends the goroutines.
func (s *spreader) stop() {
	for i := range s.shares {
		close(s.shares[i].wake)
	}
	s.running.Wait()
}

// spread has the workers handle l, and releases it when all of them are through.
func (s *spreader) spread(l bpf.Lease) error {
	defer l.Release() // whatever happens in Hash
	s.deal(l)
	err := s.handleAll()
	if e := l.Err(); e != nil {
		return errors.Join(err, e)
	}
	return err
}

// deal lists each packet with its worker's.
func (s *spreader) deal(l bpf.Lease) {
	for i := range s.shares {
		s.shares[i].packets = s.shares[i].packets[:0]
	}
	n := uint32(len(s.shares))
	for p := range l.Packets() {
		share := &s.shares[s.hash(s.linkType, p.Data())%n]
		share.packets = append(share.packets, p)
	}
}

// handleAll wakes the workers that have packets, except the last of them, whose share it does itself,
// and returns when everything is done.
func (s *spreader) handleAll() error {
	own := -1
	for i := range s.shares {
		if len(s.shares[i].packets) == 0 {
			continue
		}
		if own >= 0 {
			s.pending.Add(1)
			s.shares[own].wake <- struct{}{}
		}
		own = i
	}
	if own < 0 {
		return nil
	}
	s.pending.Add(1)
	func() {
		defer s.pending.Wait() // before the lease goes, also if Handle ends this goroutine
		s.work(own)
	}()
	var errs []error
	for i := range s.shares {
		share := &s.shares[i]
		if share.panicked != nil {
			panic(share.panicked)
		}
		if share.err != nil {
			errs = append(errs, share.err)
		}
	}
	return errors.Join(errs...)
}

// work has one share handled.
func (s *spreader) work(i int) {
	defer s.pending.Done()
	share := &s.shares[i]
	share.err = errGoexit
	defer func() {
		if v := recover(); v != nil {
			share.panicked = &PanicError{Worker: i, Value: v, Stack: debug.Stack()}
		}
		clear(share.packets) // whoever keeps them has none
	}()
	share.err = s.handle(i, share.packets)
}
