package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// headed finds the tables of a text that have a heading.
var headed = regexp.MustCompile(`(?m)^([^|\n]+):\n\n(?:\|.*\n)+(?:\n× is to: .*\n)?`)

// tables writes the tables of a section, one for each combination of its split keys. It keeps the
// tables of old that nobody measured anew.
func (s *section) tables(d *data, old string) string {
	var b strings.Builder
	rs := d.of(s.bench)
	var groups []string
	for _, r := range rs {
		if g := r.group(s.split); !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	for _, g := range groups {
		var in []*result
		for _, r := range rs {
			if r.group(s.split) == g {
				in = append(in, r)
			}
		}
		if g != "" {
			fmt.Fprintf(&b, "%s:\n\n", g)
		}
		s.table(&b, d, in)
		b.WriteByte('\n')
	}
	for _, m := range headed.FindAllStringSubmatch(old, -1) {
		if !slices.Contains(groups, m[1]) {
			b.WriteString(m[0] + "\n")
		}
	}
	s.words(&b, d)
	return b.String()
}

// words writes what the newest run of the section said.
func (s *section) words(b *strings.Builder, d *data) {
	if len(s.said) == 0 {
		return
	}
	rs := d.of(s.bench)
	var file string
	for _, r := range rs {
		if d.newest(r) {
			file = r.runs[0].file
		}
	}
	at := slices.IndexFunc(d.runs, func(r run1) bool { return r.file == file })
	b.WriteString("| program | what it says of itself |\n|---|---|\n")
	for _, key := range s.said {
		text := cmp.Or(d.runs[at].config[key], "did not run: this run has no programs")
		fmt.Fprintf(b, "| %s | %s |\n", key, text)
	}
}

// group names the values of keys, for a heading.
func (r *result) group(keys []string) string {
	var parts []string
	for _, k := range keys {
		if v, ok := r.at[k]; ok {
			parts = append(parts, strings.TrimSpace(title(k)+" "+value(k, v)))
		}
	}
	g := strings.Join(parts, ", ")
	if g != "" {
		g = strings.ToUpper(g[:1]) + g[1:]
	}
	return g
}

func title(key string) string {
	if t, ok := keyTitles[key]; ok {
		return t
	}
	return key
}

// value returns the text for a key's value.
func value(key, v string) string {
	n, err := strconv.Atoi(v)
	switch {
	case key == "size" && err == nil:
		return v + " bytes"
	case key == "buffer" && err == nil && n%1024 == 0:
		return strconv.Itoa(n/1024) + " KiB"
	}
	return v
}

// reference names the result that the ratios relate to.
func (s *section) reference() string {
	var parts []string
	for _, k := range []string{"reader", "language", "mode", "interfaces", "readers", "buffer"} {
		if v, ok := s.against[k]; ok {
			parts = append(parts, strings.TrimSpace(title(k)+" "+value(k, v)))
		}
	}
	if len(parts) == 1 && s.against["reader"] != "" {
		return s.against["reader"]
	}
	return strings.Join(parts, ", ")
}

func (s *section) table(b *strings.Builder, d *data, rs []*result) {
	var columns []column
	var cells [][]string
	for _, c := range s.columns {
		var col []string
		some := false
		for _, r := range rs {
			text := "–"
			if c.ratio {
				if v, ok := d.ratio(r, s.against, c.unit); ok {
					text, some = number(v)+" ×", true
				}
			} else if v, ok := r.values[c.unit]; ok {
				text, some = number(v), true
				if c.unit == "drop-%" && v != 0 { // of which differences count
					text = strconv.FormatFloat(v, 'f', 2, 64)
				}
			}
			col = append(col, text)
		}
		if some {
			columns, cells = append(columns, c), append(cells, col)
		}
	}
	for _, o := range s.beside {
		var col []string
		some := false
		for _, r := range rs {
			text := "–"
			if v, ok := d.ratio(r, o.to, o.unit); ok {
				text, some = number(v), true
			}
			col = append(col, text)
		}
		if some {
			columns, cells = append(columns, column{unit: o.unit, head: o.head}), append(cells, col)
		}
	}
	for i, k := range s.rows {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(b, "| %s ", title(k))
	}
	relative := false
	for _, c := range columns {
		head := c.head
		if c.ratio {
			head += ", ×"
			relative = true
		}
		fmt.Fprintf(b, "| %s ", head)
	}
	b.WriteString("|\n")
	b.WriteString(strings.Repeat("|---", len(s.rows)) + strings.Repeat("|--:", len(columns)) + "|\n")
	for i, r := range rs {
		for _, k := range s.rows {
			fmt.Fprintf(b, "| %s ", value(k, r.at[k]))
		}
		for _, col := range cells {
			fmt.Fprintf(b, "| %s ", col[i])
		}
		b.WriteString("|\n")
	}
	if relative {
		fmt.Fprintf(b, "\n× is to: %s.\n", s.reference())
	}
}

// plain returns the section of a benchmark that the report does not know. It has all values as
// they are.
func plain(d *data, bench string) *section {
	s := &section{bench: bench}
	for _, r := range d.of(bench) {
		for _, k := range r.keys {
			if !slices.Contains(s.rows, k) {
				s.rows = append(s.rows, k)
			}
		}
		for _, u := range r.units {
			if !slices.ContainsFunc(s.columns, func(c column) bool { return c.unit == u }) {
				s.columns = append(s.columns, column{unit: u, head: u})
			}
		}
	}
	if len(s.rows) == 0 {
		s.rows = []string{variant}
	}
	return s
}

// number writes three digits, or all digits before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == 0:
		return "0"
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.01:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// table names the runs that the results come from, also those of old that were not made anew.
func (d *data) table(old string) string {
	lines := linesOf(old, ".txt")
	for _, r := range d.runs {
		lines[r.file] = fmt.Sprintf("| %s | %d | %s/%s | %s | %s | %s |\n", r.file, r.results,
			cmp.Or(r.config[kernel], r.config["goos"]), r.config["goarch"], r.config["cpu"],
			strings.TrimPrefix(r.config["pkg"], "github.com/zbuf-go/zbuf/"), r.config["commit"])
	}
	var b strings.Builder
	b.WriteString("| file | results | system | processor | package | commit |\n" +
		"|---|--:|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		b.WriteString(lines[name])
	}
	return b.String()
}

// linesOf returns the lines of a table by their first cells, of those that end with suffix.
func linesOf(table, suffix string) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) > 2 && strings.HasSuffix(strings.TrimSpace(cells[1]), suffix) {
			lines[strings.TrimSpace(cells[1])] = line
		}
	}
	return lines
}
