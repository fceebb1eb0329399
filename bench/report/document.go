package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Markers are lines by themselves: <!-- results: Contest --> and <!-- end of Contest -->. Besides
// benchmarks there are "summary", "runs", "targets", "processors", and "others" for benchmarks
// without a section.
var marker = regexp.MustCompile(`(?ms)^<!-- results: (\w+) -->\n(.*?)^<!-- end of (\w+) -->\n`)

// fill replaces the text between the document's markers, and adds the plots to pictures. What was
// not measured stays as it was, and so do its plots.
func fill(text string, d *data, link string, pictures map[string][]byte) (string, error) {
	var placed []string
	var failed error
	filled := marker.ReplaceAllStringFunc(text, func(m string) string {
		names := marker.FindStringSubmatch(m)
		name := names[1]
		if names[3] != name {
			failed = fmt.Errorf("<!-- results: %s --> is followed by <!-- end of %s -->", name, names[3])
			return m
		}
		placed = append(placed, name)
		body, err := d.part(name, names[2], link, pictures)
		if err != nil {
			failed = err
		}
		return fmt.Sprintf("<!-- results: %s -->\n%s<!-- end of %s -->\n", name, body, name)
	})
	if failed != nil {
		return "", failed
	}
	need := []string{"summary", "runs", "targets", "others"}
	for _, s := range sections {
		if len(d.of(s.bench)) > 0 {
			need = append(need, s.bench)
		}
	}
	if len(d.of("Walk")) > 0 {
		need = append(need, "processors")
	}
	for _, n := range need {
		if !slices.Contains(placed, n) {
			return "", noPlace(n)
		}
	}
	return filled, nil
}

func noPlace(name string) error {
	return fmt.Errorf(
		"no place for %s: <!-- results: %[1]s --> and <!-- end of %[1]s --> are missing", name)
}

// fillShort replaces the text between the markers of a page that has the summary's numbers alone.
func fillShort(text string, d *data) (string, error) {
	const name = "numbers"
	m := marker.FindStringSubmatchIndex(text)
	if m == nil || text[m[2]:m[3]] != name || text[m[6]:m[7]] != name {
		return "", noPlace(name)
	}
	return text[:m[4]] + d.short(text[m[4]:m[5]]) + text[m[5]:], nil
}

// plotLink finds the plots of a text.
var plotLink = regexp.MustCompile(`\]\((?:[^)]*/)?([^)/]+\.svg)\)`)

// part returns the text for one pair of markers, between which old is now. A plot that stays is in
// pictures without content.
func (d *data) part(name, old, link string, pictures map[string][]byte) (string, error) {
	switch name {
	case "summary":
		return d.summary(old), nil
	case "runs":
		return d.table(old), nil
	case "targets":
		return d.targets(old), nil
	case "processors":
		return d.processors(old), nil
	case "others":
		return d.others(old), nil
	}
	i := slices.IndexFunc(sections, func(s section) bool { return s.bench == name })
	if i < 0 {
		return "", fmt.Errorf("<!-- results: %s -->: there is no such section", name)
	}
	s := &sections[i]
	if len(d.of(name)) == 0 {
		if old == "" {
			return "Not measured.\n", nil
		}
		for _, m := range plotLink.FindAllStringSubmatch(old, -1) {
			pictures[m[1]] = nil
		}
		return old, nil
	}
	var b strings.Builder
	for _, p := range s.plots {
		svg, err := p.draw(d, s)
		if err != nil {
			return "", fmt.Errorf("plot %s: %w", p.file, err)
		}
		if svg != nil {
			pictures[p.file+".svg"] = svg
			fmt.Fprintf(&b, "![%s](%s/%s.svg)\n", p.title, link, p.file)
		}
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	b.WriteString(s.tables(d, old))
	return strings.TrimRight(b.String(), "\n") + "\n", nil
}

// others shows the benchmarks that have no section.
func (d *data) others(old string) string {
	var b strings.Builder
	for _, name := range d.benches() {
		if !slices.ContainsFunc(sections, func(s section) bool { return s.bench == name }) {
			fmt.Fprintf(&b, "%s:\n\n%s", name, plain(d, name).tables(d, ""))
		}
	}
	if b.Len() == 0 {
		return cmp.Or(old, "None.\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
