package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// A suite says which tests make a row and what they do.
type suite struct {
	pkg   string
	tests *regexp.Regexp
	model bool // on the model; else on a kernel
	what  string
}

// suites in the order of the table; the first that fits a test has it.
var suites = []suite{
	{"conformance", regexp.MustCompile(`^TestConformance/overload/.*/kernel$`), false, "rules of the table: an in-kernel storm against the bare protocol, numbered packets on top"},
	{"conformance", regexp.MustCompile(`^TestConformance/tail/.*/kernel$`), false, "rules of the table: tails, with numbered packets in bursts"},
	{"conformance", regexp.MustCompile(`^TestConformance/tail/.*/model(-\d+)?$`), true, "rules of the table: tails, with numbered packets in bursts"},
	{"conformance", regexp.MustCompile(`^TestConformance/.*/kernel$`), false, "rules of the table"},
	{"conformance", regexp.MustCompile(`^TestConformance/.*/model(-\d+)?$`), true, "rules of the table"},
	{"conformance", regexp.MustCompile(`^TestRandomSequences$`), false, "random sequences, the same on the kernel and on the model"},
	{"conformance", regexp.MustCompile(`^TestRandomSequencesAreRepeatable/`), true, "random sequences, the same on two models"},
	{"bpf", regexp.MustCompile(`^TestAccounting/`), true, "numbered, checksummed packets to a fast, a slow and a stop-and-go reader at once"},
	{"bpf", regexp.MustCompile(`^TestNumberedPacketsWithPauses/`), true, "numbered packets in bursts, in exact time: no tail late by a tick"},
	{"bpf", regexp.MustCompile(`^TestRandomUse/`), true, "every method of the reader in random order, from several goroutines, in exact time"},
	{"bpf", regexp.MustCompile(`^TestKernelRandomUse/`), false, "every method of the reader in random order, from several goroutines"},
	{"bpf", regexp.MustCompile(`^TestKernelNumberedPacketsWithPauses/`), false, "numbered, checksummed packets in bursts with pauses: no tail late"},
	{"bpf", regexp.MustCompile(`^TestKernelOverload/`), false, "an in-kernel storm with two numbered, checksummed writers on top, accounted for at rest"},
	{"cmd/bpfctl", regexp.MustCompile(`^TestKernelRotationUnderLoad/`), false, "a rotating capture in its sandbox: each numbered packet in one file, each file whole (cases are files)"},
	{"filter", regexp.MustCompile(`^TestSameVerdictsAsLibpcap$`), true, "filter expressions, compiled by libpcap too, with packets made for both programs"},
	{"filter", regexp.MustCompile(`^TestSameVerdictsAsOracle$`), true, "filter expressions against an evaluator of their trees"},
	{"filter", regexp.MustCompile(`^TestSameVerdictsAsOracleInArithmetic$`), true,
		"filter expressions of arithmetic alone, against the same"},
	{"faults", regexp.MustCompile(`^Test`), false, "faults: "},
}

// perTest is true of a suite in which each test is a row, named by the test.
func (s *suite) perTest() bool { return strings.HasSuffix(s.what, ": ") }

// A row of the table, and what it is put together of.
type row struct {
	suite             int
	what, where, with string
	runs              map[*run]bool
	days              []string
	took              time.Duration
	sum               map[lab.Figure]uint64 // without what nobody has reported
	earlier           int                   // runs of a row that is taken from the page of before
}

// fuzzing begins the second part of the page.
const fuzzing = "\n## Fuzzing\n"

// makePage reads every run of a folder. A row of the old page stays until the same tests, or the
// same fuzz target, run again.
func makePage(dir fs.FS, old []byte) ([]byte, error) {
	names, err := fs.Glob(dir, "*")
	if err != nil {
		return nil, err
	}
	var rows []*row
	var fuzz []*fuzzed
	var skipped []string
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		switch path.Ext(name) {
		case ".json":
			runs, err := readRuns(bytes.NewReader(b))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, r := range runs {
				if rows, err = addRun(rows, r); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				for _, s := range r.skipped {
					skipped = append(skipped, fmt.Sprintf("%s on %s: %s", r.pkg, r.system, s))
				}
			}
		case ".log":
			f, err := readFuzz(name, b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			fuzz = append(fuzz, f)
		default:
			return nil, fmt.Errorf("%s is neither a .json nor a .log", name)
		}
	}
	if len(rows) == 0 {
		return nil, errors.New("there are no runs of tests: make soak makes them")
	}
	rows = append(rows, rowsOf(old, rows)...)
	slices.SortStableFunc(rows, func(a, b *row) int {
		return cmp.Or(cmp.Compare(a.suite, b.suite), cmp.Compare(a.what, b.what),
			cmp.Compare(a.where, b.where), cmp.Compare(a.with, b.with))
	})
	return render(rows, append(fuzz, fuzzedOf(old, fuzz)...), skipped), nil
}

// addRun adds each test's figures to its row.
func addRun(rows []*row, r *run) ([]*row, error) {
	for _, name := range r.order {
		t := r.tests[name]
		i := slices.IndexFunc(suites, func(s suite) bool {
			return s.pkg == r.pkg && s.tests.MatchString(name)
		})
		if i < 0 {
			return nil, fmt.Errorf("%s of %s belongs to no suite: add it to suites", name, r.pkg)
		}
		s := &suites[i]
		if !s.model && !strings.HasPrefix(r.system, "FreeBSD ") {
			return nil, fmt.Errorf("%s ran on %s, which is no FreeBSD kernel", name, r.system)
		}
		what, where := s.what, r.system
		if s.perTest() {
			top, _, _ := strings.Cut(name, "/")
			what += words(strings.TrimPrefix(top, "Test"))
		}
		if s.model {
			where = "model, " + where
		}
		at := slices.IndexFunc(rows, func(o *row) bool {
			return o.suite == i && o.what == what && o.where == where && o.with == r.parameters
		})
		if at < 0 {
			at = len(rows)
			rows = append(rows, &row{suite: i, what: what, where: where, with: r.parameters,
				runs: map[*run]bool{}, sum: map[lab.Figure]uint64{}})
		}
		o := rows[at]
		o.runs[r] = true
		if !slices.Contains(o.days, r.day) {
			o.days = append(o.days, r.day)
		}
		o.took += t.elapsed
		for f, n := range t.figures {
			o.sum[f] += n
		}
	}
	return rows, nil
}

var capital = regexp.MustCompile(`\B[A-Z]`)

// words takes a test's name apart: KeptByAChild is "kept by a child".
func words(name string) string {
	return strings.ToLower(capital.ReplaceAllString(name, " $0"))
}

func render(rows []*row, fuzz []*fuzzed, skipped []string) []byte {
	var b bytes.Buffer
	b.WriteString("# Reliability\n\n" +
		"`make reliability` makes this page from the files that `make soak` and `make fuzz` write.\n" +
		`A row stays until the same tests run again in the same place. Nobody types a figure here. There
is no page if a run failed or did not end. *Lost* counts the broken promises: a packet that neither
came nor was counted, or that came twice, torn or late.

`)
	t := newTable(3)
	head := table.Row{"What", "Where", "With", "Day", "Runs", "Time"}
	for _, f := range figures {
		head = append(head, strings.ToUpper(string(f[:1]))+string(f[1:]))
	}
	t.AppendHeader(head)
	total := map[lab.Figure]uint64{}
	var took time.Duration
	for _, r := range rows {
		slices.Sort(r.days)
		line := table.Row{r.what, r.where, cmp.Or(r.with, "short form"), strings.Join(r.days, ", "),
			len(r.runs) + r.earlier, r.took.Round(time.Second)}
		for f, n := range r.sum {
			total[f] += n
		}
		line = append(line, numbers(r.sum)...)
		took += r.took.Round(time.Second)
		t.AppendRow(line)
	}
	line := table.Row{"**total**", "", "", "", "", took.Round(time.Second)}
	t.AppendRow(append(line, numbers(total)...))
	b.WriteString(t.RenderMarkdown())
	b.WriteString("\n")

	if len(skipped) > 0 {
		b.WriteString("\nSkipped in these runs:\n\n")
		slices.Sort(skipped)
		for _, s := range slices.Compact(skipped) {
			b.WriteString("- " + s + "\n")
		}
	}
	if len(fuzz) > 0 {
		b.WriteString(fuzzing + "\nA run that finds something makes no row: the input becomes a seed, " +
			"and the target runs again.\n\n")
		slices.SortFunc(fuzz, func(a, b *fuzzed) int {
			return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.target, b.target))
		})
		t := newTable(2)
		t.AppendHeader(table.Row{"Package", "Target", "Time", "Executions", "New interesting", "Corpus"})
		var took time.Duration
		var execs, interesting uint64
		for _, f := range fuzz {
			t.AppendRow(table.Row{f.pkg, f.target, f.took, number(f.execs), f.interesting, f.seen})
			took, execs, interesting = took+f.took, execs+f.execs, interesting+f.interesting
		}
		t.AppendRow(table.Row{"**total**", "", took, number(execs), interesting, ""})
		b.WriteString(t.RenderMarkdown())
		b.WriteString("\n")
	}
	return b.Bytes()
}

// newTable aligns all but the first columns to the right.
func newTable(left int) table.Writer {
	t := table.NewWriter()
	var cs []table.ColumnConfig
	for n := left + 1; n <= 11; n++ {
		cs = append(cs, table.ColumnConfig{Number: n, Align: text.AlignRight,
			AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(cs)
	return t
}

// numbers returns the figures in order. A figure that nobody counted is empty.
func numbers(sum map[lab.Figure]uint64) (cells []any) {
	for _, f := range figures {
		if n, counted := sum[f]; counted {
			cells = append(cells, number(n))
		} else {
			cells = append(cells, "")
		}
	}
	return cells
}

// number writes 1234567 as 1,234,567.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
