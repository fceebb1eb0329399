package capture

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// flushAfter is the longest time that a packet waits in a sink. Before that, a packet waits in the
// kernel for bpf.DefaultReadTimeout at most. The sum stays well below the half second that bpfctl
// promises.
const flushAfter = 250 * time.Millisecond

// lookEvery is the time between two looks at an output that can go away.
const lookEvery = 100 * time.Millisecond

// Pipeline is one capture, from its start to its end.
type Pipeline struct {
	Source Source
	Stages []Stage
	Sink   Sink
	Say    func(note string) // gets the notes of batches; nil drops them

	mu      sync.Mutex              // of what follows: Run against the timers and Rotate
	end     context.CancelCauseFunc // nil before Run and after it
	pending bool                    // the sink keeps something back, and the timer runs
	failed  error                   // of the sink

	packets, bytes atomic.Uint64
}

// Run moves packets until there are no more, a stage has enough, ctx is done or something fails.
// Then it completes the sink. Only a failure is an error. Run writes everything that was captured
// before the end. It returns the statistics at the end, also with an error.
func (p *Pipeline) Run(ctx context.Context) ([]pcapio.Statistics, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.mu.Lock()
	p.end = cancel
	p.mu.Unlock()
	timer := time.AfterFunc(time.Hour, func() { p.beside(p.flush) })
	if _, ok := p.Sink.(Rotator); ok {
		p.due()
	}
	if _, ok := p.Sink.(Breakable); ok {
		p.look()
	}
	err := p.move(ctx, timer)
	timer.Stop()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = nil // a timer that has just fired finds nothing to do
	if p.failed != nil {
		err = p.failed
	}
	stats := p.Source.Statistics()
	if ferr := p.Sink.Finish(stats); err == nil {
		err = ferr
	}
	return stats, err
}

// beside does something to the sink while Run runs. If that fails, the capture ends.
func (p *Pipeline) beside(do func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end == nil || p.failed != nil {
		return
	}
	if p.failed = do(); p.failed != nil {
		p.end(p.failed)
	}
}

// due lets the sink do what is due, now and whenever it wants to.
func (p *Pipeline) due() {
	p.beside(func() error {
		next, err := p.Sink.(Rotator).Due(time.Now())
		if err == nil && !next.IsZero() {
			time.AfterFunc(time.Until(next), p.due)
		}
		return err
	})
}

// look ends the capture if the output of the sink has gone, now and again and again. A capture
// without packets would not find out otherwise.
func (p *Pipeline) look() {
	p.beside(func() error {
		can, err := p.Sink.(Breakable).Broken()
		if can && err == nil {
			time.AfterFunc(lookEvery, p.look)
		}
		return err
	})
}

// Rotate makes the sink, which is a [Rotator], begin its next output. Any goroutine may call it.
// Before Run and after it, Rotate does nothing.
func (p *Pipeline) Rotate() {
	p.beside(func() error { return p.Sink.(Rotator).Rotate(time.Now()) })
}

func (p *Pipeline) move(ctx context.Context, timer *time.Timer) error {
	b := NewBatch()
	for {
		b.Reset()
		err := p.Source.Next(ctx, b)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = p.write(b, timer)
		}
		if errors.Is(err, ErrEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// write passes one batch through the stages to the sink.
func (p *Pipeline) write(b *Batch, timer *time.Timer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return p.failed
	}
	var enough error
	for _, s := range p.Stages {
		if err := s.Apply(b); errors.Is(err, ErrEnough) {
			enough = err
		} else if err != nil {
			return err
		}
	}
	for _, n := range b.Notes {
		if p.Say != nil {
			p.Say(n)
		}
	}
	for _, i := range b.New {
		if p.failed = p.Sink.AddInterface(i); p.failed != nil {
			return p.failed
		}
	}
	if p.failed = p.Sink.Write(b); p.failed != nil {
		return p.failed
	}
	n := uint64(0)
	for _, q := range b.Packets {
		n += uint64(len(q.Data))
	}
	p.packets.Add(uint64(len(b.Packets)))
	p.bytes.Add(n)
	if !p.pending {
		p.pending = true
		timer.Reset(flushAfter)
	}
	return enough
}

// flush writes out the packets that the sink keeps back.
func (p *Pipeline) flush() error {
	p.pending = false
	return p.Sink.Flush()
}

// Progress returns the number of packets that the sink has got, and the number of their captured
// bytes. Any goroutine may call it while Run runs.
func (p *Pipeline) Progress() (packets, bytes uint64) { return p.packets.Load(), p.bytes.Load() }
