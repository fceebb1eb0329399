package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// A packetSource is where captured packets come from: an interface, or a replayed file.
type packetSource interface {
	// pump passes packets to r.packet until there are no more, r has enough or ctx is done; the
	// latter is no error.
	pump(ctx context.Context, r *captureRun) error
	// describe says in words what is captured and how, once that is known.
	describe() string
	// statistics returns what the kernel counted, for each interface. It may be called while pump runs.
	statistics() []pcapio.Statistics
	close()
}

// captureRun is one capture from start to summary.
type captureRun struct {
	src    packetSource
	stderr io.Writer
	live   bool // stderr shows a line that changes

	mu     sync.Mutex // of what follows: the pump against the ticker
	out    sink
	left   uint64 // packets until it is enough
	failed error  // of out

	packets, bytes atomic.Uint64
	start          time.Time
}

// flushEvery is how often what was captured is written out, and the display renewed.
const flushEvery = 500 * time.Millisecond

var errEnough = errors.New("enough packets")

func newCaptureRun(src packetSource, out sink, count uint64, stderr io.Writer) *captureRun {
	if count == 0 {
		count--
	}
	_, toTerminal := out.(*lines)
	if toTerminal {
		toTerminal = isTerminal(os.Stdout)
	}
	return &captureRun{
		src: src, out: out, left: count, stderr: stderr, start: time.Now(),
		live: isTerminal(stderr) && os.Getenv("TERM") != "dumb" && !toTerminal,
	}
}

func (r *captureRun) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fmt.Fprintf(r.stderr, "bpfctl: %s\n", r.src.describe())
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		if err := r.tick(done); err != nil {
			cancel(err)
		}
	})
	err := r.src.pump(ctx, r)
	close(done)
	ticking.Wait()
	if errors.Is(err, errEnough) {
		err = nil
	}
	stats := r.src.statistics()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		err = r.failed
	}
	if ferr := r.out.finish(stats); err == nil {
		err = ferr
	}
	r.summary(stats)
	return err
}

// tick flushes and shows how it goes until done. It returns an error of writing.
func (r *captureRun) tick(done <-chan struct{}) error {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	last, lastPackets := r.start, uint64(0)
	for {
		select {
		case <-done:
			if r.live {
				fmt.Fprint(r.stderr, "\r\x1b[K")
			}
			return nil
		case <-t.C:
		}
		r.mu.Lock()
		if r.failed == nil {
			r.failed = r.out.flush()
		}
		err := r.failed
		r.mu.Unlock()
		if err != nil {
			return err
		}
		if r.live {
			now, n := time.Now(), r.packets.Load()
			rate := float64(n-lastPackets) / now.Sub(last).Seconds()
			last, lastPackets = now, n
			fmt.Fprintf(r.stderr, "\r\x1b[K%d packets  %.0f/s  %s  %d dropped", n, rate, human.RoughSize(r.bytes.Load()), dropped(r.src.statistics()))
		}
	}
}

// batch gives the sink to the caller, who calls packet, then end.
func (r *captureRun) batch() error {
	r.mu.Lock()
	return r.failed
}

// end ends a batch.
func (r *captureRun) end(packets, bytes uint64) {
	r.mu.Unlock()
	r.packets.Add(packets)
	r.bytes.Add(bytes)
}

// packet passes one packet on, within a batch. errEnough says that it was the last one wanted.
func (r *captureRun) packet(iface int, p bpf.Packet) error {
	if err := r.out.packet(iface, p); err != nil {
		r.failed = err
		return err
	}
	if r.left--; r.left == 0 {
		return errEnough
	}
	return nil
}

func (r *captureRun) addInterface(i pcapio.Interface) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = r.out.addInterface(i)
	}
	return r.failed
}

func dropped(stats []pcapio.Statistics) (n uint64) {
	for _, s := range stats {
		n += s.Dropped
	}
	return n
}

func (r *captureRun) summary(stats []pcapio.Statistics) {
	var received uint64
	for _, s := range stats {
		received += s.Received
	}
	if file, ok := r.src.(interface{ notes() []string }); ok {
		for _, n := range file.notes() {
			fmt.Fprintf(r.stderr, "bpfctl: %s\n", n)
		}
	}
	fmt.Fprintf(r.stderr, "bpfctl: %d packets captured, %d bytes, in %v; %d received and %d dropped by the kernel\n",
		r.packets.Load(), r.bytes.Load(), human.Elapsed(time.Since(r.start)), received, dropped(stats))
	fmt.Fprintf(r.stderr, "bpfctl: %s\n", r.src.describe())
}
