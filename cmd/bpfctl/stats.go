package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/exporter"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/sysctl"
)

// statsFlags has the flags of stats.
type statsFlags struct {
	iface       string
	json, reset bool
	watch       time.Duration
	count       uint64

	prometheus, perPID bool
	output             string
}

func newStats(t *target) *cobra.Command {
	var f statsFlags
	c := &cobra.Command{
		Use:   "stats [-i IFACE] [--watch INTERVAL]",
		Short: "Show which programs listen, and what the kernel counted for them",
		Long: `Stats shows every bpf descriptor that is attached to an interface, as
netstat -B does. It shows the process that has it, and what the kernel counted
since the descriptor was opened or last reset:

  RECEIVED   packets on the interface, before the filter
  MATCHED    packets that the filter accepted
  DROPPED    packets of those for which the buffers had no room
  LOSS       dropped packets as a share of matched ones
  APPENDS    pieces that the kernel put into shared buffers, two or three for
             each packet; 0 in buffered mode
  BUFFERS    the size of the two buffers, and how full they are

FLAGS are p promiscuous, i immediate, f the kernel fills in source addresses of
packets that are written, s both directions are seen (- received packets only,
o sent ones only), b feedback, a signals, l locked.

With --watch, stats shows rates per second, and DROPS draws the drops of the
last intervals, each line to its own scale. On a terminal the table stays in
place. Elsewhere stats writes a line for each listener and interval. The kernel
does not number descriptors. So if a process has several that look alike, and
one of them is closed, another can look new for an interval.

--prometheus writes the metrics of "bpfctl exporter" once, in Prometheus's text
format 0.0.4. With -o it writes a file for node_exporter's textfile collector,
and replaces it as a whole. The sums fall when a listener goes; those of
"bpfctl exporter" do not.

--reset sets the counters of all listeners to 0, for everybody who reads them.

Stats needs root. In a jail, the jail also needs its own network stack (VNET).`,
		Example: `  bpfctl stats
  bpfctl stats -i em0 --watch 1s
  bpfctl stats --json
  bpfctl stats --watch 10s --json >>stats.json
  bpfctl stats --prometheus -o /var/tmp/node_exporter/bpf.prom
  bpfctl stats --model listeners --watch 500ms`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runStats(c, t, &f) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.VarP(once(&f.iface), "interface", "i", "only listeners on `IFACE`")
	fl.BoolVar(&f.json, "json", false, "as JSON: an object; with --watch a line for each "+
		"listener and interval")
	fl.DurationVar(&f.watch, "watch", 0, "show rates after each `INTERVAL`, such as 1s, until "+
		"interrupted")
	fl.Uint64VarP(&f.count, "count", "c", 0, "with --watch: end after `N` intervals")
	fl.BoolVar(&f.prometheus, "prometheus", false, "as metrics of Prometheus")
	fl.VarP(once(&f.output), "output", "o",
		"with --prometheus: replace `FILE` as a whole")
	fl.BoolVar(&f.perPID, "per-pid", false,
		"with --prometheus: series for each listener, with labels pid and index")
	fl.BoolVar(&f.reset, "reset", false, "set the counters of all listeners to 0")
	c.RegisterFlagCompletionFunc("interface", t.completeInterface)
	return c
}

func runStats(c *cobra.Command, t *target, f *statsFlags) error {
	watch := c.Flags().Changed("watch")
	switch {
	case watch && f.watch < 10*time.Millisecond:
		return usagef("--watch %v: at least 10ms", f.watch)
	case c.Flags().Changed("count") && !watch:
		return usagef("-c: goes with --watch")
	case c.Flags().Changed("count") && f.count == 0:
		return usagef("-c 0: nothing to show")
	case f.reset && f.iface != "":
		return usagef("--reset: the kernel resets all listeners or none: leave -i out")
	case f.reset && (watch || f.json || f.prometheus):
		return usagef("--reset shows nothing: leave --watch, --json and --prometheus out")
	case f.prometheus && (watch || f.json):
		return usagef("--prometheus: leave --watch and --json out")
	case c.Flags().Changed("output") && !f.prometheus:
		return usagef("-o: goes with --prometheus")
	case f.perPID && !f.prometheus:
		return usagef("--per-pid: goes with --prometheus")
	}
	m, err := t.machine()
	if err != nil {
		return err
	}
	defer m.Stop()
	out := c.OutOrStdout()
	switch {
	case f.reset:
		if err := m.Sysctl.BPF().ResetStats(); err != nil {
			return err
		}
		fmt.Fprintln(out, "The counters of all listeners are 0.")
		return nil
	case watch:
		return watchStats(out, m, f)
	case f.prometheus:
		return f.metrics(out, m)
	}
	now := time.Now()
	all, err := m.Listeners(f.iface)
	if err != nil {
		return err
	}
	rows := make([]*listenerRow, 0, len(all))
	for _, l := range all {
		rows = append(rows, newListenerRow(l))
	}
	if f.json {
		return writeJSON(out, listeners{now.UTC(), rows})
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, nobody(f.iface))
		return err
	}
	l := lookOf(out)
	_, err = fmt.Fprintln(out, l.counters(rows).Render())
	return err
}

// metrics writes the metrics once.
func (f *statsFlags) metrics(out io.Writer, m *machine.Machine) error {
	e := exporter.New(exporter.Config{PerPID: f.perPID,
		Listeners: func() ([]sysctl.Listener, error) { return m.Listeners(f.iface) }})
	if f.output != "" {
		return e.WriteFile(f.output)
	}
	return e.WriteText(out)
}

func nobody(iface string) string {
	if iface == "" {
		return "No program listens."
	}
	return "No program listens on " + iface + "."
}

// listeners are the answer of --json.
type listeners struct {
	Time      time.Time      `json:"time"`
	Listeners []*listenerRow `json:"listeners"`
}

// listenerRow has everything that stats shows of a listener.
type listenerRow struct {
	PID             int     `json:"pid"`
	Program         string  `json:"program"`
	Interface       string  `json:"interface"`
	Mode            string  `json:"mode"`
	Direction       string  `json:"direction"`
	Promiscuous     bool    `json:"promiscuous"`
	Immediate       bool    `json:"immediate"`
	HeaderComplete  bool    `json:"header_complete"`
	Feedback        bool    `json:"feedback"`
	Async           bool    `json:"async"`
	Signal          int     `json:"signal"`
	Locked          bool    `json:"locked"`
	Buffer          int     `json:"buffer"` // bytes for packets in each of the two
	Store           int     `json:"store"`  // bytes in them
	Hold            int     `json:"hold"`
	Fill            float64 `json:"fill"` // share of both
	Received        uint64  `json:"received"`
	Matched         uint64  `json:"matched"`
	Dropped         uint64  `json:"dropped"`
	DropRate        float64 `json:"drop_rate"` // dropped of matched, a share
	Written         uint64  `json:"written"`
	WrittenMatched  uint64  `json:"written_matched"`
	WriteErrors     uint64  `json:"write_errors"`
	ZeroCopyAppends uint64  `json:"zero_copy_appends"`

	Rates *listenerRates `json:"rates,omitempty"`

	drops []float64 // in the last intervals, the latest last
}

// listenerRates has the growth of the counters in an interval, per second.
type listenerRates struct {
	Received        float64 `json:"received"`
	Matched         float64 `json:"matched"`
	Dropped         float64 `json:"dropped"`
	DropRate        float64 `json:"drop_rate"` // in the interval
	ZeroCopyAppends float64 `json:"zero_copy_appends"`
}

func newListenerRow(l sysctl.Listener) *listenerRow {
	r := &listenerRow{
		PID: l.PID, Program: l.Process, Interface: l.Interface, Mode: "buffered",
		Direction: map[int]string{zbuf.BPF_D_IN: "in", zbuf.BPF_D_OUT: "out",
			zbuf.BPF_D_INOUT: "inout"}[l.Direction],
		Promiscuous: l.Promiscuous, Immediate: l.Immediate, HeaderComplete: l.HeaderComplete,
		Feedback: l.Feedback,
		Async:    l.Async, Signal: l.Signal, Locked: l.Locked,
		Buffer: l.BufferSize, Store: l.Store, Hold: l.Hold, Fill: share(uint64(l.Store+l.Hold),
			uint64(2*l.BufferSize)),
		Received: l.Received, Matched: l.Matched, Dropped: l.Dropped,
		DropRate: share(l.Dropped, l.Matched),
		Written:  l.Written, WrittenMatched: l.WrittenMatched, WriteErrors: l.WriteErrors,
		ZeroCopyAppends: l.ZeroCopyAppends,
	}
	if l.ZeroCopy() {
		r.Mode = "zerocopy"
	}
	return r
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// flags returns the letters of netstat -B.
func (r *listenerRow) flags() string {
	var b strings.Builder
	for _, f := range []struct {
		on     bool
		letter byte
	}{
		{r.Promiscuous, 'p'}, {r.Immediate, 'i'}, {!r.HeaderComplete, 'f'},
		{r.Direction != "in", map[string]byte{"inout": 's', "out": 'o'}[r.Direction]},
		{r.Feedback, 'b'}, {r.Async, 'a'}, {r.Locked, 'l'},
	} {
		if !f.on {
			f.letter = '-'
		}
		b.WriteByte(f.letter)
	}
	return b.String()
}

func (r *listenerRow) fill() string {
	return "2x" + shortSize(r.Buffer) + " " + human.Percent(uint64(r.Store+r.Hold), uint64(2*r.Buffer))
}

// shortSize returns a size of n bytes for a narrow column.
func shortSize(n int) string {
	switch {
	case n >= 10<<20:
		return strconv.Itoa(n>>20) + "M"
	case n >= 10<<10:
		return strconv.Itoa((n+512)>>10) + "K"
	}
	return strconv.Itoa(n)
}

func (l look) mode(r *listenerRow) string {
	if r.Mode == "zerocopy" {
		return l.paint(r.Mode, text.FgGreen)
	}
	return r.Mode
}

// loss returns a number of drops, or their share. It is red if there are any.
func (l look) loss(s string, dropped bool) string {
	if dropped {
		return l.paint(s, text.FgRed)
	}
	return s
}

// counters returns the table of the counters.
func (l look) counters(rows []*listenerRow) table.Writer {
	t := l.columns("PID", "PROGRAM", "IFACE", "MODE", "FLAGS", "RECEIVED", "MATCHED", "DROPPED",
		"LOSS", "APPENDS", "BUFFERS")
	right(t, 1, 6, 7, 8, 9, 10)
	for _, r := range rows {
		t.AppendRow(table.Row{
			r.PID, orQuestion(r.Program), human.Printable(r.Interface), l.mode(r), r.flags(),
			human.Decimal(r.Received), human.Decimal(r.Matched), l.loss(human.Decimal(r.Dropped),
				r.Dropped > 0), l.loss(human.Percent(r.Dropped, r.Matched), r.Dropped > 0),
			human.Decimal(r.ZeroCopyAppends), r.fill(),
		})
	}
	return t
}
