package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/filter"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/expression"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/interruptible"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Replay captures the packets of a file on a model of the kernel. One goroutine, the shower, shows
// them to the model's interfaces. Next captures them from there. Each interface of the file becomes
// one of the model, with a reader of its own. When packets are in the kernel, the shower announces
// them. The announcements keep the order between interfaces.
//
// The shower announces what it has shown before it waits for more of the file. So packets that come
// through a pipe are captured as soon as they are there.
type Replay struct {
	cfg bpf.Config
	k   *bpftest.Kernel
	// maxInsns is the model's limit of instructions.
	maxInsns int32
	file     io.Closer // nil for standard input

	reading context.Context // done when nothing more of the file is wanted
	stop    context.CancelFunc
	showing context.Context // done when nothing more is captured
	abandon context.CancelFunc
	start   sync.Once
	shower  shower
	news    chan announcement

	// The state of Next.
	stream   *stream
	left     uint64 // packets of it that are announced and not captured yet
	passed   uint64 // packets of the announcement that are captured
	comments []comment
	outgrown *stream // to be closed when left is 0

	mu      sync.Mutex
	streams []*stream
	stats   map[int]pcapio.Statistics // of streams that are closed
	mode    string                    // of the first stream; empty before
	told    bool                      // a batch has had it
	added   int                       // interfaces that a batch has had
}

var _ capture.Source = (*Replay)(nil)

// An announcement has a number of successive packets of one stream, and before them new interfaces.
type announcement struct {
	ifaces []pcapio.Interface
	s      *stream
	n      uint64
	last   bool // the stream is not used any more

	comments []comment
}

// comment has the comments of one packet. bpf(4) has no place for them, so they go beside it.
type comment struct {
	at   uint64 // the packet's place in the announcement
	text []string
}

const largestBuffer = 2 << 20

// OpenReplay opens a file and reads its head. "-" is standard input. If ctx is done before the head
// has come, the replay has no packets. If ctx is done later, the replay reads no more of the file.
//
// Errors:
//   - [pcapio.ErrFormat]: the file is not a capture file, or is damaged.
//   - [ErrBufferSize]: cfg.BufferSize is more than the model's kernel takes.
//   - [ErrFilterLength]: cfg.Filter is too long for the model's kernel.
//   - Those of the file.
func OpenReplay(
	ctx context.Context, name string, stdin io.Reader, cfg bpf.Config,
) (*Replay, error) {
	if cfg.BufferSize > largestBuffer {
		return nil, bufferSizeError(fmt.Sprintf("%s is beyond the kernel's maximum of %s",
			human.Size(cfg.BufferSize), human.Size(largestBuffer)))
	}
	r := &Replay{cfg: cfg, news: make(chan announcement, 256), stats: map[int]pcapio.Statistics{}}
	r.reading, r.stop = context.WithCancel(ctx)
	r.showing, r.abandon = context.WithCancel(context.Background())
	r.k = bpftest.New(
		bpftest.WithSysctl("net.bpf.zerocopy_enable", 1),
		bpftest.WithSysctl("net.bpf.maxbufsize", largestBuffer),
		bpftest.WithPlainMemory(), // the verdicts of a file are those of filter.VM
	)
	var err error
	if r.maxInsns, err = r.k.Sysctl("net.bpf.maxinsns"); err != nil {
		return nil, err
	}
	if err := CheckFilter(cfg, r.maxInsns); err != nil {
		return nil, err
	}
	r.cfg.System = r.k
	r.cfg.Promiscuous = false
	r.cfg.Immediate = true // a reader here waits only for packets that are there
	if err := r.open(name, stdin); err != nil && ctx.Err() == nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open begins to read the file.
func (r *Replay) open(name string, stdin io.Reader) error {
	src := stdin
	if name == "-" {
		name = "standard input"
	} else {
		f, err := interruptible.Open(r.reading, name, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		src, r.file = f, f
	}
	if !interruptible.Regular(src) {
		i := interruptible.NewReader(r.reading, src)
		src, r.file = i, closers{i, r.file}
	}
	var err error
	if r.shower, err = newShower(r, src); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.shower.name = name
	// The head of a pcap file describes its one interface. There an expression that can't match is a
	// mistake.
	for _, i := range r.shower.in.Interfaces() {
		if _, err := r.program(i); err != nil {
			return err
		}
	}
	return nil
}

// program returns the filter that the packets of an interface of the file must pass.
func (r *Replay) program(i pcapio.Interface) ([]xbpf.RawInstruction, error) {
	if r.cfg.Expression == "" {
		return r.cfg.Filter, nil
	}
	opt := expression.ForFile(i)
	opt.MaxInstructions, opt.SnapLen = int(r.maxInsns), math.MaxInt32
	return filter.Compile(r.cfg.Expression, opt)
}

// closers close one after the other.
type closers []io.Closer

func (all closers) Close() (err error) {
	for _, c := range all {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// halt waits until the shower has ended.
func (r *Replay) halt() {
	r.stop()
	r.abandon()
	r.start.Do(func() { close(r.news) })
	for range r.news {
	}
}

// Notes returns the faults of the file in spite of which it was read. It ends the replay: Next
// returns no packets after it.
func (r *Replay) Notes() (all []string) {
	r.halt()
	if r.shower.in == nil {
		return nil
	}
	for _, n := range r.shower.in.Notes() {
		all = append(all, r.shower.name+": "+n)
	}
	return all
}

// Close ends the replay.
func (r *Replay) Close() error {
	r.halt()
	var err error
	if r.file != nil {
		err = r.file.Close()
	}
	for _, s := range r.streams {
		s.close()
	}
	return err
}

// Describe returns nothing: the mode is known with the first packet.
func (r *Replay) Describe() string { return "" }

// Statistics returns the model's counters.
func (r *Replay) Statistics() []pcapio.Statistics {
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

// Next returns the next packets in the memory of a lease.
func (r *Replay) Next(ctx context.Context, b *capture.Batch) error {
	r.start.Do(func() {
		go func() {
			defer close(r.news)
			r.shower.run()
		}()
	})
	for {
		if r.left > 0 {
			n, err := r.stream.next(ctx, b, r.left)
			r.comment(b, n)
			r.left -= n
			return err
		}
		if r.outgrown != nil {
			r.retire(r.outgrown)
			r.outgrown = nil
		}
		news, ok := r.await(ctx)
		if !ok {
			return r.shower.verdict()
		}
		r.stream, r.left = news.s, news.n
		r.passed, r.comments = 0, news.comments
		if news.last {
			r.outgrown = news.s
		}
		if mode := r.newMode(); mode != "" {
			b.Notes = append(b.Notes, "replay through a model of the kernel: "+mode)
		}
		if len(news.ifaces) > 0 {
			b.New = r.introduce(news.ifaces)
			return nil
		}
	}
}

// newMode returns the mode when it has become known, once.
func (r *Replay) newMode() (mode string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told || r.mode == "" {
		return ""
	}
	r.told = true
	return r.mode
}

// comment gives the n packets of a batch their comments.
func (r *Replay) comment(b *capture.Batch, n uint64) {
	for len(r.comments) > 0 && r.comments[0].at < r.passed+n {
		c := r.comments[0]
		b.Packets[c.at-r.passed].Comments = c.text
		r.comments = r.comments[1:]
	}
	r.passed += n
}

// await returns the next announcement. When ctx is done, it stops the shower and returns the
// announcements that are left.
func (r *Replay) await(ctx context.Context) (news announcement, ok bool) {
	select {
	case news, ok = <-r.news:
		return news, ok
	default:
	}
	r.look()
	select {
	case news, ok = <-r.news:
	case <-ctx.Done():
		r.stop()
		news, ok = <-r.news
	}
	return news, ok
}

// look makes an ioctl. The shower may wait for room. Only an ioctl shows it that a buffer was given
// back.
func (r *Replay) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.streams) > 0 {
		r.streams[0].r.Stats()
	}
}

// introduce returns interfaces in the form that a batch has.
func (r *Replay) introduce(ifaces []pcapio.Interface) []pcapio.Interface {
	all := make([]pcapio.Interface, 0, len(ifaces))
	for _, i := range ifaces {
		if snap := uint32(r.cfg.SnapLen); snap > 0 && (i.SnapLen == 0 || i.SnapLen > snap) {
			i.SnapLen = snap
		}
		filtered(&i, r.cfg)
		all = append(all, i)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added += len(all)
	return all
}

// retire closes a stream that will have no more packets.
func (r *Replay) retire(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats[s.index] = s.add(r.stats[s.index])
	for i := range r.streams {
		if r.streams[i] == s {
			r.streams = append(r.streams[:i], r.streams[i+1:]...)
			break
		}
	}
	s.close()
	r.k.RemoveInterface(s.iface.Name())
}
