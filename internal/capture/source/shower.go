package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/filter"
	"github.com/zbuf-go/zbuf/internal/expression"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// shower shows the packets of a file to the model's interfaces. It never shows more than they have
// room for.
type shower struct {
	r      *Replay
	name   string         // of the file
	in     *pcapio.Reader // nil when the head of the file has not come
	before *beforeRead

	cur     *stream   // the last one shown to
	n       uint64    // packets shown to it and not announced
	notes   []comment // of these packets
	size    int       // bytes of their records
	told    int       // interfaces announced
	current []*stream // by interface of the file
	opened  int       // streams
	budget  int       // bytes of buffers that may still be opened

	err error // valid once run has returned
}

const (
	maxRecord    = largestBuffer - 4096 // bytes of a packet that fit into the largest buffer
	recordHeader = 64                   // at most, with alignment
	replayBudget = 512 << 20
	manyStreams  = 32 // more get small buffers
	smallBuffer  = 64 << 10
)

// beforeRead calls a function before each Read of a reader.
type beforeRead struct {
	io.Reader
	do func() error // may be nil
}

func (b *beforeRead) Read(p []byte) (int, error) {
	if b.do != nil {
		if err := b.do(); err != nil {
			return 0, err
		}
	}
	return b.Reader.Read(p)
}

// newShower reads the head of a file.
func newShower(r *Replay, file io.Reader) (shower, error) {
	before := &beforeRead{Reader: file}
	in, err := pcapio.NewReader(before)
	return shower{r: r, in: in, before: before, budget: replayBudget}, err
}

// run shows packets until there are no more, or nobody wants more. It announces all that it has
// shown.
func (s *shower) run() {
	if s.in == nil {
		return
	}
	s.before.do = func() error { return s.announce(nil) }
	for s.r.reading.Err() == nil && s.err == nil {
		p, err := s.in.Next()
		switch {
		case err == io.EOF:
			s.err = err
		case err != nil:
			s.err = fmt.Errorf("%s: %w", s.name, err)
		default:
			s.err = s.show(p)
		}
	}
	if err := s.announce(nil); err != nil && (s.err == nil || s.err == io.EOF) {
		s.err = err
	}
}

// verdict returns io.EOF, or the reason why not all of the file was shown.
func (s *shower) verdict() error {
	if s.err == nil || s.r.reading.Err() != nil {
		return io.EOF
	}
	return s.err
}

// announce tells Next the packets that were shown and not announced. last is a stream that the
// shower does not use any more, if it is the current one.
func (s *shower) announce(last *stream) error {
	known := s.in.Interfaces()
	a := announcement{ifaces: known[s.told:], s: s.cur, n: s.n, last: last != nil && last == s.cur,
		comments: s.notes}
	if a.n == 0 && len(a.ifaces) == 0 && !a.last {
		return nil
	}
	if a.n > 0 && s.selective() {
		a.n = s.captured(s.cur)
	}
	s.told = len(known)
	s.n, s.size, s.notes = 0, 0, nil
	select {
	case s.r.news <- a:
		return nil
	case <-s.r.showing.Done():
		return context.Cause(s.r.showing)
	}
}

// show shows one packet.
func (s *shower) show(p pcapio.Packet) error {
	need := len(p.Data) + recordHeader
	to := s.stream(p.Interface)
	// Packets that are not announced must fit into one buffer. Then the shower never waits for a Next
	// that has nothing left to do.
	if to == nil || to != s.cur || need > to.room || s.size+need > to.room/2 {
		var outgrown *stream
		if to != nil && need > to.room {
			outgrown = to
		}
		if outgrown != nil && outgrown != s.cur {
			if err := s.announce(nil); err != nil {
				return err
			}
			s.cur = outgrown
		}
		if err := s.announce(outgrown); err != nil {
			return err
		}
		if to == nil || outgrown != nil {
			var err error
			if to, err = s.open(p.Interface, need); err != nil {
				return err
			}
		}
		s.cur = to
	}
	at := s.n
	if len(p.Comments) > 0 && s.selective() {
		at = s.matched(to) - to.matched
	}
	err := to.iface.InjectWait(s.r.showing, bpftest.Packet{
		Data: p.Data, Wirelen: p.WireLen, Time: p.Time, Out: p.Out,
	})
	if err != nil {
		return err
	}
	s.n++
	s.size += need
	if len(p.Comments) > 0 && (!s.selective() || s.matched(to)-to.matched > at) {
		s.notes = append(s.notes, comment{at, p.Comments})
	}
	return nil
}

func (s *shower) stream(iface int) *stream {
	if iface < len(s.current) {
		return s.current[iface]
	}
	return nil
}

// selective reports whether some packets of the file are not captured.
func (s *shower) selective() bool {
	return len(s.r.cfg.Filter) > 0 || s.r.cfg.Expression != "" || s.r.cfg.Direction != bpf.InOut
}

// captured returns the number of packets of a stream that have been captured since the last call.
func (s *shower) captured(of *stream) uint64 {
	before := of.matched
	of.matched = s.matched(of)
	return of.matched - before
}

// matched returns the number of packets of a stream that have been captured.
func (s *shower) matched(of *stream) uint64 {
	for _, x := range s.r.k.Stats() {
		if name, _, _ := bytes.Cut(x.Ifname[:], []byte{0}); string(name) == of.iface.Name() {
			return x.Fcount
		}
	}
	return of.matched
}

// open opens a stream for an interface of the file. It has room for a record of need bytes.
func (s *shower) open(iface, need int) (*stream, error) {
	r := s.r
	cfg := r.cfg
	if cfg.BufferSize == 0 && s.opened >= manyStreams {
		cfg.BufferSize = smallBuffer
	}
	if size := max(cfg.BufferSize, 1); need > maxRecord {
		return nil, fmt.Errorf("a packet of %d bytes is more than a buffer of bpf(4) can have (%s)",
			need-recordHeader, human.Size(largestBuffer))
	} else if cfg.BufferSize != 0 && need > size-recordHeader ||
		need > bpf.DefaultBufferSize-recordHeader {
		cfg.BufferSize = largestBuffer
	}
	s.budget -= 2 * max(cfg.BufferSize, smallBuffer)
	if s.budget < 0 {
		return nil, fmt.Errorf("too many interfaces with packets: their buffers would need more than %s",
			human.Size(replayBudget))
	}
	in := s.in.Interfaces()[iface]
	var err error
	cfg.Filter, err = r.program(in)
	if errors.Is(err, filter.ErrNoMatch) { // and other interfaces may have packets that match
		cfg.Filter, err = expression.Nothing(), nil
	}
	if err != nil {
		return nil, err
	}
	cfg.Expression = ""
	name := "replay" + strconv.Itoa(s.opened)
	to := &stream{iface: r.k.AddInterface(name, uint32(in.LinkType)), index: iface}
	if to.r, err = bpf.Open(name, cfg); err != nil {
		return nil, err
	}
	to.room = to.r.BufferSize() - recordHeader
	for iface >= len(s.current) {
		s.current = append(s.current, nil)
	}
	s.current[iface] = to
	s.opened++
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = append(r.streams, to)
	if r.mode == "" {
		r.mode = describeMode(to.r)
	}
	return to, nil
}
