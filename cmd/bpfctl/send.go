package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/sender"
)

// sendFlags has the flags of send.
type sendFlags struct {
	iface    string
	rate     bitRate
	pps      float64
	topspeed bool
	loop     uint64
}

func newSend(t *target) *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use:   "send -i IFACE FILE",
		Short: "Write the packets of a capture file to an interface",
		Long: `Send writes the packets of a pcap or pcapng file to an interface, in the order
of the file. It sends them as they are in the file, with their link headers and
source addresses. They leave as far apart as they were captured, unless --rate,
--pps or --topspeed says otherwise. A packet without a time stamp leaves at
once. FILE can be a pipe; "-" is standard input.

All packets must be of a link type that the interface takes. Send checks that
before it sends the first one, unless FILE is a pipe.

Send leaves out and counts packets that are too long or too short for the
interface; the exit code is then 1. It sends packets that were cut when they
were captured as they are in the file, and counts them too.

Send needs permission to open /dev/bpf for writing.`,
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
		RunE: func(c *cobra.Command, args []string) error { return runSend(c, t, &f, args[0]) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.VarP(once(&f.iface), "interface", "i", "send on `IFACE`")
	fl.Var(&f.rate, "rate", "send `BITS` each second, such as 500K, 100M or 1G (powers of 1000)")
	fl.Float64Var(&f.pps, "pps", 0, "send `N` packets each second")
	fl.BoolVar(&f.topspeed, "topspeed", false, "send as fast as possible")
	fl.Uint64Var(&f.loop, "loop", 1, "send the file `N` times; 0 is for ever")
	c.RegisterFlagCompletionFunc("interface", t.completeInterface)
	return c
}

// bitRate is a flag for a number of bits in a second.
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

func runSend(c *cobra.Command, t *target, f *sendFlags, name string) error {
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
		return usagef("give one of --rate, --pps and --topspeed")
	case c.Flags().Changed("pps") && !(f.pps > 0 && f.pps <= 1e9):
		return usagef("--pps %v: must be more than 0, and at most 1e9", f.pps)
	}
	ctx, stop := capture.UntilSignal(context.Background())
	defer stop(nil)
	came := sync.OnceFunc(sayAfter(time.Second, c.ErrOrStderr(),
		"waiting for the first bytes of "+inputName(name)))
	defer came()
	file, err := sender.Open(ctx, name, c.InOrStdin())
	if err != nil {
		return err
	}
	defer file.Close()
	if file.Again() {
		came()
	}
	m, err := t.machine()
	if err != nil {
		return err
	}
	defer m.Stop()
	s, plan, err := sender.New(m, f.iface, file, sender.Config{
		TopSpeed: f.topspeed, PPS: f.pps, Rate: float64(f.rate), Loop: f.loop,
	})
	if errors.Is(err, sender.ErrLoop) {
		return usagef("--loop: %w", err)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	return f.send(ctx, c.ErrOrStderr(), m, s, file, plan, came)
}

// send sends a file, shows the progress and prints the result. It calls came for each packet.
func (f *sendFlags) send(
	ctx context.Context, stderr io.Writer, m *machine.Machine, s *sender.Sender,
	file *sender.File, plan sender.Plan, came func(),
) error {
	said := len(file.Notes())
	notes(stderr, file, 0)
	s.Sent = came
	clear := func() {}
	if l := lookOf(stderr); l.live && (plan.Packets > 0 || !file.Again()) {
		bar := f.progress(stderr, plan)
		s.Sent = func() { came(); bar.Add(1) }
		clear = func() { bar.Clear() }
	}
	s.Waits = func(d time.Duration) {
		clear()
		fmt.Fprintf(stderr, "bpfctl: the next packet leaves in %v, as it was captured; "+
			"--topspeed, --pps and --rate do not wait\n", human.Elapsed(d))
	}
	err := s.Run(ctx)
	came()
	clear()
	notes(stderr, file, said)
	fmt.Fprintf(stderr, "bpfctl: %s: %d packets sent, %d bytes, in %v",
		human.Printable(f.iface), s.Packets, s.Bytes, human.Elapsed(s.Elapsed))
	if sec := s.Elapsed.Seconds(); s.Packets > 1 && sec > 0 {
		bits := human.RoughSize(uint64(float64(s.Bytes) * 8 / sec))
		fmt.Fprintf(stderr, "; %.0f packets and %sbit a second",
			float64(s.Packets)/sec, strings.TrimSuffix(bits, "B"))
	}
	fmt.Fprintln(stderr)
	if s.WereCut > 0 {
		fmt.Fprintf(stderr, "bpfctl: %d of them had been cut when they were captured, and were sent so\n",
			s.WereCut)
	}
	left := s.LeftOut(m)
	switch {
	case left == "":
		return err
	case err != nil:
		fmt.Fprintf(stderr, "bpfctl: packets were left out: %s\n", human.Printable(left))
		return err
	}
	return errors.New("packets were left out: " + left)
}

// notes prints the faults of a file, except the first said ones, which are printed already.
func notes(w io.Writer, file *sender.File, said int) {
	for _, n := range file.Notes()[min(said, len(file.Notes())):] {
		fmt.Fprintf(w, "bpfctl: %s\n", human.Printable(file.Name+": "+n))
	}
}

// progress returns a bar on a terminal, or a counter if the end is not known.
func (f *sendFlags) progress(w io.Writer, plan sender.Plan) *progressbar.ProgressBar {
	total := int64(-1)
	if f.loop > 0 && plan.Packets > 0 && plan.Packets <= math.MaxInt64/f.loop {
		total = int64(plan.Packets * f.loop)
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(human.Printable(f.iface)),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("packets"), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true),
		// Otherwise it also draws from a goroutine, and Clear races with that.
		progressbar.OptionSetSpinnerChangeInterval(0))
}
