package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// replay has the packets of a file captured on a model of the kernel: one goroutine shows them to the model's
// interfaces, the other captures them from there. Each interface of the file is one of the model,
// with a reader of its own; the order between them is kept by batches, which the first goroutine
// announces after the packets are in the kernel.
type replay struct {
	cfg     bpf.Config
	name    string // of the file, "-" for standard input
	file    io.Closer
	in      *pcapio.Reader
	k       *bpftest.Kernel
	batches chan batch

	// The showing goroutine's.
	current []*stream // by interface of the file
	opened  int       // streams
	budget  int       // bytes of buffers that may still be opened
	told    int       // interfaces announced
	err     error     // valid once batches is closed

	mu      sync.Mutex
	streams []*stream
	stats   map[int]pcapio.Statistics // of streams that are closed
	mode    string
	added   int // interfaces that the capturing goroutine knows
}

// A stream is one interface of the model and who captures there.
type stream struct {
	iface   *bpftest.Interface
	index   int // in the file
	r       *bpf.Reader
	room    int    // bytes of records that a buffer has room for
	matched uint64 // packets announced

	lease  bpf.Lease
	cursor bpf.Cursor
}

// A batch is a number of successive packets of one stream, after interfaces that are new.
type batch struct {
	ifaces []pcapio.Interface
	s      *stream
	n      uint64
	last   bool // the stream is not used any more
}

const (
	maxRecord     = 2<<20 - 4096 // bytes of a packet that fit into the largest buffer
	recordHeader  = 64           // at most, with alignment
	replayBudget  = 512 << 20
	manyStreams   = 32 // more get small buffers
	smallBuffer   = 64 << 10
	largestBuffer = 2 << 20
)

func openReplay(name string, stdin io.Reader, cfg bpf.Config) (*replay, error) {
	r := &replay{cfg: cfg, name: name, batches: make(chan batch, 256), budget: replayBudget, stats: map[int]pcapio.Statistics{}}
	src := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		src, r.file = f, f
	}
	var err error
	if r.in, err = pcapio.NewReader(src); err != nil {
		r.close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if cfg.BufferSize > largestBuffer {
		r.close()
		return nil, usagef("--bufsize: %s is beyond the kernel's maximum of %s", human.Size(cfg.BufferSize), human.Size(largestBuffer))
	}
	r.k = bpftest.New(
		bpftest.WithSysctl("net.bpf.zerocopy_enable", 1),
		bpftest.WithSysctl("net.bpf.maxbufsize", largestBuffer),
	)
	r.cfg.System = r.k
	r.cfg.Promiscuous = false
	r.cfg.Immediate = true // whoever waits waits for something that is there
	return r, nil
}

func (r *replay) close() {
	if r.file != nil {
		r.file.Close()
	}
	for _, s := range r.streams {
		s.r.Close()
	}
}

func (r *replay) describe() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mode == "" {
		return "replay through a model of the kernel"
	}
	return "replay through a model of the kernel: " + r.mode
}

// notes says what was wrong with the file and did not keep it from being read, once pump has returned.
func (r *replay) notes() (all []string) {
	for _, n := range r.in.Notes() {
		all = append(all, r.name+": "+n)
	}
	return all
}

func (r *replay) statistics() []pcapio.Statistics {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]pcapio.Statistics, r.added)
	for i := range all {
		all[i] = r.stats[i]
	}
	for _, s := range r.streams {
		if s.index < r.added {
			all[s.index] = s.add(all[s.index])
		}
	}
	return all
}

// add adds what the model counted for the stream.
func (s *stream) add(to pcapio.Statistics) pcapio.Statistics {
	st, _ := s.r.Stats()
	to.Received += st.Received
	to.Dropped += st.Dropped
	return to
}

// show shows the file's packets to the model's interfaces, never more than there is room for.
func (r *replay) show(ctx context.Context) error {
	var cur *stream
	var n uint64
	size := 0 // bytes of the batch's records
	announce := func(last *stream) error {
		a := batch{s: cur, n: n, last: last != nil && last == cur}
		known := r.in.Interfaces()
		a.ifaces = known[r.told:]
		if n == 0 && len(a.ifaces) == 0 && !a.last {
			return nil
		}
		if n > 0 && r.selective() {
			a.n = r.matched(cur)
		}
		r.told = len(known)
		n, size = 0, 0
		select {
		case r.batches <- a:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for {
		p, err := r.in.Next()
		if err != nil {
			if aerr := announce(nil); aerr != nil {
				return aerr
			}
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("%s: %w", r.name, err)
		}
		need := len(p.Data) + recordHeader
		s := r.stream(p.Interface)
		// What is not announced must fit into one buffer, so that the other goroutine, when it
		// has nothing left to do, never is what this one waits for.
		if s == nil || s != cur || need > s.room || size+need > s.room/2 {
			var outgrown *stream
			if s != nil && need > s.room {
				outgrown = s
			}
			if outgrown != nil && outgrown != cur {
				if err := announce(nil); err != nil {
					return err
				}
				cur = outgrown
			}
			if err := announce(outgrown); err != nil {
				return err
			}
			if s == nil || outgrown != nil {
				if s, err = r.openStream(p.Interface, need); err != nil {
					return err
				}
			}
			cur = s
		}
		if err := s.iface.InjectWait(ctx, bpftest.Packet{Data: p.Data, Wirelen: p.WireLen, Time: p.Time, Out: p.Out}); err != nil {
			return err
		}
		n++
		size += need
	}
}

func (r *replay) stream(iface int) *stream {
	if iface < len(r.current) {
		return r.current[iface]
	}
	return nil
}

// selective reports whether some packets of the file are not captured.
func (r *replay) selective() bool { return len(r.cfg.Filter) > 0 || r.cfg.Direction != bpf.InOut }

// matched returns how many packets of the stream have been captured since it was asked last.
func (r *replay) matched(s *stream) uint64 {
	for _, x := range r.k.Stats() {
		if name, _ := cString(x.Ifname[:]); name == s.iface.Name() {
			n := x.Fcount - s.matched
			s.matched = x.Fcount
			return n
		}
	}
	return 0
}

func cString(b []byte) (string, bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), true
		}
	}
	return string(b), false
}

// openStream makes an interface of the model for one of the file, with buffers for a packet that needs so many bytes.
func (r *replay) openStream(iface, need int) (*stream, error) {
	cfg := r.cfg
	if cfg.BufferSize == 0 && r.opened >= manyStreams {
		cfg.BufferSize = smallBuffer
	}
	if size := max(cfg.BufferSize, 1); need > maxRecord {
		return nil, fmt.Errorf("a packet of %d bytes is more than a buffer of bpf(4) can have (%s)", need-recordHeader, human.Size(largestBuffer))
	} else if cfg.BufferSize != 0 && need > size-recordHeader || need > bpf.DefaultBufferSize-recordHeader {
		cfg.BufferSize = largestBuffer
	}
	r.budget -= 2 * max(cfg.BufferSize, smallBuffer)
	if r.budget < 0 {
		return nil, fmt.Errorf("too many interfaces with packets: their buffers would need more than %s", human.Size(replayBudget))
	}
	in := r.in.Interfaces()[iface]
	name := "replay" + strconv.Itoa(r.opened)
	s := &stream{iface: r.k.AddInterface(name, uint32(in.LinkType)), index: iface}
	var err error
	if s.r, err = bpf.Open(name, cfg); err != nil {
		return nil, err
	}
	s.room = s.r.BufferSize() - recordHeader
	for iface >= len(r.current) {
		r.current = append(r.current, nil)
	}
	r.current[iface] = s
	r.opened++
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = append(r.streams, s)
	if r.mode == "" {
		r.mode = describeMode(s.r)
	}
	return s, nil
}

func (r *replay) pump(ctx context.Context, out *captureRun) error {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(r.batches)
		r.err = r.show(ctx)
	}()
	err := r.capture(ctx, out)
	stopped := ctx.Err() != nil
	cancel()
	for range r.batches {
	}
	if err == nil && !stopped {
		err = r.err
	}
	return err
}

// capture takes the batches out of the model until there are no more or ctx is done.
func (r *replay) capture(ctx context.Context, out *captureRun) error {
	for {
		next, ok := r.nextBatch(ctx)
		if !ok {
			return nil
		}
		for _, i := range next.ifaces {
			if r.cfg.SnapLen > 0 && (i.SnapLen == 0 || i.SnapLen > uint32(r.cfg.SnapLen)) {
				i.SnapLen = uint32(r.cfg.SnapLen)
			}
			if err := out.addInterface(i); err != nil {
				return err
			}
			r.mu.Lock()
			r.added++
			r.mu.Unlock()
		}
		if next.s == nil {
			continue
		}
		if err := next.s.take(ctx, out, next.n); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if next.last {
			r.retire(next.s)
		}
	}
}

// nextBatch waits for the next batch.
func (r *replay) nextBatch(ctx context.Context) (next batch, ok bool) {
	select {
	case next, ok = <-r.batches:
		return next, ok
	default:
	}
	r.look()
	select {
	case next, ok = <-r.batches:
		return next, ok
	case <-ctx.Done():
		return batch{}, false
	}
}

// look makes an ioctl: until then a buffer that was given back is not seen by a goroutine that waits for room.
func (r *replay) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.streams) > 0 {
		r.streams[0].r.Stats()
	}
}

// retire closes a stream that is through.
func (r *replay) retire(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats[s.index] = s.add(r.stats[s.index])
	for i := range r.streams {
		if r.streams[i] == s {
			r.streams = append(r.streams[:i], r.streams[i+1:]...)
			break
		}
	}
	s.lease.Release()
	s.r.Close()
	r.k.RemoveInterface(s.iface.Name())
}

// take passes n packets on. They are in the kernel already.
func (s *stream) take(ctx context.Context, out *captureRun, n uint64) error {
	for n > 0 {
		if !s.cursor.Next() {
			if err := s.cursor.Err(); err != nil {
				return err
			}
			s.lease.Release() // or there was none
			lease, err := s.r.Lease(ctx)
			if err != nil {
				return err
			}
			s.lease, s.cursor = lease, lease.Cursor()
			continue
		}
		err := out.batch()
		var count, bytes uint64
		for err == nil {
			p := s.cursor.Packet()
			count++
			bytes += uint64(p.CapLen())
			if err = out.packet(s.index, p); err != nil || count == n || !s.cursor.Next() {
				break
			}
		}
		out.end(count, bytes)
		n -= count
		if err != nil {
			return err
		}
	}
	return nil
}
