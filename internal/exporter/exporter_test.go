package exporter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/sysctl"
)

// list is a kernel's list of listeners that a test changes.
type list struct {
	mu  sync.Mutex
	all []sysctl.Listener
	err error
}

func (l *list) set(all ...sysctl.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all, l.err = all, nil
}

func (l *list) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *list) get() ([]sysctl.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all, l.err
}

func listener(
	program string, pid int, iface string, received, matched, dropped uint64,
) sysctl.Listener {
	return sysctl.Listener{Process: program, PID: pid, Interface: iface, BufferSize: 4096,
		BufferMode: zbuf.BPF_BUFMODE_BUFFER, Received: received, Matched: matched, Dropped: dropped}
}

// parse reads Prometheus's text format: name{labels} to value.
func parse(t testing.TB, r io.Reader) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(r)
	require.NoError(t, err)
	values := map[string]float64{}
	for name, f := range families {
		require.NotEmpty(t, f.GetHelp(), name)
		counter := strings.HasSuffix(name, "_total")
		require.Equal(t, map[bool]dto.MetricType{true: dto.MetricType_COUNTER,
			false: dto.MetricType_GAUGE}[counter], f.GetType(), name)
		for _, m := range f.GetMetric() {
			var of []string
			for _, l := range m.GetLabel() {
				of = append(of, l.GetName()+"="+l.GetValue())
			}
			v := m.GetGauge().GetValue()
			if counter {
				v = m.GetCounter().GetValue()
			}
			key := name + "{" + strings.Join(of, ",") + "}"
			_, twice := values[key]
			require.False(t, twice, key) // NotContains would look at all of the map
			values[key] = v
		}
	}
	return values
}

func look(t testing.TB, e *Exporter) map[string]float64 {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, e.WriteText(&b))
	return parse(t, &b)
}

func TestListenersWithEqualLabelsAreSummed(t *testing.T) {
	full := listener("ids", 7, "em0", 100, 90, 30)
	full.Store, full.Hold = 4096, 2048
	lent := listener("ids", 8, "em0", 50, 5, 0)
	lent.BufferMode, lent.BufferSize, lent.Hold = zbuf.BPF_BUFMODE_ZBUF, 8192, 8192
	l := &list{}
	l.set(lent, full, listener("dhclient", 9, "em1", 3, 2, 1))
	assert.Equal(t, map[string]float64{
		"bpf_listeners{interface=em0,program=ids}":                   2,
		"bpf_zerocopy_listeners{interface=em0,program=ids}":          1,
		"bpf_received_packets_total{interface=em0,program=ids}":      150,
		"bpf_matched_packets_total{interface=em0,program=ids}":       95,
		"bpf_dropped_packets_total{interface=em0,program=ids}":       30,
		"bpf_buffer_size_bytes{interface=em0,program=ids}":           2*4096 + 2*8192,
		"bpf_buffer_used_bytes{interface=em0,program=ids}":           4096 + 2048 + 8192,
		"bpf_buffer_fill_ratio{interface=em0,program=ids}":           0.75,
		"bpf_listeners{interface=em1,program=dhclient}":              1,
		"bpf_zerocopy_listeners{interface=em1,program=dhclient}":     0,
		"bpf_received_packets_total{interface=em1,program=dhclient}": 3,
		"bpf_matched_packets_total{interface=em1,program=dhclient}":  2,
		"bpf_dropped_packets_total{interface=em1,program=dhclient}":  1,
		"bpf_buffer_size_bytes{interface=em1,program=dhclient}":      8192,
		"bpf_buffer_used_bytes{interface=em1,program=dhclient}":      0,
		"bpf_buffer_fill_ratio{interface=em1,program=dhclient}":      0,
	}, look(t, New(Config{Listeners: l.get})))
}

// received is what the counter has after a look at each list.
func received(t *testing.T, perPID bool, looks ...[]sysctl.Listener) []float64 {
	l := &list{}
	e := New(Config{Listeners: l.get, PerPID: perPID})
	var got []float64
	for _, all := range looks {
		l.set(all...)
		sum := 0.0
		for key, v := range look(t, e) {
			if strings.HasPrefix(key, "bpf_received_packets_total{") {
				sum += v
			}
		}
		got = append(got, sum)
	}
	return got
}

func TestCountersStayWhen(t *testing.T) {
	type all = []sysctl.Listener
	a := func(n uint64) sysctl.Listener { return listener("ids", 7, "em0", n, 0, 0) }
	matched := func(n, m uint64) sysctl.Listener { return listener("ids", 7, "em0", n, m, 0) }
	long := func(n int, each uint64) (l all) {
		for range n {
			l = append(l, a(each))
		}
		return l
	}
	for rule, c := range map[string]struct {
		looks []all
		want  []float64
	}{
		"nothing happens":               {[]all{{a(5)}, {a(5)}, {a(5)}}, []float64{5, 5, 5}},
		"a listener goes":               {[]all{{a(5)}, {}, {}}, []float64{5, 5, 5}},
		"it comes back":                 {[]all{{a(5)}, {}, {a(3)}}, []float64{5, 5, 8}},
		"the counters are reset":        {[]all{{a(50)}, {a(3)}, {a(4)}}, []float64{50, 53, 54}},
		"the older of two goes":         {[]all{{a(5), a(100)}, {a(6)}}, []float64{105, 106}},
		"the younger of two goes":       {[]all{{a(5), a(100)}, {a(101)}}, []float64{105, 106}},
		"a younger one comes":           {[]all{{a(100)}, {a(5), a(101)}}, []float64{100, 106}},
		"one goes and one comes":        {[]all{{a(50), a(100)}, {a(5), a(51)}}, []float64{150, 156}},
		"all of two are reset":          {[]all{{a(50), a(100)}, {a(1), a(1)}}, []float64{150, 152}},
		"one without matches goes":      {[]all{{matched(50, 50), matched(50, 0)}, {matched(51, 51)}}, []float64{100, 101}},
		"there are more than the table": {[]all{long(513, 10), long(513, 11), long(512, 11)}, []float64{5130, 5643, 5643}},
		"the name is not found once": {[]all{{a(5)}, {listener("", 7, "em0", 6, 0, 0)}, {a(7)}},
			[]float64{5, 6, 7}},
	} {
		t.Run(rule, func(t *testing.T) {
			assert.Equal(t, c.want, received(t, false, c.looks...))
			assert.Equal(t, c.want, received(t, true, c.looks...), "per pid")
		})
	}
}

func TestNameThatIsNotFoundOnceStays(t *testing.T) {
	l := &list{}
	e := New(Config{Listeners: l.get})
	l.set(listener("ids", 7, "em0", 5, 0, 0))
	look(t, e)
	l.set(listener("", 7, "em0", 6, 0, 0), listener("", 8, "em0", 1, 0, 0))
	got := look(t, e)
	assert.Equal(t, 6.0, got["bpf_received_packets_total{interface=em0,program=ids}"])
	assert.Equal(t, 1.0, got["bpf_received_packets_total{interface=em0,program=?}"])
}

// The number of a listener is its own as long as it is there.
func TestPerPIDNumbersEqualListeners(t *testing.T) {
	l := &list{}
	e := New(Config{Listeners: l.get, PerPID: true})
	key := func(index int) string {
		return fmt.Sprintf("bpf_received_packets_total{index=%d,interface=em0,pid=7,program=ids}", index)
	}
	a := func(n uint64) sysctl.Listener { return listener("ids", 7, "em0", n, 0, 0) }
	l.set(a(10), a(20), a(30))
	got := look(t, e)
	assert.Equal(t, []float64{30, 20, 10}, []float64{got[key(0)], got[key(1)], got[key(2)]})
	l.set(a(11), a(31)) // the second has gone
	got = look(t, e)
	assert.Equal(t, []float64{31, 20, 11}, []float64{got[key(0)], got[key(1)], got[key(2)]})
	l.set(a(1), a(12), a(32)) // a new one gets the free number
	got = look(t, e)
	assert.Equal(t, []float64{32, 21, 12}, []float64{got[key(0)], got[key(1)], got[key(2)]})
	assert.NotContains(t, got, key(3))
}

func TestLabelsAreText(t *testing.T) {
	l := &list{}
	l.set(listener("a\x1b[2J\xff\n\"\\", 1, "em0", 7, 0, 0))
	assert.Contains(t, look(t, New(Config{Listeners: l.get})),
		`bpf_received_packets_total{interface=em0,program=a\x1b[2J\xff\n"\}`)
}

// combinations are the labels of all series.
func combinations(values map[string]float64) map[string]bool {
	all := map[string]bool{}
	for key := range values {
		_, of, _ := strings.Cut(key, "{")
		all[of] = true
	}
	return all
}

func TestSeriesAreAtMost200(t *testing.T) {
	for _, perPID := range []bool{false, true} {
		l := &list{}
		e := New(Config{Listeners: l.get, PerPID: perPID})
		rest := "{interface=other,program=other}"
		if perPID {
			rest = "{index=,interface=other,pid=,program=other}"
		}
		many := func(first, n int) (all []sysctl.Listener) {
			for i := range n {
				all = append(all, listener(fmt.Sprintf("p%04d", first+i), first+i+1, "em0", 1, 0, 0))
			}
			return all
		}
		l.set(many(0, MaxSeries-1)...)
		got := look(t, e)
		require.Len(t, combinations(got), MaxSeries-1)
		require.NotContains(t, got, "bpf_listeners"+rest)

		l.set(many(0, 1000)...)
		got = look(t, e)
		require.Len(t, combinations(got), MaxSeries)
		require.EqualValues(t, 1000-MaxSeries+1, got["bpf_listeners"+rest])
		require.EqualValues(t, 1000-MaxSeries+1, got["bpf_received_packets_total"+rest])

		// Others have come. They get the places of those that have gone.
		l.set(many(5000, 3)...)
		got = look(t, e)
		require.Len(t, combinations(got), MaxSeries)
		require.EqualValues(t, 0, got["bpf_listeners"+rest])
		require.EqualValues(t, 1000-MaxSeries+1, got["bpf_received_packets_total"+rest], "it stays")
		named := 0
		for of := range combinations(got) {
			if strings.Contains(of, "program=p500") {
				named++
			}
		}
		require.Equal(t, 3, named)
	}
}

func TestFileIsReplacedAsAWhole(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "bpf.prom")
	l := &list{}
	e := New(Config{Listeners: l.get})
	l.set(listener("ids", 7, "em0", 1, 0, 0))
	require.NoError(t, e.WriteFile(name))
	was, err := os.Open(name)
	require.NoError(t, err)
	defer was.Close()
	l.set(listener("ids", 7, "em0", 2, 0, 0))
	require.NoError(t, e.WriteFile(name))
	value := func(r io.Reader) float64 {
		return parse(t, r)["bpf_received_packets_total{interface=em0,program=ids}"]
	}
	assert.Equal(t, 1.0, value(was), "whoever reads the old file goes on with it")
	now, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, 2.0, value(bytes.NewReader(now)))

	broken := errors.New("no list")
	l.fail(broken)
	require.Equal(t, broken, e.WriteFile(name))
	after, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, now, after)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 1, "no other file stays")
	assert.Equal(t, broken, e.WriteText(io.Discard))
}
