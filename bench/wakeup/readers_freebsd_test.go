package wakeup

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/bpf"
)

// These are those of package contest.
const (
	memory  = 3 * 512 << 10
	timeout = 100 * time.Millisecond
)

// seen is what a reader did.
type seen struct {
	Packets, Batches uint64
	Elapsed          time.Duration
}

// A reader captures for a time, again and again.
type reader interface {
	capture(d time.Duration) (seen, error)
	Close() error
}

// names of readers, in the order of the table.
var readerNames = []string{"lease", "buffered", "immediate", "floor"}

func open(name, ifname string, share int) (reader, error) {
	if name == "floor" {
		return openFloor(ifname, share)
	}
	if name == "default" {
		r, err := bpf.Open(ifname, bpf.Config{Filter: load.Share(share)})
		return packets{r}, err
	}
	cfg := bpf.Config{
		Mode: bpf.ZeroCopy, BufferSize: memory / 2, Filter: load.Share(share), ReadTimeout: timeout,
		Immediate: name == "immediate",
	}
	if name == "buffered" {
		cfg.Mode, cfg.BufferSize = bpf.Buffered, memory/3
	}
	r, err := bpf.Open(ifname, cfg)
	return leaser{r}, err
}

type leaser struct{ *bpf.Reader }

func (r leaser) capture(d time.Duration) (s seen, err error) {
	begin := time.Now()
	if err := r.SetReadDeadline(time.Time{}); err != nil {
		return s, err
	}
	end := time.AfterFunc(d, func() { r.SetReadDeadline(time.Now()) })
	defer end.Stop()
	for {
		l, err := r.Lease(context.Background())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.Elapsed = time.Since(begin)
			return s, nil
		}
		if err != nil {
			return s, err
		}
		s.Batches++
		for range l.Packets() {
			s.Packets++
		}
		if err := errors.Join(l.Err(), l.Release()); err != nil {
			return s, err
		}
	}
}

// packets reads one packet at a time.
type packets struct{ *bpf.Reader }

func (r packets) capture(d time.Duration) (s seen, err error) {
	begin := time.Now()
	if err := r.SetReadDeadline(time.Time{}); err != nil {
		return s, err
	}
	end := time.AfterFunc(d, func() { r.SetReadDeadline(time.Now()) })
	defer end.Stop()
	p := r.PacketReader()
	defer p.Release()
	for {
		_, _, err := p.ReadSlice(context.Background())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.Elapsed = time.Since(begin)
			return s, nil
		}
		if err != nil {
			return s, err
		}
		s.Packets++
	}
}

type floor struct {
	*zbuf.Device
	bufs [2]*zbuf.Buffer
	next int // the buffer that the kernel assigns next
}

func openFloor(ifname string, share int) (*floor, error) {
	d, err := zbuf.Open()
	if err != nil {
		return nil, err
	}
	f := &floor{Device: d}
	if err := d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF); err != nil {
		return f, err
	}
	bufs, err := d.SetBuffers(memory / 2)
	if err != nil {
		return f, err
	}
	f.bufs = [2]*zbuf.Buffer{&bufs.A, &bufs.B}
	return f, errors.Join(d.SetReadTimeout(timeout), d.SetFilter(load.Share(share)),
		d.SetInterface(ifname))
}

func (f *floor) capture(d time.Duration) (s seen, err error) {
	begin := time.Now()
	end := time.AfterFunc(d, func() { f.Wake() })
	defer end.Stop()
	for {
		ev, err := f.Wait(true, -1)
		if err != nil || ev.Woken {
			s.Elapsed = time.Since(begin)
			return s, err
		}
		if _, err := f.Rotate(); err != nil {
			return s, err
		}
		for {
			b := f.bufs[f.next]
			recs, gen, ok := b.Records()
			if !ok {
				break
			}
			s.Batches++
			for at := uint(0); at < uint(len(recs)); s.Packets++ {
				h := recs[at:]
				caplen, hdrlen := order.Uint32(h[offCaplen:]), order.Uint16(h[offHdrlen:])
				at += uint(caplen) + uint(hdrlen) + 7
				at &^= 7
			}
			b.Header().Acknowledge(gen)
			f.next ^= 1
		}
	}
}
