package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/merge"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Several captures from several interfaces, and merges their packets by time. One goroutine runs
// the merger's loop. Next takes the packets from it. They have been copied out of the kernel's
// buffers, so their memory is never given back.
type Several struct {
	lives  []*Live
	window time.Duration
	merger *merge.Merger

	told   bool  // a batch had the interfaces
	left   int   // interfaces that have not gone
	failed error // comes with the next call of Next

	looping sync.WaitGroup
	turns   chan turn          // nil before the loop runs
	quit    context.CancelFunc // nobody takes turns any more
}

// turn is one turn of the merger's loop.
type turn struct {
	p   merge.Packet
	err error
}

var _ capture.Source = (*Several)(nil)

// OpenSeveral opens interfaces. A packet waits for older ones of other interfaces for at most the
// window. Before that, it waits in the kernel, for half the window or less.
//
// Errors: those of [OpenLive].
func OpenSeveral(ifaces []string, cfg bpf.Config, window time.Duration) (*Several, error) {
	s := &Several{window: window, left: len(ifaces)}
	cfg.ReadTimeout = max(time.Millisecond, min(window/2, bpf.DefaultReadTimeout))
	var readers []*bpf.Reader
	for _, name := range ifaces {
		l, err := OpenLive(name, cfg)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.lives, readers = append(s.lives, l), append(readers, l.r)
	}
	s.merger = merge.New(window, readers...)
	return s, nil
}

// Close ends the capture.
func (s *Several) Close() error {
	if s.quit != nil {
		s.quit()
		s.looping.Wait()
	}
	var all error
	for _, l := range s.lives {
		all = errors.Join(all, l.Close())
	}
	return all
}

// Readers returns the readers of the interfaces.
func (s *Several) Readers() (all []*bpf.Reader) {
	for _, l := range s.lives {
		all = append(all, l.r)
	}
	return all
}

// Interfaces describes the interfaces, in the order of their numbers.
func (s *Several) Interfaces() (all []pcapio.Interface) {
	for _, l := range s.lives {
		all = append(all, l.description())
	}
	return all
}

// Describe names the interfaces and their modes.
func (s *Several) Describe() string {
	var all []string
	for _, l := range s.lives {
		all = append(all, l.Describe())
	}
	return strings.Join(all, "; ")
}

// Statistics returns the kernel's counters of each interface since the start.
func (s *Several) Statistics() (all []pcapio.Statistics) {
	for _, l := range s.lives {
		all = append(all, l.Statistics()...)
	}
	return all
}

// Notes says how many packets came too late to be in order.
func (s *Several) Notes() []string {
	switch n := s.merger.Late(); n {
	case 0:
		return nil
	case 1:
		return []string{fmt.Sprintf("1 packet came more than %v late: it is behind a later one",
			s.window)}
	default:
		return []string{fmt.Sprintf("%d packets came more than %v late: they are behind later ones", n,
			s.window)}
	}
}

// Next returns the packets whose turn it is. If an interface goes, the batch says so, and the
// others go on.
func (s *Several) Next(ctx context.Context, b *capture.Batch) error {
	if !s.told {
		s.told = true
		b.New = s.Interfaces()
		return nil
	}
	if s.turns == nil {
		var quit context.Context
		quit, s.quit = context.WithCancel(context.Background())
		s.turns = make(chan turn, cap(b.Packets))
		s.looping.Go(func() { s.loop(ctx, quit) })
	}
	for s.failed == nil {
		t, more := <-s.turns
		if !more {
			s.failed = io.EOF
			break
		}
		s.take(t, b)
		if s.failed == nil && (b.Full() || len(s.turns) == 0) {
			return nil
		}
	}
	if len(b.Packets) > 0 {
		return nil
	}
	return s.failed
}

// take puts a turn into a batch, or notes the error that ends the capture.
func (s *Several) take(t turn, b *capture.Batch) {
	switch {
	case t.err == nil:
		b.Packets = append(b.Packets, capture.Packet{Interface: t.p.Reader, Sec: t.p.Time.Unix(),
			Nsec: int64(t.p.Time.Nanosecond()), WireLen: t.p.WireLen, Data: t.p.Data})
	case errors.Is(t.err, bpf.ErrInterfaceGone):
		gone := fmt.Sprintf("%s has gone: destroyed, or moved to another vnet",
			s.lives[t.p.Reader].r.Interface())
		if s.left--; s.left == 0 {
			s.failed = errors.New(gone)
		} else {
			b.Notes = append(b.Notes, gone+"; the others go on")
		}
	default:
		s.failed = t.err
	}
}

// loop runs the merger's loop until ctx is done and everything captured has had its turn, or until
// no interface is left, or quit is done.
func (s *Several) loop(ctx, quit context.Context) {
	defer close(s.turns)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(quit, stop)()
	for p, err := range s.merger.Packets(ctx) {
		if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return
		}
		select {
		case s.turns <- turn{p, err}:
		case <-quit.Done():
			return
		}
	}
}
