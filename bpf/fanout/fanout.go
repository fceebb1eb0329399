package fanout

import (
	"context"
	"errors"
	"fmt"

	"github.com/zbuf-go/zbuf/bpf"
)

// ErrConfig is in the error of Run when the Config is wrong.
var ErrConfig = errors.New("fanout: configuration")

// Config says how packets are spread, and what is done with them.
type Config struct {
	// Workers is how many shares there are; 0 is one for each processor that Go programs may use.
	Workers int

	// Hash decides which worker gets a packet: the number it returns, modulo Workers. nil is FlowHash. It is
	// given the reader's link type and what was captured of the packet, and must go by nothing else: it is called
	// from several goroutines at a time, in no particular order, and not at all for a single worker.
	Hash func(linkType uint32, packet []byte) uint32

	// Handle is given packets of one worker: at least one, in the order of capture. It is called for several
	// workers at a time, for each of them by one goroutine at a time, and for a long lease several times. Neither
	// packets nor anything got from them may be kept when it returns.
	//
	// An error ends Run, when all other workers are through with the lease.
	Handle func(worker int, packets []bpf.Packet) error
}

// PanicError is what Run panics with when Handle or Hash has panicked.
type PanicError struct {
	Worker int    // whose Handle; -1 is Hash
	Value  any    // what it panicked with
	Stack  []byte // where, as debug.Stack formats it
}

func (e *PanicError) Error() string {
	if e.Worker < 0 {
		return fmt.Sprintf("fanout: Hash: panic: %v\n\n%s", e.Value, e.Stack)
	}
	return fmt.Sprintf("fanout: worker %d: panic: %v\n\n%s", e.Worker, e.Value, e.Stack)
}

// Unwrap returns what was panicked with, if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Run spreads what r captures until there is an error, which it returns. It is the one that reads from r as long as
// it runs; r is not closed.
//
// Errors: ErrConfig; those of [bpf.Reader.Lease], after everything that was captured before has been
// handled; those of Handle; bpf.ErrCorrupt, after the good packets of that buffer. After bpf.ErrCorrupt, and when a
// deadline has passed, Run may be called again. When ctx is done, what the kernel has by then is handled, three
// buffers at the most, although more may be coming in. Handle is not interrupted.
//
// If Handle or Hash panics, Run waits for the other workers, releases the lease and panics with a *PanicError. A
// Hash that panics also keeps packets that come after that one in the lease from being handled.
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
