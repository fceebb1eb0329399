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

// Pipeline is one capture, from its start to its end.
type Pipeline struct {
	Source Source
	Stages []Stage
	Sink   Sink
	Say    func(note string) // gets the notes of batches; nil drops them

	mu      sync.Mutex // of what follows: Run against the timer
	pending bool       // the sink keeps something back, and the timer runs
	failed  error      // of the sink

	packets, bytes atomic.Uint64
}

// Run moves packets until there are no more, a stage has enough, ctx is done or something fails.
// Then it completes the sink. Only a failure is an error. Run writes everything that was captured
// before the end. It returns the statistics at the end, also with an error.
func (p *Pipeline) Run(ctx context.Context) ([]pcapio.Statistics, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(time.Hour, func() {
		if err := p.flush(); err != nil {
			cancel(err)
		}
	})
	err := p.move(ctx, timer)
	timer.Stop()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = false // a timer that has just fired finds nothing to do
	if p.failed != nil {
		err = p.failed
	}
	stats := p.Source.Statistics()
	if ferr := p.Sink.Finish(stats); err == nil {
		err = ferr
	}
	return stats, err
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending && p.failed == nil {
		p.pending = false
		p.failed = p.Sink.Flush()
	}
	return p.failed
}

// Progress returns the number of packets that the sink has got, and the number of their captured
// bytes. Any goroutine may call it while Run runs.
func (p *Pipeline) Progress() (packets, bytes uint64) { return p.packets.Load(), p.bytes.Load() }
