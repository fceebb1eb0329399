package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// vendors are the makers of processors of which the page says when none of theirs was measured, and
// what their processors call them.
var vendors = [][2]string{{"AMD", "AuthenticAMD"}, {"Intel", "GenuineIntel"}}

// processors has a line for each processor that the walk was measured on, also those of old that
// were not at hand.
func (d *data) processors(old string) string {
	const head = "| processor | compilers | in a cache, × the best C | out of it | commit |\n" +
		"|---|---|---|---|---|\n"
	lines := map[string]string{}
	for key, line := range linesOf(old, "") {
		absent := slices.ContainsFunc(vendors, func(v [2]string) bool { return key == v[0] })
		if !absent && !strings.Contains(head, line) {
			lines[key] = line
		}
	}
	in, out, of := map[string][]float64{}, map[string][]float64{}, map[string]run1{}
	for _, r := range d.of("Walk") {
		name := cmp.Or(r.at[processor], "a processor that the run does not name")
		ratios := in
		if strings.Contains(r.at["buffer"], "x") { // so many of that size
			ratios = out
		}
		ratios[name] = append(ratios[name], r.values["ratio-to-C"])
		file := r.runs[len(r.runs)-1].file
		of[name] = d.runs[slices.IndexFunc(d.runs, func(r run1) bool { return r.file == file })]
	}
	for name, run := range of {
		lines[name] = fmt.Sprintf("| %s | %s | %s | %s | %s |\n", name, run.config["compilers"],
			fromTo(in[name]), fromTo(out[name]), run.config["commit"])
	}
	for _, v := range vendors {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(lines)), func(name string) bool {
			return strings.Contains(name, v[1])
		}) {
			lines[v[0]] = fmt.Sprintf("| %s | | not measured | not measured | |\n", v[0])
		}
	}
	var b strings.Builder
	b.WriteString(head)
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		b.WriteString(lines[name])
	}
	return b.String()
}

// fromTo returns the least and the greatest of the values.
func fromTo(v []float64) string {
	if len(v) == 0 {
		return "not measured"
	}
	return number(slices.Min(v)) + " to " + number(slices.Max(v))
}
