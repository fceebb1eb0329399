//go:build unix

package main

import (
	"net/http"
	"regexp"
	"syscall"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startExporter starts bpfctl exporter on a port that is free, and returns its address.
func startExporter(t *testing.T, args ...string) (*process, string) {
	t.Helper()
	p := start(t, nil, append([]string{"exporter", "--listen", "127.0.0.1:0"}, args...)...)
	line := regexp.MustCompile(`(?m)^bpfctl: (http://127\.0\.0\.1:\d+/metrics)$`)
	p.until("it says where it answers", func() bool { return line.MatchString(p.said()) })
	return p, line.FindStringSubmatch(p.said())[1]
}

// scrape returns the values of one series: names without bpf_ to values.
func scrape(t *testing.T, address, program, iface string) map[string]float64 {
	t.Helper()
	c := http.Client{Timeout: patience}
	defer c.CloseIdleConnections()
	r, err := c.Get(address)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(r.Body)
	require.NoError(t, err)
	values := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			of := map[string]string{}
			for _, l := range m.GetLabel() {
				of[l.GetName()] = l.GetValue()
			}
			if of["program"] != program || of["interface"] != iface {
				continue
			}
			require.Len(t, of, 2)
			values[name[len("bpf_"):]] = m.GetGauge().GetValue()
			if f.GetType() == dto.MetricType_COUNTER {
				values[name[len("bpf_"):]] = m.GetCounter().GetValue()
			}
		}
	}
	return values
}

func TestExporterIsScraped(t *testing.T) {
	p, address := startExporter(t, "--model", "listeners")
	first := scrape(t, address, "flowd", "em0")
	assert.Len(t, first, 8)
	assert.Equal(t, 1.0, first["listeners"])
	assert.Equal(t, 1.0, first["zerocopy_listeners"])
	assert.Equal(t, 2.0*(512<<10-32), first["buffer_size_bytes"])
	p.until("packets come", func() bool {
		now := scrape(t, address, "flowd", "em0")
		return now["matched_packets_total"] > first["matched_packets_total"]
	})
	assert.Equal(t, 0.0, scrape(t, address, "dhclient", "em0")["matched_packets_total"])
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, exitOK, p.exit(), p.said())
	_, err := http.Get(address)
	assert.Error(t, err, "nobody answers any more")
}
