package main

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

// TestKernelExporterIsScraped scrapes the kernel's counters through the loopback address.
func TestKernelExporterIsScraped(t *testing.T) {
	w, pair := kernel(t, 1)
	open := func(mode bpf.Mode) *bpf.Reader {
		r, err := bpf.Open(pair.A, bpf.Config{System: w, Mode: mode, BufferSize: 4096})
		require.NoError(t, err)
		t.Cleanup(func() { r.Close() })
		return r
	}
	lent, copied := open(bpf.ZeroCopy), open(bpf.Buffered)
	all, err := sysctl.Host().BPF().Stats()
	require.NoError(t, err)
	program := ""
	for _, l := range all {
		if l.PID == os.Getpid() {
			program = l.Process
		}
	}
	p, address := startExporter(t)
	first := scrape(t, address, program, pair.A)
	require.Equal(t, 1.0, first["zerocopy_listeners"])

	const count = 40 // more than 4096 bytes twice
	for i := range count {
		pair.Inject(t, lab.Frame(1000, uint32(i)))
	}
	// The kernel's list says what the exporter must have counted since.
	var received, matched, dropped, listeners uint64
	p.until("the exporter has counted them", func() bool {
		received, matched, dropped, listeners = 0, 0, 0, 0
		for _, x := range rawStats(t, w, pair.A) {
			received, matched, dropped = received+x.Rcount, matched+x.Fcount, dropped+x.Dcount
			listeners++
		}
		now := scrape(t, address, program, pair.A)
		return now["received_packets_total"] == float64(received) &&
			now["matched_packets_total"] == float64(matched) &&
			now["dropped_packets_total"] == float64(dropped) &&
			received >= 2*count && dropped > 0
	})
	full := scrape(t, address, program, pair.A)
	assert.Equal(t, float64(listeners), full["listeners"])
	fullest := 0.0
	for _, x := range rawStats(t, w, pair.A) {
		fullest = max(fullest, share(uint64(x.Slen+x.Hlen), 2*uint64(x.Bufsize)))
	}
	assert.Equal(t, fullest, full["buffer_fill_ratio"])
	assert.Greater(t, fullest, 0.5, "what docs/prometheus/alerts.yml takes for full")

	// The counters stay when a listener goes.
	require.NoError(t, lent.Close())
	after := scrape(t, address, program, pair.A)
	assert.Equal(t, float64(listeners-1), after["listeners"])
	assert.Zero(t, after["zerocopy_listeners"])
	for _, name := range []string{"received", "matched", "dropped"} {
		assert.Equal(t, full[name+"_packets_total"], after[name+"_packets_total"], name)
	}
	require.NoError(t, copied.Close())
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	assert.Equal(t, exitOK, p.exit(), p.said())
	t.Logf("%s: %v", program, after)
}
