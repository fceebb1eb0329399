// Package exporter makes metrics of Prometheus from the kernel's list of bpf listeners: what they
// received, matched and dropped, how full their buffers are, and how many are in zero-copy mode.
//
// It only reads. The labels of a series are the program and the interface. Listeners that have the
// same labels are summed, so the number of series stays small.
package exporter

import (
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/zbuf-go/zbuf/sysctl"
)

// Config says what an Exporter shows.
type Config struct {
	// Listeners returns the kernel's list, the latest listener of an interface first.
	Listeners func() ([]sysctl.Listener, error)
	// PerPID gives each listener series of its own, with the labels pid and index.
	PerPID bool
}

// Exporter remembers the listeners of the latest look, so its counters do not fall when a listener
// goes. It takes a look for each scrape. All methods may be called at the same time.
type Exporter struct {
	cfg      Config
	registry *prometheus.Registry
	metrics  []metric

	mu     sync.Mutex
	ledger ledger
}

// metric is one value of each series.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*series) float64
}

// New returns an Exporter that has not looked yet.
func New(cfg Config) *Exporter {
	e := &Exporter{cfg: cfg, registry: prometheus.NewRegistry()}
	e.ledger = ledger{perPID: cfg.PerPID, series: map[labels]*series{}}
	names := []string{"program", "interface"}
	if cfg.PerPID {
		names = append(names, "pid", "index")
	}
	add := func(kind prometheus.ValueType, name, help string, value func(*series) float64) {
		e.metrics = append(e.metrics,
			metric{prometheus.NewDesc("bpf_"+name, help, names, nil), kind, value})
	}
	add(prometheus.GaugeValue, "listeners",
		"Number of bpf descriptors that are attached to the interface.",
		func(s *series) float64 { return float64(s.listeners) })
	add(prometheus.GaugeValue, "zerocopy_listeners",
		"Number of these listeners that are in zero-copy mode; the others are in buffered mode.",
		func(s *series) float64 { return float64(s.zeroCopy) })
	add(prometheus.CounterValue, "received_packets_total",
		"Packets that the listeners saw, before their filters.",
		func(s *series) float64 { return float64(s.received) })
	add(prometheus.CounterValue, "matched_packets_total",
		"Packets that the filters accepted.",
		func(s *series) float64 { return float64(s.matched) })
	add(prometheus.CounterValue, "dropped_packets_total",
		"Accepted packets for which the buffers had no room.",
		func(s *series) float64 { return float64(s.dropped) })
	add(prometheus.GaugeValue, "buffer_size_bytes",
		"Bytes of packets that both buffers of all listeners have room for.",
		func(s *series) float64 { return float64(s.size) })
	add(prometheus.GaugeValue, "buffer_used_bytes",
		"Bytes of packets in these buffers.",
		func(s *series) float64 { return float64(s.used) })
	add(prometheus.GaugeValue, "buffer_fill_ratio",
		"Share of its two buffers that the fullest listener uses, from 0 to 1.",
		func(s *series) float64 { return s.fullest })
	e.registry.MustRegister(e)
	return e
}

// Describe implements prometheus.Collector.
func (e *Exporter) Describe(to chan<- *prometheus.Desc) {
	for _, m := range e.metrics {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector. It takes a look at the listeners.
func (e *Exporter) Collect(to chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, err := e.cfg.Listeners()
	if err != nil {
		to <- prometheus.NewInvalidMetric(e.metrics[0].desc, lookError{err})
		return
	}
	e.ledger.look(now)
	for of, s := range e.ledger.series {
		values := []string{of.program, of.iface}
		if e.cfg.PerPID {
			values = append(values, of.pid, of.index)
		}
		for _, m := range e.metrics {
			to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), values...)
		}
	}
}

// lookError is the reason why the kernel's list could not be read. Gather puts words around it that
// speak of this program's parts, and an error of the list itself says more.
type lookError struct{ error }

func (e lookError) Unwrap() error { return e.error }

// WriteText takes a look, and writes the metrics in Prometheus's text format 0.0.4.
func (e *Exporter) WriteText(w io.Writer) error {
	families, err := e.registry.Gather()
	if err != nil {
		return plain(err)
	}
	to := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := to.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile does the same as WriteText, to a file. It writes a file beside it, and renames that, so
// a reader never sees a part.
func (e *Exporter) WriteFile(name string) error {
	if fi, err := os.Stat(name); err == nil && fi.IsDir() {
		return &os.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return plain(prometheus.WriteToTextfile(name, e.registry))
}
