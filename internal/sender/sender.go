// Package sender writes the packets of capture files to an interface.
package sender

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Config says how packets leave. Without TopSpeed, PPS and Rate they leave as far apart as they
// were captured.
type Config struct {
	TopSpeed bool
	PPS      float64 // packets in a second
	Rate     float64 // bits in a second
	Loop     uint64  // how often to send the files; 0 means for ever
	Limit    uint64  // how many packets to send; 0 means all

	// Multiplier is how many times as fast as they were captured the packets leave; 0 means 1.
	Multiplier float64
	// MaxGap is the longest time between two packets, if they leave as they were captured. A longer
	// one becomes as short. 0 makes a time of more than LongGap an error.
	MaxGap time.Duration
}

// LongGap is the longest time between two packets that nobody has to ask for.
const LongGap = time.Hour

// Sender sends files. Its counters count for all rounds.
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
	files       []*File
	left        leftOut
	longestSent int
}

// ErrLoop is in the error of New for a pipe and a Loop other than 1.
var ErrLoop = errors.New("a pipe can be read only once")

// LongGapError is the error for a gap of more than LongGap.
type LongGapError struct{ Gap Gap }

func (e *LongGapError) Error() string {
	return fmt.Sprintf("%s: packet %d was captured %v after the packets before it",
		e.Gap.File, e.Gap.Packet, e.Gap.Round(time.Second))
}

// errEnough ends a round: as many packets as were asked for are sent.
var errEnough = errors.New("enough packets are sent")

// New opens an interface for the packets of files. All packets of files that can be read again are
// of one link type, which the interface takes, or New fails.
func New(m *machine.Machine, iface string, files []*File, cfg Config) (*Sender, Plan, error) {
	var plan Plan
	s := &Sender{cfg: cfg, files: files}
	for _, f := range files {
		if !f.Again() {
			if cfg.Loop != 1 {
				return nil, plan, fmt.Errorf("%s: %w", f.Name, ErrLoop)
			}
			continue
		}
		if err := plan.add(f, cfg.Limit); err != nil {
			return nil, plan, err
		}
	}
	if _, err := s.lasts(plan.Gap); err != nil {
		return nil, plan, err
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
	s.out = out
	return s, plan, nil
}

// Close closes the interface.
func (s *Sender) Close() { s.out.d.Close() }

// Run sends the files in turn. It returns nil when all packets were sent or left out, or as many
// as the Limit were sent. It returns capture.ErrInterrupted when ctx is done before, but nil if
// the files are sent for ever.
func (s *Sender) Run(ctx context.Context) error {
	start := time.Now()
	defer func() { s.Elapsed = time.Since(start) }()
	due := start // when the next packet is to leave
	for n := uint64(0); s.cfg.Loop == 0 || n < s.cfg.Loop; n++ {
		some := false
		for _, f := range s.files {
			packets, err := s.sendFile(ctx, f, &due)
			some = some || packets
			switch {
			case errors.Is(err, errEnough), errors.Is(err, capture.ErrInterrupted) && s.cfg.Loop == 0:
				return nil
			case err != nil:
				return err
			}
		}
		if !some {
			return nil
		}
	}
	return nil
}

// sendFile sends a file once, and reports whether it has a packet. The first packet leaves at due,
// which then is when the packet after the last one is to leave.
func (s *Sender) sendFile(ctx context.Context, f *File, due *time.Time) (some bool, err error) {
	var times clock
	n := uint64(0)
	err = f.each(func(linkType uint16, p pcapio.Packet) error {
		some = true
		n++
		if err := s.out.choose(linkType); err != nil {
			return s.after(err)
		}
		gap, err := s.lasts(Gap{times.gap(p.Time), f.Name, n})
		if err != nil {
			return s.after(err)
		}
		*due = due.Add(gap)
		if err := s.wait(ctx, *due); err != nil {
			return err
		}
		if err := s.send(ctx, p); err != nil {
			return err
		}
		*due = due.Add(s.pace(len(p.Data)))
		if s.cfg.Limit > 0 && s.Packets >= s.cfg.Limit {
			return errEnough // does not wait for a pipe to say whether there is one more
		}
		return nil
	})
	return some, err
}

// lasts returns how long a gap lasts when it is sent.
func (s *Sender) lasts(gap Gap) (time.Duration, error) {
	if !s.original() {
		return 0, nil
	}
	d := gap.Duration
	if s.cfg.Multiplier > 0 {
		d = time.Duration(min(float64(d)/s.cfg.Multiplier, math.MaxInt64/2))
	}
	switch {
	case s.cfg.MaxGap > 0:
		return min(d, s.cfg.MaxGap), nil
	case d > LongGap:
		return 0, &LongGapError{gap}
	}
	return d, nil
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
	return fmt.Errorf("after %s: %w", human.Count(s.Packets, "packet"), err)
}

func (s *Sender) told() {
	if s.Sent != nil {
		s.Sent()
	}
}
