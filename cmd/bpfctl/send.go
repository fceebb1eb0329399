package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
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
	limit    uint64
	multiply float64
	maxGap   time.Duration
}

func newSend(t *target) *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use:   "send -i IFACE FILE...",
		Short: "Write the packets of capture files to an interface",
		Long: `Send writes the packets of pcap and pcapng files to an interface, in the order
of the files, one file after the other. It sends them as they are in the file,
with their link headers and source addresses. They leave as far apart as they
were captured, unless --multiplier, --rate, --pps or --topspeed says otherwise.
A packet without a time stamp, and the first one of a file, leaves at once.

If packets were captured more than an hour apart, send refuses to wait so long.
--max-gap D is the longest time that it waits between two packets.

FILE can be a pipe; "-" is standard input. Send reads a pipe once, while it
sends, so --loop is not possible then. All packets must be of one link type,
which the interface takes. Send checks that, and the times, before it sends the
first packet, but in a pipe only when it comes to the packet.

Send leaves out and counts packets that are too long or too short for the
interface; the exit code is then 1. It sends packets that were cut when they
were captured as they are in the file, and counts them too.

Send needs permission to open /dev/bpf for writing.`,
		Example: `  bpfctl send -i em0 in.pcap
  bpfctl send -i em0 in.pcapng --pps 1000 --loop 10
  bpfctl send -i em0 in.pcap --rate 100M
  bpfctl send -i em0 monday.pcap tuesday.pcap --multiplier 10 --max-gap 5s
  bpfctl send -i em0 - --limit 100
  bpfctl send --model quiet -i em0 in.pcap --topspeed`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which file? see %s --help", c.CommandPath())
			}
			if slices.Contains(args, "") {
				return usagef("the name of a file is empty")
			}
			if i := slices.Index(args, "-"); i >= 0 && slices.Contains(args[i+1:], "-") {
				return usagef("-: standard input can be read only once")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runSend(c, t, &f, args) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.VarP(once(&f.iface), "interface", "i", "send on `IFACE`")
	fl.Var(&f.rate, "rate", "send `BITS` each second, such as 500K, 100M or 1G (powers of 1000)")
	fl.Float64Var(&f.pps, "pps", 0, "send `N` packets each second")
	fl.BoolVar(&f.topspeed, "topspeed", false, "send as fast as possible")
	fl.Float64Var(&f.multiply, "multiplier", 1, "send `N` times as fast as captured")
	fl.DurationVar(&f.maxGap, "max-gap", 0, "wait at most `D` between two packets, as captured; "+
		"without it more than 1h is an error")
	fl.Uint64Var(&f.loop, "loop", 1, "send the files `N` times; 0 is for ever")
	fl.Uint64Var(&f.limit, "limit", 0, "end when `N` packets are sent")
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

// check refuses flags that are wrong.
func (f *sendFlags) check(c *cobra.Command) error {
	given := c.Flags().Changed
	ways := 0
	for _, flag := range []string{"rate", "pps", "topspeed"} {
		if given(flag) {
			ways++
		}
	}
	switch {
	case f.iface == "":
		return usagef("which interface? -i IFACE")
	case ways > 1:
		return usagef("give one of --rate, --pps and --topspeed")
	case ways > 0 && (given("multiplier") || given("max-gap")):
		return usagef("--multiplier and --max-gap are for packets that leave as they were captured: " +
			"leave --rate, --pps and --topspeed out")
	case !(f.multiply > 0 && f.multiply <= 1e9):
		return usagef("--multiplier %v: must be more than 0, and at most 1e9", f.multiply)
	case given("max-gap") && f.maxGap <= 0:
		return usagef("--max-gap %v: must be more than 0", f.maxGap)
	case given("limit") && f.limit == 0:
		return usagef("--limit 0: nothing to send")
	case c.Flags().Changed("pps") && !(f.pps > 0 && f.pps <= 1e9):
		return usagef("--pps %v: must be more than 0, and at most 1e9", f.pps)
	}
	return nil
}

func runSend(c *cobra.Command, t *target, f *sendFlags, names []string) error {
	if err := f.check(c); err != nil {
		return err
	}
	ctx, stop := capture.UntilSignal(context.Background())
	defer stop(nil)
	came := sync.OnceFunc(sayAfter(time.Second, c.ErrOrStderr(),
		"waiting for the first bytes of "+inputName(names[0])))
	defer came()
	var files []*sender.File
	for i, name := range names {
		file, err := sender.Open(ctx, name, c.InOrStdin())
		if err != nil {
			return err
		}
		defer file.Close()
		if files = append(files, file); i == 0 && file.Again() {
			came()
		}
	}
	m, err := t.machine()
	if err != nil {
		return err
	}
	defer m.Stop()
	s, plan, err := sender.New(m, f.iface, files, sender.Config{
		TopSpeed: f.topspeed, PPS: f.pps, Rate: float64(f.rate), Loop: f.loop, Limit: f.limit,
		Multiplier: f.multiply, MaxGap: f.maxGap,
	})
	if errors.Is(err, sender.ErrLoop) {
		return usagef("--loop: %w", err)
	}
	if err != nil {
		return adviseGap(err)
	}
	defer s.Close()
	return adviseGap(f.send(ctx, c.ErrOrStderr(), m, s, files, plan, came))
}

// adviseGap says what to do about packets that were captured too far apart.
func adviseGap(err error) error {
	var long *sender.LongGapError
	if !errors.As(err, &long) {
		return err
	}
	return fmt.Errorf("%w, and send waits for at most %v: --max-gap %v allows it, "+
		"a smaller one shortens it, and --multiplier, --topspeed, --pps and --rate change it",
		err, sender.LongGap, human.Elapsed(long.Gap.Duration+time.Second).Truncate(time.Second))
}

// send sends the files, shows the progress and prints the result. It calls came for each packet.
func (f *sendFlags) send(
	ctx context.Context, stderr io.Writer, m *machine.Machine, s *sender.Sender,
	files []*sender.File, plan sender.Plan, came func(),
) error {
	said := notes(stderr, files, nil)
	s.Sent = came
	clear := func() {}
	if l := lookOf(stderr); l.live && (plan.Packets > 0 || !again(files)) {
		bar := f.progress(stderr, plan, again(files))
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
	notes(stderr, files, said)
	fmt.Fprintf(stderr, "bpfctl: %s: %s sent, %s, in %v",
		human.Printable(f.iface), human.Count(s.Packets, "packet"),
		human.Count(s.Bytes, "byte"), human.Elapsed(s.Elapsed))
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

// notes prints the faults of files, except as many of each file as are said already. It returns how
// many are said now.
func notes(w io.Writer, files []*sender.File, said []int) (now []int) {
	for i, file := range files {
		all := file.Notes()
		first := 0
		if i < len(said) {
			first = min(said[i], len(all))
		}
		for _, n := range all[first:] {
			fmt.Fprintf(w, "bpfctl: %s\n", human.Printable(file.Name+": "+n))
		}
		now = append(now, len(all))
	}
	return now
}

// again reports whether all files can be read again, so the number of packets is known.
func again(files []*sender.File) bool {
	return !slices.ContainsFunc(files, func(f *sender.File) bool { return !f.Again() })
}

// progress returns a bar on a terminal, or a counter if the end is not known.
func (f *sendFlags) progress(
	w io.Writer, plan sender.Plan, known bool,
) *progressbar.ProgressBar {
	total := int64(-1)
	if known && f.loop > 0 && plan.Packets > 0 && plan.Packets <= math.MaxInt64/f.loop {
		total = int64(plan.Packets * f.loop)
	}
	if f.limit > 0 && f.limit <= math.MaxInt64 && (total < 0 || total > int64(f.limit)) {
		total = int64(f.limit)
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(human.Printable(f.iface)),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("packets"), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true),
		// Otherwise it also draws from a goroutine, and Clear races with that.
		progressbar.OptionSetSpinnerChangeInterval(0))
}
