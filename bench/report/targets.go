package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A target is a promise about one figure. The worst result that has the figure shows how well the
// promise is kept.
type target struct {
	text  string
	limit float64
	least bool // the figure must be at least limit; else at most
	unit  string
	// figure returns the value of a result. ok is true if the target is about it.
	figure func(d *data, r *result) (v float64, ok bool)
	// chance returns how far the figure may be off. It is nil for figures without an error.
	chance func(d *data, r *result) float64
	bench  string
	// each is a key. The target has a line for each of its values.
	each string
}

// ofEach returns the target for one value of its key.
func (t target) ofEach(value string) target {
	figure := t.figure
	t.text += ", on " + value
	t.figure = func(d *data, r *result) (float64, bool) {
		v, ok := figure(d, r)
		return v, ok && r.at[t.each] == value
	}
	return t
}

// inLines returns the targets, one for each line of the table. Values of a key that nobody measured
// anew are those that lines of old have.
func (d *data) inLines(lines map[string]string) (all []target) {
	for _, t := range targets {
		if t.each == "" {
			all = append(all, t)
			continue
		}
		known := map[string]bool{}
		for line := range lines {
			if v, ok := strings.CutPrefix(line, t.text+", on "); ok {
				known[v] = true
			}
		}
		for _, r := range d.of(t.bench) {
			known[r.at[t.each]] = true
		}
		if len(known) == 0 {
			all = append(all, t)
		}
		for _, v := range slices.Sorted(maps.Keys(known)) {
			all = append(all, t.ofEach(v))
		}
	}
	return all
}

// apart returns how far the difference of two results' values may be from the true one: three
// standard errors. That is 95 % certain for four runs, and more for more runs. unit is the unit of
// the standard errors.
func apart(a, b *result, unit string) float64 {
	return 3 * math.Hypot(a.values[unit], b.values[unit])
}

// to returns the ratio of two readers' values in the same run, if both deliver packets.
func to(reader, other, unit string, only func(r *result) bool) func(
	*data, *result,
) (float64, bool) {
	return func(d *data, r *result) (float64, bool) {
		if r.at["reader"] != reader || only != nil && !only(r) {
			return 0, false
		}
		return d.ratio(r, map[string]string{"reader": other}, unit)
	}
}

// all reports whether a result is as each of only demands.
func all(only ...func(r *result) bool) func(r *result) bool {
	return func(r *result) bool {
		return !slices.ContainsFunc(only, func(f func(*result) bool) bool { return !f(r) })
	}
}

// withoutTouch returns what a packet costs a run of the contest without what every contestant does
// with it. That cost is of the same file, and of the contestant's language.
func (d *data) withoutTouch(run *result, unit string) (ns float64, ok bool) {
	language := "Go"
	if strings.HasPrefix(run.at["reader"], "libpcap") || run.at["reader"] == "bare-c" {
		language = "C"
	}
	cost, ok := run.values[unit]
	for _, t := range d.single {
		if ok && t.bench == "Touch" && t.file == run.file && t.at["size"] == run.at["size"] &&
			t.at["language"] == language {
			return cost - t.values["touch-ns/pkt"], true
		}
	}
	return 0, false
}

// toWithoutTouch is to, without the cost of touching the packets.
func toWithoutTouch(reader, other, unit string, only func(r *result) bool) func(
	*data, *result,
) (float64, bool) {
	return func(d *data, r *result) (float64, bool) {
		if r.at["reader"] != reader || !only(r) {
			return 0, false
		}
		return r.each(func(run *result) (float64, bool) {
			o := d.against(run, map[string]string{"reader": other})
			if o == nil {
				return 0, false
			}
			a, ok := d.withoutTouch(run, unit)
			b, ok2 := d.withoutTouch(o, unit)
			return a / b, ok && ok2 && b > 0
		})
	}
}

func at(key string, values ...string) func(r *result) bool {
	return func(r *result) bool { return slices.Contains(values, r.at[key]) }
}

// work reports whether the load has work on each packet. That work takes most of the time.
func work(r *result) bool { return r.at["load"] == "overload" || r.at["load"] == shared }

func noWork(r *result) bool { return !work(r) }

// shared is the load at which the reader shares the only processor with the process and the threads
// that bring the packets.
const shared = "shared-overload"

// beyond returns by how many points lease drops more packets than another contestant of the same
// run, and how far that may be off. It takes the contestant for which this is certainly the most.
func (d *data) beyond(run *result) (points, off float64, ok bool) {
	for _, o := range d.single {
		if o == run || d.against(run, map[string]string{"reader": o.at["reader"]}) != o {
			continue
		}
		v, has := run.values["drop-%"]
		w, hasToo := o.values["drop-%"]
		if e := apart(run, o, "drop-error-%"); has && hasToo && (!ok || v-w-e > points-off) {
			points, off, ok = v-w, e, true
		}
	}
	return max(points, 0), off, ok
}

func drops(only func(r *result) bool) func(*data, *result) (float64, bool) {
	return func(d *data, r *result) (float64, bool) {
		if r.at["reader"] != "zbuf-lease" || !only(r) {
			return 0, false
		}
		return r.each(func(run *result) (float64, bool) {
			v, _, ok := d.beyond(run)
			return v, ok
		})
	}
}

func dropChance(d *data, r *result) float64 {
	off, _ := r.each(func(run *result) (float64, bool) {
		_, off, ok := d.beyond(run)
		return off, ok
	})
	return off
}

// delayChance returns how far the ratio of the delays of lease and another may be off.
func delayChance(other, unit, errorUnit string) func(*data, *result) float64 {
	return func(d *data, r *result) float64 {
		off, _ := r.each(func(run *result) (float64, bool) {
			o := d.against(run, map[string]string{"reader": other})
			if o == nil {
				return 0, false
			}
			return apart(run, o, errorUnit) / o.values[unit], true
		})
		return off
	}
}

// targets has the project's targets for these measurements.
var targets = []target{
	{text: "no system call by the reader while it is behind (per million packets)", bench: "Contest",
		limit: 0,
		figure: func(_ *data, r *result) (float64, bool) {
			v, ok := r.values["syscalls/Mpkt"]
			lent := slices.Contains([]string{"zbuf-lease", "zbuf-packet", "zbuf-packetreader",
				"zbuf-gopacket", "zbuf-copy"}, r.at["reader"])
			return v, ok && lent && work(r) && r.values["drop-%"] > 0
		}},
	{text: "CPU per packet, lease to the bare loop in Go", bench: "Contest", limit: 1.1,
		unit: "×", figure: to("zbuf-lease", "bare", "least-cpu-ns/pkt", noWork)},
	{text: "CPU per packet, lease to our own buffered reader", bench: "Contest", limit: 1,
		unit: "×", figure: to("zbuf-lease", "zbuf-buffered", "least-cpu-ns/pkt", nil)},
	{text: "the same with packets of 1500 bytes", bench: "Contest", limit: 1, unit: "×",
		figure: to("zbuf-lease", "zbuf-buffered", "least-cpu-ns/pkt", at("size", "1500"))},
	{text: "CPU per packet, lease to gopacket", bench: "Contest", limit: 0.3, unit: "×",
		figure: to("zbuf-lease", "gopacket", "least-cpu-ns/pkt", noWork)},
	{text: "packets dropped, lease, beyond the contestant that drops least", bench: "Contest",
		limit: 0, unit: "points",
		figure: drops(func(r *result) bool { return r.at["load"] != shared }), chance: dropChance},
	{text: "the same, where what brings the packets shares the only processor", bench: "Contest",
		limit: 0, unit: "points",
		figure: drops(at("load", shared)), chance: dropChance},
	{text: "delay in immediate mode, half of the packets, lease to buffered", bench: "Delay",
		limit: 1, unit: "×",
		figure: to("zbuf-lease", "zbuf-buffered", "p50-us", at("wait", "immediate")),
		chance: delayChance("zbuf-buffered", "p50-us", "p50-error-us")},
	{text: "delay in immediate mode, 99 %, lease to buffered", bench: "Delay",
		limit: 1, unit: "×",
		figure: to("zbuf-lease", "zbuf-buffered", "p99-us", at("wait", "immediate")),
		chance: delayChance("zbuf-buffered", "p99-us", "p99-error-us")},
	{text: "CPU when idle and at the low rate, lease to buffered", bench: "Contest",
		limit: 1, unit: "×",
		figure: to("zbuf-lease", "zbuf-buffered", "least-cpu-us/s", at("load", "idle", "low"))},
	{text: "CPU when idle, lease to libpcap in C with read(2)", bench: "Contest",
		limit: 1.5, unit: "×",
		figure: to("zbuf-lease", "libpcap", "cpu-us/s", at("load", "idle"))},
	{text: "CPU per packet at the low and the mid rate, lease to libpcap in C with read(2)",
		bench: "Contest", limit: 1.5, unit: "×",
		figure: to("zbuf-lease", "libpcap", "cpu-ns/pkt", at("load", "low", "mid"))},
	{text: "the floor of the two lines above: CPU, lease to the bare loop in Go", bench: "Contest",
		limit: 1.1, unit: "×",
		figure: to("zbuf-lease", "bare", "least-cpu-us/s", at("load", "idle", "low", "mid"))},
	{text: "delay at the low and the mid rate, 99 %, lease to libpcap in C with read(2)",
		bench: "Contest", limit: 1, unit: "×",
		figure: to("zbuf-lease", "libpcap", "p99-us", at("load", "low", "mid")),
		chance: delayChance("libpcap", "p99-us", "p99-error-us")},
	{text: "CPU per packet at the full rate, 64 bytes, without the touch, lease to libpcap with " +
		"lent buffers", bench: "Contest", limit: 1, unit: "×",
		figure: toWithoutTouch("zbuf-lease", "libpcap-zc", "cpu-ns/pkt",
			all(at("load", "full"), at("size", "64")))},
	{text: "the same with packets of 1500 bytes, to libpcap with lent buffers", bench: "Contest",
		limit: 1.2, unit: "×",
		figure: toWithoutTouch("zbuf-lease", "libpcap-zc", "cpu-ns/pkt",
			all(at("load", "full"), at("size", "1500")))},
	{text: "the floor of the two lines above: lease to the bare loop in Go, without the touch",
		bench: "Contest", limit: 1.1, unit: "×",
		figure: toWithoutTouch("zbuf-lease", "bare", "least-cpu-ns/pkt", at("load", "full"))},
	{text: "CPU per packet, lease to gopacket/pcap, which calls libpcap by cgo", bench: "Contest",
		limit: 1, unit: "×",
		figure: to("zbuf-lease", "cgo-libpcap", "least-cpu-ns/pkt", noWork)},
	{text: "speed-up by a worker for each processor", bench: "Fanout", limit: 1, least: true,
		unit: "×",
		figure: func(_ *data, r *result) (float64, bool) {
			v, ok := r.values["speedup"]
			return v, ok && r.at["workers"] == r.at["cpus"]
		}},
	{text: "time per packet, a range over a lease to the best C loop", bench: "Walk", limit: 1,
		unit: "×", each: processor,
		figure: func(_ *data, r *result) (float64, bool) {
			v, ok := r.values["ratio-to-C"]
			return v, ok
		},
		chance: func(_ *data, r *result) float64 { return 3 * r.values["ratio-error"] }},
}

// targets shows how well the results keep each target. It keeps the lines of old about results that
// nobody measured anew.
func (d *data) targets(old string) string {
	lines := linesOf(old, "")
	var b strings.Builder
	b.WriteString("| target | limit | best | worst | ± | where | kept |\n" +
		"|---|--:|--:|--:|--:|---|---|\n")
	for _, t := range d.inLines(lines) {
		limit := "at most "
		if t.least {
			limit = "at least "
		}
		limit += strings.TrimSpace(strconv.FormatFloat(t.limit, 'g', -1, 64) + " " + t.unit)
		var worst *result
		var worstV, bestV, off float64
		kept, of := 0, 0
		for _, r := range d.of(t.bench) {
			v, ok := t.figure(d, r)
			if !ok {
				continue
			}
			of++
			e := 0.0
			if t.chance != nil {
				e = t.chance(d, r)
			}
			if t.keeps(v, e) {
				kept++
			}
			if worst == nil || t.short(v, e) > t.short(worstV, off) {
				worst, worstV, off = r, v, e
			}
			if of == 1 || t.short(v, 0) < t.short(bestV, 0) {
				bestV = v
			}
		}
		if line := lines[t.text]; worst == nil && line != "" {
			b.WriteString(line)
			continue
		}
		if worst == nil {
			fmt.Fprintf(&b, "| %s | %s | – | – | | | not measured |\n", t.text, limit)
			continue
		}
		verdict, within := "yes", ""
		if kept < of {
			verdict = fmt.Sprintf("**no**: %d of %d", kept, of)
		}
		if t.chance != nil {
			within = number(off)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", t.text, limit, number(bestV),
			number(worstV), within, worst.where("reader", t.each), verdict)
	}
	return b.String()
}

// short returns by how much a figure certainly misses the limit. It is negative if the figure keeps
// the limit.
func (t *target) short(v, off float64) float64 {
	if t.least {
		return t.limit - v - off
	}
	return v - off - t.limit
}

func (t *target) keeps(v, off float64) bool { return t.short(v, off) <= 0 }
