package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// A result is one line of a benchmark, or the medians of several lines with the same name. The
// medians of a run, which is one file, come first, and those of the runs after them.
type result struct {
	file   string    // of a run's result
	runs   []*result // of all runs' result
	bench  string
	keys   []string // in the order of the name
	at     map[string]string
	units  []string // in the order of the line
	values map[string]float64

	all map[string][]float64
}

// where names the keys that distinguish the result, without those in the arguments.
func (r *result) where(out ...string) string {
	var b strings.Builder
	for _, k := range r.keys {
		if !slices.Contains(out, k) {
			fmt.Fprintf(&b, "/%s=%s", k, r.at[k])
		}
	}
	return strings.TrimPrefix(b.String(), "/")
}

// data has all results.
type data struct {
	results []*result // of all runs
	single  []*result // of each run
	runs    []run1
}

// run1 is one run of a file.
type run1 struct {
	file    string
	results int
	config  map[string]string // goos, goarch, cpu, pkg
}

// kernel is the key of the system that a run names. It distinguishes results as the parts of a name
// do, so figures of two kernels are never one.
const kernel = "kernel"

// processor is the key of the processor that a run names. It distinguishes results in the same way.
const processor = "processor"

// variant is the key of a part of a name that has no key.
const variant = "variant"

func read(files []string) (*data, error) {
	d := &data{}
	slices.Sort(files)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := d.add(filepath.Base(name), text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return d, nil
}

// ended reports whether a run reached its end without a failure. `go test` prints a line for each
// package. A test binary that runs by itself prints PASS.
func ended(text []byte) error {
	ok := false
	for line := range strings.Lines(string(text)) {
		word, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		word, _, _ = strings.Cut(word, "\t")
		switch word {
		case "FAIL", "---", "panic:", "fatal":
			if strings.HasPrefix(line, "--- FAIL") || word != "---" {
				return fmt.Errorf("the run failed: %s", strings.TrimSpace(line))
			}
			ok = false
		case "ok", "PASS":
			ok = true
		}
		if strings.HasPrefix(word, "Benchmark") {
			ok = false
		}
	}
	if !ok {
		return fmt.Errorf("the run broke off: neither PASS nor ok behind its last result")
	}
	return nil
}

func (d *data) add(file string, text []byte) error {
	if err := ended(text); err != nil {
		return err
	}
	known := map[string]*result{}
	r1 := run1{file: file, config: map[string]string{}}
	for reader := benchfmt.NewReader(bytes.NewReader(text), file); reader.Scan(); {
		switch rec := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return rec
		case *benchfmt.Result:
			r1.results++
			for _, c := range rec.Config {
				if c.File {
					r1.config[c.Key] = string(c.Value)
				}
			}
			r := newResult(file, rec)
			id := r.bench + "/" + r.where()
			if known[id] == nil {
				known[id] = r
				d.single = append(d.single, r)
			}
			known[id].collect(rec)
		}
	}
	if r1.results == 0 {
		return fmt.Errorf("no results")
	}
	d.runs = append(d.runs, r1)
	d.merge()
	return nil
}

// merge makes results of single.
func (d *data) merge() {
	d.results = nil
	known := map[string]*result{}
	for _, run := range d.single {
		id := run.bench + "/" + run.where()
		r := known[id]
		if r == nil {
			r = &result{bench: run.bench, keys: run.keys, at: run.at, values: map[string]float64{},
				all: map[string][]float64{}}
			known[id] = r
			d.results = append(d.results, r)
		}
		r.runs = append(r.runs, run)
		for _, u := range run.units {
			r.add(u, run.values[u])
		}
	}
}

func (r *result) add(unit string, value float64) {
	if r.all[unit] == nil {
		r.units = append(r.units, unit)
	}
	r.all[unit] = append(r.all[unit], value)
	r.values[unit] = median(r.all[unit])
}

func newResult(file string, rec *benchfmt.Result) *result {
	base, parts := rec.Name.Parts()
	r := &result{file: file, bench: string(base), at: map[string]string{},
		values: map[string]float64{}, all: map[string][]float64{}}
	for _, p := range parts {
		if p[0] == '-' { // GOMAXPROCS
			continue
		}
		k, v, ok := strings.Cut(string(p[1:]), "=")
		if !ok {
			k, v = variant, k
		}
		r.keys = append(r.keys, k)
		r.at[k] = v
	}
	for _, key := range []string{kernel, processor} {
		if v := rec.GetConfig(key); v != "" {
			r.keys, r.at[key] = append([]string{key}, r.keys...), v
		}
	}
	return r
}

// collect adds a line's values. The reader has converted some of the units.
func (r *result) collect(rec *benchfmt.Result) {
	for _, v := range rec.Values {
		unit, value := v.Unit, v.Value
		if v.OrigUnit != "" {
			unit, value = v.OrigUnit, v.OrigValue
		}
		if unit == "ns/op" && value == 0 {
			continue // benchmarks that count something else write this
		}
		r.add(unit, value)
	}
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// of returns the results of a benchmark.
func (d *data) of(bench string) (rs []*result) {
	for _, r := range d.results {
		if r.bench == bench {
			rs = append(rs, r)
		}
	}
	return rs
}

// benches returns all names.
func (d *data) benches() (names []string) {
	for _, r := range d.results {
		if !slices.Contains(names, r.bench) {
			names = append(names, r.bench)
		}
	}
	return names
}

// against returns the result in the run of r that differs from r only in the keys given.
func (d *data) against(r *result, other map[string]string) *result {
	want := maps.Clone(r.at)
	maps.Copy(want, other)
	for _, o := range d.single {
		if o.file == r.file && o.bench == r.bench && maps.Equal(want, o.at) {
			return o
		}
	}
	return nil
}

// newest reports whether r is of the newest kernel that has results of its benchmark.
func (d *data) newest(r *result) bool {
	for _, o := range d.of(r.bench) {
		if o.at[kernel] > r.at[kernel] {
			return false
		}
	}
	return true
}

// each returns the median of a figure of each of the runs of r.
func (r *result) each(figure func(run *result) (float64, bool)) (float64, bool) {
	var all []float64
	for _, run := range r.runs {
		if v, ok := figure(run); ok {
			all = append(all, v)
		}
	}
	if all == nil {
		return 0, false
	}
	return median(all), true
}

// ratio returns r's value divided by that of another result of the same run, which differs in the
// keys given.
func (d *data) ratio(r *result, other map[string]string, unit string) (float64, bool) {
	return r.each(func(run *result) (float64, bool) {
		o := d.against(run, other)
		if o == nil {
			return 0, false
		}
		a, ok := run.values[unit]
		b, ok2 := o.values[unit]
		return a / b, ok && ok2 && b != 0
	})
}
