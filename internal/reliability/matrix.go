package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// A column of the matrix is a kernel, and the processor that the programs on it were compiled for.
type column struct {
	release, program string
	system, day      string
	cells            map[string]string // by rule; nothing for what was not run
}

// What a cell says. na goes on with the reason, and differs with the features that were expected.
const (
	held    = "ok"
	differs = "differs: "
	na      = "n/a: "
)

var kernelName = regexp.MustCompile(`^FreeBSD (\d+\.\d+)\S* \S+ \S+(?:, a program for (\S+))?$`)

// newColumn makes the column of a run of the table on a kernel.
func newColumn(r *run) (*column, error) {
	m := kernelName.FindStringSubmatch(r.system)
	if m == nil {
		return nil, fmt.Errorf("%q is no name of a kernel", r.system)
	}
	c := &column{release: m[1], program: cmp.Or(m[2], "amd64"), system: r.system, day: r.day,
		cells: map[string]string{}}
	for _, rule := range r.rules {
		switch {
		case rule.Elsewhere != "":
			c.cells[rule.Name] = na + rule.Elsewhere
		case rule.held && len(rule.Has) > 0:
			c.cells[rule.Name] = differs + strings.Join(rule.Has, ", ")
		case rule.held:
			c.cells[rule.Name] = held
		case rule.skipped != "":
			c.cells[rule.Name] = na + rule.skipped
		}
	}
	return c, nil
}

func (c *column) title() string { return c.release + " " + c.program }

// processors in the order of the columns.
var processors = []string{"amd64", "arm64", "riscv64", "386"}

func compareColumns(a, b *column) int {
	return cmp.Or(cmp.Compare(a.release, b.release),
		cmp.Compare(slices.Index(processors, a.program), slices.Index(processors, b.program)))
}

// makeMatrix reads the runs of the table in a folder. A run replaces what the old page says of the
// same rules on the same kernel.
func makeMatrix(rules []string, dir fs.FS, old []byte) (page, summary []byte, err error) {
	names, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil, nil, err
	}
	var runs []*run
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, nil, err
		}
		all, err := readRuns(bytes.NewReader(b))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		all = slices.DeleteFunc(all, func(r *run) bool { return len(r.rules) == 0 })
		runs = append(runs, all...)
	}
	slices.SortStableFunc(runs, func(a, b *run) int { return a.at.Compare(b.at) })
	columns := columnsOf(old)
	for _, r := range runs {
		if !strings.HasPrefix(r.system, "FreeBSD ") {
			continue // on models alone
		}
		c, err := newColumn(r)
		if err != nil {
			return nil, nil, err
		}
		if before := columns[c.title()]; before != nil {
			maps.Copy(before.cells, c.cells)
			c.cells = before.cells
		}
		columns[c.title()] = c
	}
	if len(columns) == 0 {
		return nil, nil, errors.New("there are no runs of the table on a kernel: make rules makes them")
	}
	page, summary = renderMatrix(rules, slices.SortedFunc(maps.Values(columns), compareColumns))
	return page, summary, nil
}

// rulesOf reads the names of the rules out of the source of the table, in its order. They can't be
// asked for here: some of them are compiled on FreeBSD alone.
func rulesOf(dir string) (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	for _, path := range files {
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if name := ruleName(n); name != "" {
				names = append(names, name)
			}
			return true
		})
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no rules", dir)
	}
	return names, nil
}

// ruleName returns the name of the rule that n is, or nothing.
func ruleName(n ast.Node) string {
	lit, ok := n.(*ast.CompositeLit)
	if !ok {
		return ""
	}
	if t, ok := lit.Type.(*ast.Ident); !ok || t.Name != "rule" {
		return ""
	}
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := kv.Key.(*ast.Ident)
		if value, ok2 := kv.Value.(*ast.BasicLit); ok && ok2 && key.Name == "name" {
			name, err := strconv.Unquote(value.Value)
			if err == nil {
				return name
			}
		}
	}
	return ""
}

const (
	rulesHeading   = "\n## Rules\n"
	reasonsHeading = "\n## Why not\n"
)

func renderMatrix(rules []string, columns []*column) (page, summary []byte) {
	kernels, matrix := table.NewWriter(), table.NewWriter()
	kernels.AppendHeader(table.Row{"Kernel", "Programs", "Day", "Rules that held",
		"of these not as on 12.1", "Not for it", "Not run"})
	head := table.Row{"Rule"}
	var reasons []string
	for _, c := range columns {
		head = append(head, c.title())
		count := map[string]int{}
		for _, rule := range rules {
			kind, reason, _ := strings.Cut(c.cells[rule], ": ")
			count[kind]++
			if kind == "n/a" && !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
		kernels.AppendRow(table.Row{c.system, c.program, c.day, count["ok"] + count["differs"],
			count["differs"], count["n/a"], count[""]})
	}
	matrix.AppendHeader(head)
	slices.Sort(reasons)
	for _, rule := range rules {
		line := table.Row{"`" + rule + "`"}
		for _, c := range columns {
			cell := c.cells[rule]
			if reason, ok := strings.CutPrefix(cell, na); ok {
				cell = "n/a " + strconv.Itoa(1+slices.Index(reasons, reason))
			}
			line = append(line, cell)
		}
		matrix.AppendRow(line)
	}
	summary = []byte(kernels.RenderMarkdown() + "\n")
	var b bytes.Buffer
	b.WriteString("# Which rule was run on which kernel\n\n" +
		"`make matrix` makes this page from what `make rules` has written. Nothing here is typed\n" +
		`by hand. A row is a rule of the table in [` + "`conformance/`" + `](../conformance), a column a
kernel. A cell stays until the same rule runs again on the same kernel. If a rule failed in a run,
` + "`make matrix`" + ` makes no page.

- *ok*: the kernel did what 12.1 does.
- *differs*: the kernel did what kernels with the named features do. The features are those of
  [` + "`bpftest.Features`" + `](../bpf/bpftest/features.go).
- *n/a*: the rule is not for this kernel, or not for such a program. The number leads to the reason.
- Nothing: the rule was not run there. Nothing is assumed.

[freebsd-15-16.md](freebsd-15-16.md) says what the releases 15 and 16 do by their sources.

## Kernels

`)
	b.Write(summary)
	b.WriteString(rulesHeading + "\n" + matrix.RenderMarkdown() + "\n")
	if len(reasons) > 0 {
		b.WriteString(reasonsHeading + "\n")
	}
	for i, reason := range reasons {
		fmt.Fprintf(&b, "%d. %s\n", 1+i, reason)
	}
	return b.Bytes(), summary
}

// columnsOf reads the columns of a page, by their titles.
func columnsOf(page []byte) map[string]*column {
	columns := map[string]*column{}
	text, below, _ := strings.Cut(string(page), rulesHeading)
	for line := range strings.Lines(text) {
		if f := cellsOf(line); len(f) == 7 && kernelName.MatchString(f[0]) {
			c := &column{release: kernelName.FindStringSubmatch(f[0])[1], program: f[1], system: f[0],
				day: f[2], cells: map[string]string{}}
			columns[c.title()] = c
		}
	}
	text, below, _ = strings.Cut(below, reasonsHeading)
	reasons := map[string]string{}
	for line := range strings.Lines(below) {
		if n, reason, ok := strings.Cut(strings.TrimSpace(line), ". "); ok {
			reasons[n] = reason
		}
	}
	var head []string
	for line := range strings.Lines(text) {
		f := cellsOf(line)
		if head == nil {
			head = f
			continue
		}
		if len(f) != len(head) || !strings.HasPrefix(f[0], "`") {
			continue
		}
		for i, cell := range f[1:] {
			if n, ok := strings.CutPrefix(cell, "n/a "); ok {
				cell = na + reasons[n]
			}
			if c := columns[head[1+i]]; c != nil && cell != "" {
				c.cells[strings.Trim(f[0], "`")] = cell
			}
		}
	}
	return columns
}

// cellsOf takes a line of a table apart. It returns nothing for any other line.
func cellsOf(line string) []string {
	line, ok := strings.CutPrefix(strings.TrimSpace(line), "|")
	if !ok {
		return nil
	}
	f := strings.Split(strings.TrimSuffix(line, "|"), "|")
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	return f
}

// The block of a document that make matrix fills in.
const (
	beginBlock = "<!-- kernels: make matrix fills this in -->\n"
	endBlock   = "<!-- end of kernels -->\n"
)

// fillIn replaces the block of a document.
func fillIn(doc, block []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(doc, []byte(beginBlock))
	_, after, ok2 := bytes.Cut(rest, []byte(endBlock))
	if !ok || !ok2 {
		return nil, fmt.Errorf("it has no %q and %q", beginBlock, endBlock)
	}
	return slices.Concat(before, []byte(beginBlock), block, []byte(endBlock), after), nil
}
