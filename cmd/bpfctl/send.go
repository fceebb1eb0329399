package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// sendFlags is the command line of send.
type sendFlags struct {
	iface    string
	rate     bitRate
	pps      float64
	topspeed bool
	loop     uint64
}

func newSend(w *world) *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use:   "send -i IFACE FILE",
		Short: "Write the packets of a capture file to an interface",
		Long: `Send writes the packets of a pcap or pcapng file to an interface, as they are in
the file, link headers and source addresses included, and in its order. They
leave as far apart as they were captured unless --rate, --pps or --topspeed says
otherwise.

All packets must be of a link type that the interface takes; that is looked at
before the first one is sent. Packets that are too long or too short for the
interface are left out and counted, and the exit code is then 1. Packets that
were cut when they were captured are sent as long as they are, and counted.

Permission to open /dev/bpf for writing is needed.`,
		Example: `  bpfctl send -i em0 in.pcap
  bpfctl send -i em0 in.pcapng --pps 1000 --loop 10
  bpfctl send -i em0 in.pcap --rate 100M
  bpfctl send --model quiet -i em0 in.pcap --topspeed`,
		Args: func(c *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("which file? see %s --help", c.CommandPath())
			case 1:
				return nil
			}
			return usagef("unexpected argument %q: see %s --help", args[1], c.CommandPath())
		},
		RunE: func(c *cobra.Command, args []string) error { return runSend(c, w, &f, args[0]) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.VarP(once(&f.iface), "interface", "i", "send on `IFACE`")
	fl.Var(&f.rate, "rate", "send `BITS` each second, such as 500K, 100M or 1G (powers of 1000)")
	fl.Float64Var(&f.pps, "pps", 0, "send `N` packets each second")
	fl.BoolVar(&f.topspeed, "topspeed", false, "send as fast as it goes")
	fl.Uint64Var(&f.loop, "loop", 1, "send the file `N` times; 0 is for ever")
	c.RegisterFlagCompletionFunc("interface", w.completeInterface)
	return c
}

// bitRate is a flag: a number of bits in a second.
type bitRate float64

func (r *bitRate) String() string { return strconv.FormatFloat(float64(*r), 'g', -1, 64) }
func (r *bitRate) Type() string   { return "BITS" }

func (r *bitRate) Set(text string) error {
	digits, unit := text, 1.0
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kmg", text[n-1]|0x20); i >= 0 {
			digits, unit = text[:n-1], math.Pow(1000, float64(i+1))
		}
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(f > 0) || f*unit > 1e15 {
		return errors.New("a rate is a number of bits, such as 500K, 100M or 1G")
	}
	*r = bitRate(f * unit)
	return nil
}

func runSend(c *cobra.Command, w *world, f *sendFlags, file string) error {
	ways := 0
	for _, flag := range []string{"rate", "pps", "topspeed"} {
		if c.Flags().Changed(flag) {
			ways++
		}
	}
	switch {
	case f.iface == "":
		return usagef("which interface? -i IFACE")
	case ways > 1:
		return usagef("--rate, --pps and --topspeed exclude each other")
	case c.Flags().Changed("pps") && !(f.pps > 0 && f.pps <= 1e9):
		return usagef("--pps %v: must be more than 0, and at most 1e9", f.pps)
	}
	plan, err := readPlan(file)
	if err != nil {
		return err
	}
	for _, n := range plan.notes {
		fmt.Fprintf(c.ErrOrStderr(), "bpfctl: %s: %s\n", file, n)
	}
	m, err := w.machine()
	if err != nil {
		return err
	}
	defer m.Stop()
	d, err := openWriter(m, f.iface, plan)
	if err != nil {
		return err
	}
	defer d.Close()
	ctx, stop := capture.UntilSignal(context.Background())
	defer stop(nil)

	s := &sender{d: d, flags: f, file: file, iface: f.iface}
	if l := lookOf(c.ErrOrStderr()); l.live && plan.packets > 0 {
		total := int64(-1)
		if f.loop > 0 && plan.packets <= math.MaxInt64/f.loop {
			total = int64(plan.packets * f.loop)
		}
		s.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(c.ErrOrStderr()),
			progressbar.OptionSetDescription(f.iface), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("packets"), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true),
			progressbar.OptionSetSpinnerChangeInterval(0)) // else it draws from a goroutine too, which Clear races with
	}
	err = s.run(ctx)
	if s.bar != nil {
		s.bar.Clear()
	}
	s.summary(c.ErrOrStderr())
	if err == nil {
		err = s.shortfall(m)
	}
	return err
}

// plan is what is known of a file before any of it is sent.
type plan struct {
	packets   uint64
	linkTypes []uint16 // LINKTYPE_ numbers of its packets
	notes     []string // what is wrong with it, although it can be read
}

func readPlan(file string) (p plan, err error) {
	seen := map[uint16]bool{}
	p.notes, err = eachPacket(file, func(linkType uint16, _ pcapio.Packet) error {
		p.packets++
		if !seen[linkType] {
			seen[linkType] = true
			p.linkTypes = append(p.linkTypes, linkType)
		}
		return nil
	})
	return p, err
}

// eachPacket calls f for all packets of a file, and returns what is wrong with it, although it can be read.
func eachPacket(file string, f func(linkType uint16, p pcapio.Packet) error) (notes []string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, err := pcapio.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for {
		p, err := r.Next()
		if err == io.EOF {
			return r.Notes(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := f(r.Interfaces()[p.Interface].LinkType, p); err != nil {
			return nil, err
		}
	}
}

// openWriter opens a descriptor that writes the packets of a plan and captures nothing.
func openWriter(m *machine.Machine, iface string, p plan) (*zbuf.Device, error) {
	d, err := zbuf.OpenOn(m.BPF)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error { return d.SetFilter(nothing) },
		func() error { return d.SetInterface(iface) },
		func() error { return d.SetHeaderComplete(true) },
		func() error { return chooseLinkType(d, iface, p.linkTypes) },
	} {
		if err := step(); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

func chooseLinkType(d *zbuf.Device, iface string, want []uint16) error {
	if len(want) == 0 {
		return nil
	}
	if len(want) > 1 {
		return fmt.Errorf("the file has packets of several link types (LINKTYPE_ %d and %d): %s takes one at a time", want[0], want[1], iface)
	}
	offered, err := d.LinkTypes()
	if err != nil {
		return err
	}
	var names []string
	for _, dlt := range offered {
		if zbuf.DLTToLinkType(dlt) == want[0] {
			return d.SetLinkType(dlt)
		}
		names = append(names, zbuf.DLTName(dlt))
	}
	return fmt.Errorf("the packets are of link type %d (LINKTYPE_), and %s takes %s", want[0], iface, strings.Join(names, ", "))
}

// sender writes a file to an interface.
type sender struct {
	d           *zbuf.Device
	flags       *sendFlags
	file, iface string
	bar         *progressbar.ProgressBar

	start                      time.Time
	end                        time.Time
	packets, bytes             uint64 // sent
	tooLong, tooShort, wereCut uint64
	longest                    int // of those that were too long
}

func (s *sender) run(ctx context.Context) error {
	s.start = time.Now()
	defer func() { s.end = time.Now() }()
	due := s.start // when the next packet is to leave
	for n := uint64(0); s.flags.loop == 0 || n < s.flags.loop; n++ {
		var last time.Time
		some := false
		_, err := eachPacket(s.file, func(_ uint16, p pcapio.Packet) error {
			if some && s.original() && p.Time.After(last) {
				due = due.Add(p.Time.Sub(last))
			}
			if !some || p.Time.After(last) {
				last = p.Time // of packets out of order none waits for another twice
			}
			some = true
			if err := s.wait(ctx, due); err != nil {
				return err
			}
			if err := s.send(ctx, p); err != nil {
				return err
			}
			due = due.Add(s.gap(len(p.Data)))
			return nil
		})
		if errors.Is(err, capture.ErrInterrupted) && s.flags.loop == 0 {
			return nil
		}
		if err != nil || !some {
			return err
		}
	}
	return nil
}

// original reports whether packets leave as far apart as they were captured.
func (s *sender) original() bool {
	return !s.flags.topspeed && s.flags.pps == 0 && s.flags.rate == 0
}

// gap is the time that a packet of n bytes takes at the rate asked for.
func (s *sender) gap(n int) time.Duration {
	switch {
	case s.flags.pps > 0:
		return time.Duration(float64(time.Second) / s.flags.pps)
	case s.flags.rate > 0:
		return time.Duration(float64(time.Second) * float64(n) * 8 / float64(s.flags.rate))
	}
	return 0
}

// wait waits until a packet is due.
func (s *sender) wait(ctx context.Context, due time.Time) error {
	if ctx.Err() != nil {
		return capture.ErrInterrupted
	}
	if s.flags.topspeed {
		return nil
	}
	rest := time.Until(due)
	if rest <= 0 {
		return nil
	}
	t := time.NewTimer(rest)
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

func (s *sender) send(ctx context.Context, p pcapio.Packet) error {
	_, err := s.d.Write(p.Data)
	for began := time.Now(); errors.Is(err, syscall.ENOBUFS) && time.Since(began) < queuePatience; {
		if err := s.wait(ctx, time.Now().Add(queueRetry)); err != nil {
			return err
		}
		_, err = s.d.Write(p.Data)
	}
	long := len(p.Data) > shortest
	switch {
	case err == nil:
		s.packets++
		s.bytes += uint64(len(p.Data))
		if p.WireLen > len(p.Data) {
			s.wereCut++
		}
	case errors.Is(err, syscall.EMSGSIZE) && !long:
		s.tooShort++
	case errors.Is(err, syscall.EMSGSIZE), errors.Is(err, syscall.EIO) && len(p.Data) > pageOfMemory:
		s.tooLong++
		s.longest = max(s.longest, len(p.Data))
	default:
		return fmt.Errorf("after %d packets: %w", s.packets, err)
	}
	if s.bar != nil {
		s.bar.Add(1)
	}
	return nil
}

const (
	// shortest is more than a link header and less than any MTU: EMSGSIZE is for both.
	shortest = 64
	// pageOfMemory is what the kernel finds room for in one piece (MJUMPAGESIZE); EIO beyond.
	pageOfMemory = 4096
)

func (s *sender) summary(w io.Writer) {
	took := s.end.Sub(s.start)
	fmt.Fprintf(w, "bpfctl: %s: %d packets sent, %d bytes, in %v", s.iface, s.packets, s.bytes, human.Elapsed(took))
	if sec := took.Seconds(); s.packets > 1 && sec > 0 {
		fmt.Fprintf(w, "; %.0f packets and %sbit a second", float64(s.packets)/sec, strings.TrimSuffix(human.RoughSize(uint64(float64(s.bytes)*8/sec)), "B"))
	}
	fmt.Fprintln(w)
	if s.wereCut > 0 {
		fmt.Fprintf(w, "bpfctl: %d of them had been cut when they were captured, and were sent so\n", s.wereCut)
	}
}

// shortfall is the error when packets were left out.
func (s *sender) shortfall(m *machine.Machine) error {
	var why []string
	if s.tooLong > 0 {
		limit := ""
		if all, err := m.Interfaces(); err == nil {
			for _, i := range all {
				if i.Name == s.iface {
					limit = fmt.Sprintf(", and its MTU is %d", i.MTU)
				}
			}
		}
		why = append(why, fmt.Sprintf("%d too long for %s (the longest has %d bytes%s)", s.tooLong, s.iface, s.longest, limit))
	}
	if s.tooShort > 0 {
		why = append(why, fmt.Sprintf("%d shorter than a link header", s.tooShort))
	}
	if why == nil {
		return nil
	}
	return errors.New("packets were left out: " + strings.Join(why, ", "))
}

// nothing is a filter program that captures nothing.
var nothing = []zbuf.Insn{{Op: 0x06}} // ret #0
