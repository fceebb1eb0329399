package main

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/spf13/cobra"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/exporter"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/sysctl"
)

// defaultListen is where exporter answers if --listen does not say otherwise.
const defaultListen = "127.0.0.1:9927"

func newExporter(t *target) *cobra.Command {
	listen, perPID := defaultListen, false
	c := &cobra.Command{
		Use:   "exporter [--listen ADDRESS] [--per-pid]",
		Short: "Serve what the kernel counted for listeners to Prometheus",
		Long: `Exporter answers http://ADDRESS/metrics with metrics of all bpf listeners, until
a signal ends it. The labels are the program and the interface. Listeners with
the same labels are summed:

  bpf_listeners               how many there are
  bpf_zerocopy_listeners      how many of them are in zero-copy mode
  bpf_received_packets_total  packets on the interface, before the filter
  bpf_matched_packets_total   packets that the filter accepted
  bpf_dropped_packets_total   packets of those for which there was no room
  bpf_buffer_size_bytes       bytes of packets that the buffers have room for
  bpf_buffer_used_bytes       bytes of packets in them
  bpf_buffer_fill_ratio       how full the fullest listener is, from 0 to 1

The counters do not fall when a listener goes, or when it is reset. With
--per-pid each listener has its own series, with the labels pid and index.
There are at most 200 combinations of labels; what has no place is summed with
the labels "other".

Exporter reads, and changes nothing. It answers everybody who can reach ADDRESS,
without a password and without encryption. By default these are the users of
this machine. To offer it to a network, put a proxy in front of it.

Exporter needs root. In a jail, the jail also needs its own network stack
(VNET).`,
		Example: `  bpfctl exporter
  bpfctl exporter --listen 127.0.0.1:9930 --per-pid
  bpfctl exporter --model listeners`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runExporter(c, t, listen, perPID) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&listen, "listen", defaultListen, "answer on `ADDRESS`, as HOST:PORT")
	fl.BoolVar(&perPID, "per-pid", false, "series for each listener, with labels pid and index")
	return c
}

func runExporter(c *cobra.Command, t *target, listen string, perPID bool) error {
	_, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" {
		return usagef("--listen %s: give HOST:PORT, such as %s", listen, defaultListen)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return usagef("--listen %s: %w", listen, err)
	}
	m, err := t.machine()
	if err != nil {
		return err
	}
	defer m.Stop()
	list := func() ([]sysctl.Listener, error) { return m.Listeners("") }
	if _, err := list(); err != nil {
		return err
	}
	ctx, stop := capture.UntilSignal(context.Background())
	defer stop(nil)
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	stderr := c.ErrOrStderr()
	fmt.Fprintf(stderr, "bpfctl: http://%s%s\n", l.Addr(), exporter.Path)
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		fmt.Fprintln(stderr, "bpfctl: everybody who can reach this address can read the metrics")
	}
	var mu sync.Mutex
	last := ""
	failed := func(err error) { // says each reason once, until another one comes
		mu.Lock()
		defer mu.Unlock()
		if why := explain(err); why != last {
			last = why
			fmt.Fprintf(stderr, "bpfctl: %s\n", human.Printable(why))
		}
	}
	e := exporter.New(exporter.Config{Listeners: list, PerPID: perPID})
	return e.Serve(ctx, l, exporter.DefaultLimits, failed)
}
