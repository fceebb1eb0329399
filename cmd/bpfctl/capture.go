package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
	"github.com/zbuf-go/zbuf/internal/capture/source"
	"github.com/zbuf-go/zbuf/internal/capture/stage"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/program"
)

// captureFlags has the flags of capture.
type captureFlags struct {
	ifaces                     []string
	write, replay, filter      string
	mode, timestamp, direction string
	linkType                   string
	window                     time.Duration
	count                      uint64
	duration                   time.Duration
	bufsize                    size
	snaplen                    int
	noPromisc                  bool
	formatFlags
	rotation rotationFlags
	textFlags
	rights rightsFlags
	expressionFlags
}

func newCapture(t *target) *cobra.Command {
	var f captureFlags
	c := &cobra.Command{
		Use:   "capture {-i IFACE... | --replay FILE} [-w FILE] [EXPRESSION]",
		Short: "Capture packets into a file, or print them",
		Long: `Capture writes the packets that interfaces see to a file. Its name says how:

  NAME.pcapng               pcapng, which keeps everything
  NAME.pcap, .cap or .dmp   pcap of one link type, with microseconds;
                            --format pcap-ns makes them nanoseconds
  NAME, or - for a pipe     pcapng, or what --format says
  .gz or .zst behind it     the same, compressed by gzip or zstd

A name that promises something else, such as NAME.txt, is an error.

Without -w, capture prints a line for each packet instead, in the form that
tcpdump(1) made known: the time, the interface if there are several, who sends
to whom, and what. Names are not looked up, and numbers of TCP are not made
relative. With --json, each line is an object for programs.

A capture ends
  - after a signal: SIGINT (Ctrl-C), SIGTERM, or SIGHUP without a rotation,
  - after -c packets,
  - after the time of --duration,
  - when the last interface has gone, which is an error.
Every packet captured by then is written. Capture then says how many packets
are in the output, and how many the kernel received and dropped. It says so in
between after SIGINFO (Ctrl-T) or SIGUSR1. A packet is written out within half a
second after it was captured, or later if --merge-window is longer than 100ms.

With a rotation (--rotate-...), capture writes one file after another. Each file
is whole, and no packet is lost or doubled between two. -w gives the folder and
the name: -w cap/out.pcapng makes cap/out-00001.pcapng, or names such as
cap/out-20260315T140000+0100.pcapng. SIGHUP also begins a new file. Capture says
a line for each file, and runs the command of --after with it. --keep-files and
--keep-bytes bound what stays on the disk, also of earlier captures.

Once everything is open, capture gives up every right that it does not need. On
FreeBSD it then can't open any file outside its folder, reach another machine,
or change a filter (capability mode, see capsicum(4)).

With several interfaces, capture merges their packets by time. A packet waits
for older ones of the other interfaces for at most the time of --merge-window.
If an interface goes, capture says so, and goes on with the others. It does not
open one that comes back. The link types may differ.

With --replay, the packets come from a pcap or pcapng file. Gzip or zstd can
have compressed it, whatever its name is. A model of the kernel in memory puts
the packets into shared buffers, as FreeBSD does. They keep their time stamps,
lengths, interfaces and comments. Replay works on any system, and no packet is
ever dropped. The file can be a pipe whose other end stays open:

  ssh box tcpdump -U -w - | bpfctl capture --replay - -w out.pcapng

EXPRESSION says which packets to capture, in the language of pcap-filter(7).
Quote it, because characters such as ( and & mean something to a shell. The
other arguments are one expression, joined by spaces. The kernel applies it
from the first packet on. Names of hosts and services are not looked up.
"bpfctl filter" shows the program that an expression becomes.

The FILE of --filter has a program of numbers instead, as tcpdump(1) and
"bpfctl filter -ddd" print it.`,
		Example: `  bpfctl capture -i em0 -w out.pcapng
  bpfctl capture -i em0 -w web.pcapng.zst 'tcp port 80 or 443'
  bpfctl capture -i em0,em1 -i pflog0 -w out.pcapng
  bpfctl capture -i em0 -w - | tshark -r -
  bpfctl capture -i em0 -w cap/out.pcapng.zst --rotate-time 1h --keep-files 168
  bpfctl capture -i em0 -w cap/out.pcapng --rotate-size 100M --keep-bytes 10G
  bpfctl capture -i em0 -w cap/out.pcapng --rotate-packets 100000 --after sha256
  bpfctl capture -i em0 -c 1000 --mode zerocopy --bufsize 2M -w out.pcapng
  bpfctl capture --replay in.pcap.gz -w out.pcapng --comment 'case 12'
  bpfctl capture --replay in.pcap -e -tttt icmp or arp
  bpfctl capture -i em0 --json udp port 53 | jq -r .dns.questions[].name
  bpfctl capture --replay - -w out.pcapng
  bpfctl capture --model steady -i em0 -c 10`,
		RunE: func(c *cobra.Command, args []string) error { return runCapture(c, t, &f, args) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringSliceVarP(&f.ifaces, "interface", "i", nil,
		"capture on `IFACE`; several may be given, or a list with commas")
	fl.DurationVar(&f.window, "merge-window", 100*time.Millisecond,
		"how long (`D`) a packet waits for older ones of other interfaces\n")
	fl.Var(once(&f.replay), "replay",
		"capture the packets of `FILE`, pcap or pcapng, instead;\n- is standard input")
	fl.VarP(once(&f.write), "write", "w", "write the packets to `FILE`; - is standard output")
	f.formatFlags.add(c)
	f.rotation.add(c)
	f.textFlags.add(c)
	f.rights.add(fl)
	fl.Uint64VarP(&f.count, "count", "c", 0, "end after `N` packets")
	fl.DurationVar(&f.duration, "duration", 0, "end after this time, such as 90s or 1h30m (`D`)")
	fl.StringVar(&f.mode, "mode", "auto",
		"how packets leave the kernel (`MODE`): zerocopy, buffered,\n"+
			"or auto, which is zerocopy where the kernel allows it")
	fl.Var(&f.bufsize, "bufsize",
		"bytes of each of the two buffers, such as 64K or 1M (default 512K, or\n"+
			"less where the kernel allows less)")
	fl.IntVar(&f.snaplen, "snaplen", 0, "capture at most `N` bytes of each packet (default all)")
	fl.StringVar(&f.timestamp, "timestamp", "nano",
		"`RESOLUTION[,CLOCK]`: nano, micro, bintime or none; realtime,\n"+
			"realtime-fast, monotonic or monotonic-fast")
	fl.StringVar(&f.direction, "direction", "inout",
		"packets received (in), sent (out) or both (inout): `DIR`")
	fl.VarP(once(&f.linkType), "link-type", "y",
		"capture packets of the link type `TYPE`, such as IEEE802_11_RADIO\n"+
			"(default is the interface's own)")
	fl.BoolVar(&f.noPromisc, "no-promisc", false, "do not put the interface into promiscuous mode")
	f.expressionFlags.add(fl)
	fl.Var(once(&f.filter), "filter", "capture only the packets that the program in `FILE` accepts")
	c.RegisterFlagCompletionFunc("interface", t.completeInterface)
	for flag, values := range map[string][]string{
		"mode":      {"auto", "zerocopy", "buffered"},
		"timestamp": {"nano", "micro", "bintime", "none"},
		"direction": {"in", "out", "inout"},
	} {
		c.RegisterFlagCompletionFunc(flag,
			cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

// config checks the flags and makes the reader's configuration of them.
func (f *captureFlags) config(c *cobra.Command, args []string) (cfg bpf.Config, err error) {
	switch {
	case len(f.ifaces) == 0 && f.replay == "":
		return cfg, usagef("which interface? -i IFACE, or --replay FILE")
	case len(f.ifaces) > 0 && f.replay != "":
		return cfg, usagef("give either -i or --replay, not both")
	case c.Flags().Changed("merge-window") && len(f.ifaces) < 2:
		return cfg, usagef("--merge-window is for several interfaces")
	case f.window <= 0:
		return cfg, usagef("--merge-window %v: must be more than 0", f.window)
	case f.replay != "" && c.Flags().Changed("model"):
		return cfg, usagef("--replay has its own model: leave --model out")
	case f.replay != "" && f.linkType != "":
		return cfg, usagef("--link-type is for interfaces: a file says the link type of its packets")
	case c.Flags().Changed("count") && f.count == 0:
		return cfg, usagef("-c 0: nothing to capture")
	case c.Flags().Changed("duration") && f.duration <= 0:
		return cfg, usagef("--duration %v: nothing to capture", f.duration)
	case c.Flags().Changed("bufsize") && f.bufsize == 0:
		return cfg, usagef("--bufsize 0: a buffer needs some bytes")
	case c.Flags().Changed("snaplen") && f.snaplen <= 0:
		return cfg, usagef("--snaplen %d: must be at least 1", f.snaplen)
	case f.snaplen > math.MaxInt32:
		return cfg, usagef("--snaplen %d: must be at most %d", f.snaplen, math.MaxInt32)
	}
	for i, name := range f.ifaces {
		switch {
		case name == "":
			return cfg, usagef("-i: the name of an interface is empty")
		case slices.Contains(f.ifaces[:i], name):
			return cfg, usagef("-i: %s is given twice", name)
		}
	}
	if cfg.Mode, err = bpf.ParseMode(f.mode); err != nil {
		return cfg, usagef("--mode: %w", err)
	}
	res, clock, both := strings.Cut(f.timestamp, ",")
	err = choose(&cfg.Resolution, "--timestamp", res, "nano", "micro", "bintime", "none")
	if err != nil {
		return cfg, err
	}
	if both {
		err = choose(&cfg.Clock, "--timestamp", clock,
			"realtime", "realtime-fast", "monotonic", "monotonic-fast")
		if err != nil {
			return cfg, err
		}
	}
	if err := choose(&cfg.Direction, "--direction", f.direction, "inout", "in", "out"); err != nil {
		return cfg, err
	}
	if f.linkType != "" {
		dlt, err := parseLinkType(f.linkType)
		if err != nil {
			return cfg, err
		}
		cfg.LinkTypes = []uint32{dlt}
	}
	if cfg.Expression, err = f.expression(args); err != nil {
		return cfg, err
	}
	if f.filter != "" {
		if cfg.Expression != "" {
			return cfg, usagef("give either an expression or --filter, not both")
		}
		if cfg.Filter, err = program.Read(f.filter); err != nil {
			return cfg, usageError{fmt.Errorf("--filter %w", err)}
		}
	}
	cfg.BufferSize, cfg.SnapLen, cfg.Promiscuous = int(f.bufsize), f.snaplen, !f.noPromisc
	return cfg, nil
}

// choose sets *to to the index of value in names.
func choose[T ~int](to *T, flag, value string, names ...string) error {
	for i, n := range names {
		if n == value {
			*to = T(i)
			return nil
		}
	}
	return usagef("%s: %q is not one of %s", flag, value, strings.Join(names, ", "))
}

func runCapture(c *cobra.Command, t *target, f *captureFlags, args []string) error {
	cfg, err := f.config(c, args)
	if err != nil {
		return err
	}
	spec, err := f.formatFlags.spec(c, f.write)
	if err == nil {
		spec, err = f.textFlags.spec(c, spec, f.write, c.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if f.write == "-" && isTerminal(c.OutOrStdout()) {
		return usagef("-w -: a terminal can't show %s: redirect standard output", spec.Format)
	}
	if err := f.rotation.check(c, f.write); err != nil {
		return err
	}
	if err := f.rights.check(f.write); err != nil {
		return err
	}
	p := &capture.Pipeline{}
	spec.Say = sayOnce(p)
	ctx, end := f.rotation.untilSignal(p)
	defer end(nil)
	begin := func() {
		if f.duration > 0 {
			time.AfterFunc(f.duration, func() { end(capture.ErrDuration) })
		}
	}

	// The output comes last: nothing is overwritten before everything else is open and set.
	var src capture.Source
	if f.replay != "" {
		begin() // a pipe can make the program wait for its first byte
		stop := sayAfter(time.Second, c.ErrOrStderr(),
			"waiting for the first bytes of "+inputName(f.replay))
		src, err = source.OpenReplay(ctx, f.replay, c.InOrStdin(), cfg)
		stop()
	} else {
		m, merr := t.machine()
		if merr != nil {
			return merr
		}
		defer m.Stop()
		cfg.System = m.BPF
		if n, nerr := m.Sysctl.BPF().MaxInsns(); nerr == nil {
			err = source.CheckFilter(cfg, n)
		}
		if err == nil {
			src, err = f.openLive(cfg)
		}
		if err == nil {
			f.warnOfDown(c.ErrOrStderr(), m)
		}
		begin()
	}
	switch {
	case errors.Is(err, source.ErrBufferSize):
		return usagef("--bufsize: %w", err)
	case isExpressionError(err):
		return usageError{err}
	case errors.Is(err, source.ErrFilterLength):
		return usagef("--filter %s: %w", f.filter, err)
	case err != nil:
		return err
	}
	defer src.Close()
	if s, ok := src.(*source.Several); ok {
		if err := spec.CheckInterfaces(s.Interfaces()); err != nil {
			return usagef("-w %s: %w", f.write, err)
		}
	}
	p.Source = src
	if f.count > 0 {
		p.Stages = append(p.Stages, stage.Limit(f.count))
	}
	helper, err := f.openOutput(ctx, p, spec, c, t)
	if err != nil {
		return err
	}
	err = show(ctx, p, c.ErrOrStderr(), f.write == "" && isTerminal(c.OutOrStdout()))
	if helper != nil {
		if err == nil && !f.rotation.rotates() {
			helper.run(filepath.Base(f.write))
		}
		stop := sayAfter(time.Second, c.ErrOrStderr(), "waiting for the commands of --after")
		herr := helper.end()
		stop()
		if err == nil {
			err = herr
		}
	}
	return err
}

// openOutput opens the output of a capture, and gives up every right that the capture does not
// need. The order matters: see docs/design.md. It returns the helper for --after, if there is one.
func (f *captureFlags) openOutput(
	ctx context.Context, p *capture.Pipeline, spec sink.Spec, c *cobra.Command, t *target,
) (h *helper, err error) {
	defer func() {
		if err != nil && h != nil {
			h.names.close()
		}
	}()
	time.Now().Zone() // reads the time zone
	as, err := f.rights.account()
	if err != nil {
		return nil, err
	}
	var folder *os.Root
	if f.rotation.rotates() {
		if folder, err = os.OpenRoot(filepath.Dir(f.write)); err != nil {
			err = fmt.Errorf("can't write: %w", err)
		}
	} else {
		p.Sink, err = f.openSink(ctx, spec, c)
	}
	if err != nil {
		return nil, err
	}
	if f.rights.after != "" {
		h, err = startHelper(f.rights.command, filepath.Dir(f.write), as, func(note string) {
			fmt.Fprintf(c.ErrOrStderr(), "bpfctl: %s\n", human.Printable(note))
		})
		if err != nil {
			return nil, err
		}
	}
	if as != nil {
		if err := as.become(); err != nil {
			return nil, err
		}
	}
	if f.rotation.rotates() { // the user who the capture runs as owns the files
		if p.Sink, err = f.rotation.begin(p, spec, folder, f, h); err != nil {
			return nil, err
		}
	}
	if f.rights.noSandbox {
		return h, nil
	}
	note, err := enterSandbox(p.Source, t.enter)
	if note != "" {
		fmt.Fprintf(c.ErrOrStderr(), "bpfctl: %s\n", human.Printable(note))
	}
	return h, err
}

// openLive opens the interfaces.
func (f *captureFlags) openLive(cfg bpf.Config) (capture.Source, error) {
	if len(f.ifaces) == 1 {
		return source.OpenLive(f.ifaces[0], cfg)
	}
	return source.OpenSeveral(f.ifaces, cfg, f.window)
}

// warnOfDown names the interfaces that are down.
func (f *captureFlags) warnOfDown(stderr io.Writer, m *machine.Machine) {
	all, _ := m.Interfaces()
	for _, i := range all {
		if slices.Contains(f.ifaces, i.Name) && !i.Up {
			name := human.Printable(i.Name)
			fmt.Fprintf(stderr, "bpfctl: %s is down: it receives nothing until `ifconfig %s up`\n",
				name, name)
		}
	}
}

// openSink opens the file that -w names, or standard output.
func (f *captureFlags) openSink(
	ctx context.Context, spec sink.Spec, c *cobra.Command,
) (capture.Sink, error) {
	switch {
	case f.write == "" || f.write == "-":
		return sink.New(spec, c.OutOrStdout()), nil
	case f.replay != "" && f.sameFile(c.InOrStdin()):
		return nil, usagef("-w %s: that is the file to replay", f.write)
	}
	return sink.Open(ctx, spec, f.write)
}

// inputName returns the name that messages use for a file of the command line.
func inputName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return human.Printable(file)
}

// sameFile reports whether the capture would write to the file that it replays.
func (f *captureFlags) sameFile(stdin io.Reader) bool {
	in, err := os.Stat(f.replay)
	if f.replay == "-" {
		file, ok := stdin.(*os.File)
		if !ok {
			return false
		}
		in, err = file.Stat()
	}
	if err != nil || !in.Mode().IsRegular() {
		return false
	}
	out, err := os.Stat(f.write)
	return err == nil && os.SameFile(in, out)
}
