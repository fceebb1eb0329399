package fanout

import (
	"context"
	"errors"
	"fmt"

	"github.com/zbuf-go/zbuf/bpf"
)

// ErrConfig is in the error of [Run] when the [Config] is wrong.
var ErrConfig = errors.New("fanout: configuration")

// Config says how [Run] spreads packets, and which functions it calls.
type Config struct {
	// Workers is the number of workers. 0 means one for each processor that Go programs may use.
	Workers int

	// Hash decides which worker gets a packet: the number that it returns, modulo Workers. nil is
	// [FlowHash]. Hash gets the reader's link type and the captured bytes of the packet. It must
	// depend on nothing else: Run calls it from several goroutines at a time, in no particular
	// order. With a single worker, Run does not call it at all.
	Hash func(linkType uint32, packet []byte) uint32

	// Handle gets packets of one worker: at least one, in the order of capture. Run calls it for
	// several workers at a time, but never twice at a time for the same worker. For a long lease
	// it calls it several times. Handle must keep neither the slice, nor its packets, nor
	// anything that it got from them.
	//
	// If Handle returns an error, Run ends when all other workers are done with the lease.
	Handle func(worker int, packets []bpf.Packet) error
}

// PanicError is the value that [Run] panics with when Handle or Hash has panicked.
type PanicError struct {
	Worker int    // the worker of Handle; -1 if it was Hash
	Value  any    // the value that it panicked with
	Stack  []byte // of the panic, as debug.Stack formats it
}

// Error returns the worker, the value and the stack.
func (e *PanicError) Error() string {
	if e.Worker < 0 {
		return fmt.Sprintf("fanout: Hash: panic: %v\n\n%s", e.Value, e.Stack)
	}
	return fmt.Sprintf("fanout: worker %d: panic: %v\n\n%s", e.Worker, e.Value, e.Stack)
}

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Run captures from r and spreads the packets until there is an error, and returns that error.
// While Run runs, nobody else may read from r. Run does not close r. When ctx is done, the workers
// handle the packets that the kernel has by then, at most two buffers, even if more packets arrive.
// Run does not interrupt Handle. Run may be called again after [bpf.ErrCorrupt], and after
// ctx is done or a deadline has passed.
//
// Errors:
//   - [ErrConfig]: cfg is wrong.
//   - Those of [bpf.Reader.Lease]: capturing has ended. The workers have handled everything
//     captured before.
//   - context.Cause(ctx): ctx is done.
//   - The errors of Handle, joined.
//   - [bpf.ErrCorrupt]: a record does not fit into its buffer. The workers have handled the packets
//     before it.
//
// If Handle or Hash panics, Run waits for the other workers, releases the lease and panics with a
// [*PanicError]. After a panic of Hash, the workers do not handle that packet and later packets of
// the lease. They may also not handle up to 255 packets before it.
func Run(ctx context.Context, r *bpf.Reader, cfg Config) error {
	s, err := newSpreader(r.LinkType(), cfg)
	if err != nil {
		return err
	}
	defer s.stop()
	for {
		l, err := r.Lease(ctx)
		if err != nil {
			return err
		}
		if err := s.spread(l); err != nil {
			return err
		}
	}
}
