package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Live captures from an interface.
type Live struct {
	r     *bpf.Reader
	cfg   bpf.Config
	start time.Time

	told   bool // a batch had the interface
	lease  bpf.Lease
	cursor bpf.Cursor
	tail   int // bytes that Next still returns after ctx is done
}

var _ capture.Source = (*Live)(nil)

// OpenLive opens an interface.
//
// Errors:
//   - [ErrBufferSize]: the kernel has no buffers as large as cfg.BufferSize.
//   - Those of [bpf.Open].
func OpenLive(iface string, cfg bpf.Config) (*Live, error) {
	r, err := bpf.Open(iface, cfg)
	if err != nil {
		return nil, err
	}
	if r.BufferSize() < cfg.BufferSize {
		defer r.Close()
		return nil, bufferSizeError(fmt.Sprintf(
			"%s is beyond the kernel's maximum of %s for buffered mode (sysctl net.bpf.maxbufsize)",
			human.Size(cfg.BufferSize), human.Size(r.BufferSize())))
	}
	return &Live{r: r, cfg: cfg, start: time.Now(), tail: 2 * r.BufferSize()}, nil
}

// Close ends the capture.
func (l *Live) Close() error {
	l.lease.Release() // a pipeline that has enough does not ask for the rest
	return l.r.Close()
}

// Readers returns the reader of the interface.
func (l *Live) Readers() []*bpf.Reader { return []*bpf.Reader{l.r} }

// Describe names the interface and the mode.
func (l *Live) Describe() string { return l.r.Interface() + ": " + describeMode(l.r) }

// Statistics returns the kernel's counters since the start.
func (l *Live) Statistics() []pcapio.Statistics {
	s, _ := l.r.Stats() // with an error, the counters of the last call are good enough
	return []pcapio.Statistics{{
		Start: l.start, End: time.Now(), Received: s.Received, Dropped: s.Dropped,
	}}
}

// Notes returns nothing, because a kernel's packets have no such faults.
func (l *Live) Notes() []string { return nil }

// description returns the interface's entry in a file.
func (l *Live) description() pcapio.Interface {
	i := pcapio.Interface{
		Name: l.r.Interface(), OS: runtime.GOOS,
		LinkType: zbuf.DLTToLinkType(l.r.LinkType()), SnapLen: uint32(l.cfg.SnapLen),
	}
	filtered(&i, l.cfg)
	return i
}

// Next returns the next packets in the memory of a lease.
func (l *Live) Next(ctx context.Context, b *capture.Batch) error {
	if !l.told {
		l.told = true
		b.New = []pcapio.Interface{l.description()}
		return nil
	}
	for {
		if fill(b, 0, &l.cursor, math.MaxInt); len(b.Packets) > 0 {
			return nil
		}
		err := l.cursor.Err()
		l.lease.Release()
		if err == nil {
			err = l.take(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// take leases captured packets. When ctx is done, it takes at most as many bytes as the kernel can
// have captured before. So a capture ends although packets go on coming.
func (l *Live) take(ctx context.Context) error {
	if l.tail <= 0 {
		return io.EOF
	}
	lease, err := l.r.Lease(ctx)
	switch {
	case errors.Is(err, bpf.ErrInterfaceGone):
		return fmt.Errorf("%s has gone: destroyed, or moved to another vnet", l.r.Interface())
	case err != nil && ctx.Err() != nil:
		return io.EOF
	case err != nil:
		return err
	}
	if ctx.Err() != nil {
		l.tail -= lease.Len()
	}
	l.lease, l.cursor = lease, lease.Cursor()
	return nil
}
