package contestant

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
)

func init() {
	openers["zbuf-lease"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).leases)
	}
	openers["zbuf-packet"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).packets)
	}
	openers["zbuf-copy"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).copies)
	}
	openers["zbuf-buffered"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.Buffered, (*reader).leases)
	}
}

// reader is the reader of this module.
type reader struct {
	stop
	*bpf.Reader
	run func(*reader, *Tally) error
	buf []byte
}

func openReader(c Config, mode bpf.Mode, run func(*reader, *Tally) error) (Contestant, error) {
	pieces := 2
	if mode == bpf.Buffered {
		pieces = 3
	}
	r, err := bpf.Open(c.Interface, bpf.Config{
		Mode: mode, BufferSize: c.Memory / pieces, Filter: c.Filter, ReadTimeout: c.Timeout,
		Immediate:  c.Immediate,
		Resolution: bpf.Microseconds, // as all the others have it
	})
	if err != nil {
		return nil, err
	}
	return &reader{Reader: r, run: run, buf: make([]byte, 64<<10)}, nil
}

func (r *reader) Run(t *Tally) error {
	err := r.run(r, t)
	if errors.Is(err, os.ErrDeadlineExceeded) && r.Load() {
		return nil
	}
	return err
}

func (r *reader) leases(t *Tally) error {
	ctx := context.Background()
	for !r.Load() {
		l, err := r.Lease(ctx)
		if err != nil {
			return err
		}
		for p := range l.Packets() {
			t.Packet(p.Data())
		}
		err = l.Err()
		l.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) packets(t *Tally) error {
	for !r.Load() {
		data, _, err := r.ZeroCopyReadPacketData()
		if err != nil {
			return err
		}
		t.Packet(data)
	}
	return nil
}

func (r *reader) copies(t *Tally) error {
	ctx := context.Background()
	for !r.Load() {
		n, _, err := r.ReadInto(ctx, r.buf)
		if err != nil {
			return err
		}
		t.Packet(r.buf[:n])
	}
	return nil
}

func (r *reader) Stop() {
	r.stop.Stop()
	r.SetReadDeadline(time.Now())
}

func (r *reader) Start() {
	r.SetReadDeadline(time.Time{})
	r.stop.Start()
}

func (r *reader) Syscalls() (uint64, bool) {
	s, err := r.Stats()
	return s.Syscalls, err == nil
}
