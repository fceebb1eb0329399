package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// showEvery is the interval at which the line changes that shows the progress of a capture.
const showEvery = 500 * time.Millisecond

// show runs a capture and prints its state at the start and at the end. On a terminal it also shows
// the progress in between, unless the packets are listed there.
func show(ctx context.Context, p *capture.Pipeline, stderr io.Writer, listed bool) error {
	live := isTerminal(stderr) && os.Getenv("TERM") != "dumb" && !listed
	return showOn(ctx, p, stderr, live)
}

func showOn(ctx context.Context, p *capture.Pipeline, stderr io.Writer, live bool) error {
	start := time.Now()
	say := func(text string) { fmt.Fprintf(stderr, "bpfctl: %s\n", human.Printable(text)) }
	if mode := p.Source.Describe(); mode != "" {
		say(mode)
	}
	p.Say = func(note string) {
		clear := ""
		if live {
			clear = "\r\x1b[K"
		}
		fmt.Fprintf(stderr, "%sbpfctl: %s\n", clear, human.Printable(note))
	}
	done := make(chan struct{})
	var showing sync.WaitGroup
	if live {
		showing.Go(func() { showProgress(p, stderr, start, done) })
	}
	if r, ok := p.Source.(readers); ok {
		packets := func() uint64 { n, _ := p.Progress(); return n }
		showing.Go(func() { watchDrops(r.Readers(), packets, p.Say, done) })
	}
	stopAnswering := answer(func() {
		packets, bytes := p.Progress()
		p.Say(summary(packets, bytes, start, p.Source.Statistics()))
	})
	stats, err := p.Run(ctx)
	stopAnswering()
	close(done)
	showing.Wait()

	for _, n := range p.Source.Notes() {
		say(n)
	}
	packets, bytes := p.Sink.Written()
	text := summary(packets, bytes, start, stats)
	if r, ok := p.Sink.(*sink.Rotating); ok {
		text = human.Count(uint64(r.Files()), "file") + ": " + text
	}
	say(text)
	return err
}

// summary says how far a capture is.
func summary(packets, bytes uint64, start time.Time, stats []pcapio.Statistics) string {
	var received uint64
	for _, s := range stats {
		received += s.Received
	}
	return fmt.Sprintf("%s captured, %s, in %v; %d received and %d dropped by the kernel",
		human.Count(packets, "packet"), human.Count(bytes, "byte"),
		human.Elapsed(time.Since(start)), received, dropped(stats))
}

// answer calls say for each signal that asks for the state: SIGINFO (Ctrl-T) and SIGUSR1.
func answer(say func()) (stop func()) {
	if len(askingSignals) == 0 {
		return func() {}
	}
	asked, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(asked, askingSignals...)
	var answering sync.WaitGroup
	answering.Go(func() {
		for {
			select {
			case <-asked:
				say()
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(asked)
		close(done)
		answering.Wait()
	}
}

// showProgress draws the line of progress again and again, until done is closed.
func showProgress(p *capture.Pipeline, w io.Writer, start time.Time, done <-chan struct{}) {
	t := time.NewTicker(showEvery)
	defer t.Stop()
	last, lastPackets := start, uint64(0)
	var pace pace
	var drops uint64
	for {
		select {
		case <-done:
			fmt.Fprint(w, "\r\x1b[K")
			return
		case <-t.C:
		}
		packets, bytes := p.Progress()
		now := time.Now()
		rate := float64(packets-lastPackets) / now.Sub(last).Seconds()
		last, lastPackets = now, packets
		if pace.due(packets) {
			drops = dropped(p.Source.Statistics())
		}
		fmt.Fprintf(w, "\r\x1b[K%d packets  %.0f/s  %s  %d dropped",
			packets, rate, human.RoughSize(bytes), drops)
	}
}

// sayAfter prints text after d, unless stop is called first.
func sayAfter(d time.Duration, w io.Writer, text string) (stop func()) {
	done := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			fmt.Fprintf(w, "bpfctl: %s\n", text)
		case <-done:
		}
	})
	return func() { close(done); saying.Wait() }
}

func dropped(stats []pcapio.Statistics) (n uint64) {
	for _, s := range stats {
		n += s.Dropped
	}
	return n
}
