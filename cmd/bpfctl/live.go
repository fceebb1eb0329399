package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/linktype"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// live captures from an interface.
type live struct {
	r     *bpf.Reader
	stop  func() // of the model
	cfg   bpf.Config
	start time.Time
}

func openLive(w *world, iface string, cfg bpf.Config) (*live, error) {
	m, err := w.machine()
	if err != nil {
		return nil, err
	}
	cfg.System = m.BPF
	r, err := bpf.Open(iface, cfg)
	if err == nil && r.BufferSize() < cfg.BufferSize {
		err = usagef("--bufsize: %s is beyond the kernel's maximum of %s for buffered mode (sysctl net.bpf.maxbufsize)",
			human.Size(cfg.BufferSize), human.Size(r.BufferSize()))
		r.Close()
	}
	if err != nil {
		m.Stop()
		return nil, err
	}
	return &live{r: r, stop: m.Stop, cfg: cfg, start: time.Now()}, nil
}

func (l *live) close() {
	l.r.Close()
	l.stop()
}

func (l *live) describe() string { return l.r.Interface() + ": " + describeMode(l.r) }

// describeMode says which mode is in force and why.
func describeMode(r *bpf.Reader) string {
	mode, reason := r.Mode()
	s := fmt.Sprintf("zero-copy mode, granted by the kernel, two buffers of %s", human.Size(r.BufferSize()))
	if mode == bpf.Buffered {
		s = fmt.Sprintf("buffered mode, because %s, buffers of %s", refusal(reason), human.Size(r.BufferSize()))
	}
	return s
}

func (l *live) statistics() []pcapio.Statistics {
	s, _ := l.r.Stats() // what is known is good enough
	return []pcapio.Statistics{{Start: l.start, End: time.Now(), Received: s.Received, Dropped: s.Dropped}}
}

// description is the interface's entry in the file.
func (l *live) description() pcapio.Interface {
	i := pcapio.Interface{
		Name: l.r.Interface(), OS: runtime.GOOS, LinkType: linktype.Of(l.r.LinkType()), SnapLen: uint32(l.cfg.SnapLen),
	}
	if n := len(l.cfg.Filter); n > 0 {
		i.Comment = fmt.Sprintf("captured through a filter program of %d instructions", n)
	}
	return i
}

func (l *live) pump(ctx context.Context, run *captureRun) error {
	if err := run.addInterface(l.description()); err != nil {
		return err
	}
	tail := 2 * l.r.BufferSize() // bytes that can be there when it is time to end
	for tail > 0 {
		lease, err := l.r.Lease(ctx)
		switch {
		case errors.Is(err, bpf.ErrInterfaceGone):
			return fmt.Errorf("%s has gone: destroyed, or moved to another vnet", l.r.Interface())
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		err = l.write(run, lease)
		if ctx.Err() != nil {
			tail -= lease.Len()
		}
		lease.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// write passes the packets of a lease on, from where they lie.
func (l *live) write(run *captureRun, lease bpf.Lease) error {
	err := run.batch()
	var n, bytes uint64
	if err == nil {
		for p := range lease.Packets() {
			n++
			bytes += uint64(p.CapLen())
			if err = run.packet(0, p); err != nil {
				break
			}
		}
	}
	run.end(n, bytes)
	if err == nil {
		err = lease.Err()
	}
	return err
}
