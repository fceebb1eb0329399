// Package sender writes the packets of a capture file to an interface.
package sender

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Config says how packets leave. Without TopSpeed, PPS and Rate they leave as far apart as they
// were captured.
type Config struct {
	TopSpeed bool
	PPS      float64 // packets in a second
	Rate     float64 // bits in a second
	Loop     uint64  // how often to send the file; 0 means for ever
}

// Sender sends a file. Its counters count for all rounds.
type Sender struct {
	Packets, Bytes uint64 // sent
	WereCut        uint64 // of them, those that had been cut when they were captured
	Elapsed        time.Duration

	// Sent, if not nil, is called for each packet, whether it was sent or left out.
	Sent func()
	// Waits, if not nil, is called before a long wait.
	Waits func(time.Duration)

	cfg         Config
	out         *outlet
	file        *File
	left        leftOut
	longestSent int
}

// ErrLoop is in the error of New for a pipe and a Loop other than 1.
var ErrLoop = errors.New("a pipe can be read only once")

// New opens an interface for the packets of a file. If the file can be read again, all its
// packets are of a link type that the interface takes, or New fails.
func New(m *machine.Machine, iface string, f *File, cfg Config) (*Sender, Plan, error) {
	var plan Plan
	if f.Again() {
		var err error
		if plan, err = f.Plan(); err != nil {
			return nil, plan, err
		}
	} else if cfg.Loop != 1 {
		return nil, plan, fmt.Errorf("%s: %w", f.Name, ErrLoop)
	}
	out, err := openOutlet(m, iface)
	if err != nil {
		return nil, plan, err
	}
	switch l := plan.LinkTypes; len(l) {
	case 0:
	case 1:
		err = out.choose(l[0])
	default:
		err = out.several(l[0], l[1])
	}
	if err != nil {
		out.d.Close()
		return nil, plan, err
	}
	return &Sender{cfg: cfg, out: out, file: f}, plan, nil
}

// Close closes the interface.
func (s *Sender) Close() { s.out.d.Close() }

// Run sends the file. It returns nil when all of it was sent or left out. It returns
// capture.ErrInterrupted when ctx is done before, but nil if the file is sent for ever.
func (s *Sender) Run(ctx context.Context) error {
	start := time.Now()
	defer func() { s.Elapsed = time.Since(start) }()
	due := start // when the next packet is to leave
	for n := uint64(0); s.cfg.Loop == 0 || n < s.cfg.Loop; n++ {
		var times clock
		some := false
		err := s.file.each(func(linkType uint16, p pcapio.Packet) error {
			some = true
			if err := s.out.choose(linkType); err != nil {
				return s.after(err)
			}
			if s.original() {
				due = due.Add(times.gap(p.Time))
			}
			if err := s.wait(ctx, due); err != nil {
				return err
			}
			if err := s.send(ctx, p); err != nil {
				return err
			}
			due = due.Add(s.pace(len(p.Data)))
			return nil
		})
		switch {
		case errors.Is(err, capture.ErrInterrupted) && s.cfg.Loop == 0:
			return nil
		case err != nil || !some:
			return err
		}
	}
	return nil
}

// clock tells how far apart packets were captured.
type clock struct {
	latest time.Time
}

// gap returns how long after all packets before it a packet was captured. A packet without a
// time, which a file has as 1970, leaves at once and does not count.
func (c *clock) gap(at time.Time) time.Duration {
	if at.IsZero() || at.Equal(time.Unix(0, 0)) || !at.After(c.latest) {
		return 0
	}
	gap := at.Sub(c.latest)
	if c.latest.IsZero() {
		gap = 0
	}
	c.latest = at
	return gap
}

// original reports whether packets leave as far apart as they were captured.
func (s *Sender) original() bool { return !s.cfg.TopSpeed && s.cfg.PPS == 0 && s.cfg.Rate == 0 }

// pace returns the time that a packet of n bytes takes at the rate asked for.
func (s *Sender) pace(n int) time.Duration {
	switch {
	case s.cfg.PPS > 0:
		return time.Duration(float64(time.Second) / s.cfg.PPS)
	case s.cfg.Rate > 0:
		return time.Duration(float64(time.Second) * float64(n) * 8 / s.cfg.Rate)
	}
	return 0
}

// longWait is the shortest wait that Waits is called before.
const longWait = time.Minute

// wait waits until a packet is due.
func (s *Sender) wait(ctx context.Context, due time.Time) error {
	if ctx.Err() != nil {
		return capture.ErrInterrupted
	}
	if s.cfg.TopSpeed {
		return nil
	}
	rest := time.Until(due)
	if rest <= 0 {
		return nil
	}
	if rest >= longWait && s.Waits != nil {
		s.Waits(rest)
	}
	return sleep(ctx, rest)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return capture.ErrInterrupted
	}
}

// How long a full queue of the interface may stay full, and how often it is tried.
const (
	queuePatience = 5 * time.Second
	queueRetry    = time.Millisecond
)

// send writes one packet, or counts it as left out.
func (s *Sender) send(ctx context.Context, p pcapio.Packet) error {
	n := len(p.Data)
	if n == 0 { // write(2) of no bytes succeeds and sends nothing
		s.left.tooShort++
		s.told()
		return nil
	}
	_, err := s.out.d.Write(p.Data)
	for began := time.Now(); errors.Is(err, syscall.ENOBUFS) && time.Since(began) < queuePatience; {
		if err := sleep(ctx, queueRetry); err != nil {
			return err
		}
		_, err = s.out.d.Write(p.Data)
	}
	is := func(e syscall.Errno) bool { return errors.Is(err, e) }
	switch {
	case err == nil:
		s.Packets++
		s.Bytes += uint64(n)
		s.longestSent = max(s.longestSent, n)
		if p.WireLen > n {
			s.WereCut++
		}
	case is(syscall.EMSGSIZE) && n < s.out.linkHeader():
		s.left.tooShort++
	case is(syscall.EMSGSIZE):
		s.left.tooLong++
		s.left.longest = max(s.left.longest, n)
	case (is(syscall.EIO) || is(syscall.ENOMEM)) && n > smallestPage:
		s.left.tooLong++
		s.left.longest = max(s.left.longest, n)
		if s.left.noMemory == 0 || n < s.left.noMemory {
			s.left.noMemory = n
		}
	default:
		return s.after(err)
	}
	s.told()
	return nil
}

// smallestPage is the smallest page of all processors: the kernel finds memory for that much.
const smallestPage = 4096

// after says how far it went until an error.
func (s *Sender) after(err error) error {
	return fmt.Errorf("after %d packets: %w", s.Packets, err)
}

func (s *Sender) told() {
	if s.Sent != nil {
		s.Sent()
	}
}
