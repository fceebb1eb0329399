package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/filled.md anew")

// folder makes a folder with a document and results.
func folder(t *testing.T, doc string, results map[string]string) (in, md, plots string) {
	t.Helper()
	dir := t.TempDir()
	in, plots = filepath.Join(dir, "in"), filepath.Join(dir, "docs", "performance")
	md = filepath.Join(dir, "docs", "performance.md")
	require.NoError(t, os.MkdirAll(in, 0o755))
	require.NoError(t, os.MkdirAll(plots, 0o755))
	require.NoError(t, os.WriteFile(md, []byte(doc), 0o644))
	for name, text := range results {
		require.NoError(t, os.WriteFile(filepath.Join(in, name), []byte(text), 0o644))
	}
	return in, md, plots
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestDocumentIsFilled(t *testing.T) {
	_, md, plots := folder(t, contents(t, "testdata/empty.md"), nil)
	stale := filepath.Join(plots, "stale.svg")
	require.NoError(t, os.WriteFile(stale, nil, 0o644))
	require.NoError(t, run("testdata/in", md, plots))
	got := contents(t, md)
	if *update {
		require.NoError(t, os.WriteFile("testdata/filled.md", []byte(got), 0o644))
	}
	assert.Equal(t, contents(t, "testdata/filled.md"), got)
	assert.NoFileExists(t, stale)
	for line := range strings.Lines(got) {
		if _, link, ok := strings.Cut(line, "](performance/"); ok {
			assert.FileExists(t, filepath.Join(plots,
				strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(link), ")"))))
		}
	}

	require.NoError(t, run("testdata/in", md, plots))
	assert.Equal(t, got, contents(t, md), "filling in again changes nothing")
}

// Measuring one benchmark anew changes what is said of it, and nothing else.
func TestWhatWasNotMeasuredStays(t *testing.T) {
	all := contents(t, "testdata/filled.md")
	in, md, plots := folder(t, all, map[string]string{"contest.txt": "commit: abc\n" +
		strings.ReplaceAll(contents(t, "testdata/in/contest.txt"), "Made Up CPU", "Other CPU")})
	require.NoError(t, os.WriteFile(filepath.Join(plots, "fanout.svg"), []byte("old"), 0o644))
	require.NoError(t, run(in, md, plots))
	row := regexp.MustCompile(`(?m)^\| contest.txt .*\n`)
	assert.Equal(t, row.ReplaceAllString(all, ""), row.ReplaceAllString(contents(t, md), ""))
	assert.Regexp(t, `\| contest.txt \| \d+ \| freebsd/amd64 \| Other CPU \| bench/contest \| abc \|`,
		contents(t, md))
	assert.Equal(t, "old", contents(t, filepath.Join(plots, "fanout.svg")))
}

func TestPlotsAreWellFormedAndTheSameEachTime(t *testing.T) {
	d, err := read([]string{"testdata/in/contest.txt", "testdata/in/fanout.txt",
		"testdata/in/scaling.txt"})
	require.NoError(t, err)
	drawn := 0
	for _, s := range sections {
		for _, p := range s.plots {
			if len(d.of(s.bench)) == 0 {
				continue
			}
			t.Run(p.file, func(t *testing.T) {
				svg, err := p.draw(d, &s)
				require.NoError(t, err)
				require.NotEmpty(t, svg)
				again, err := p.draw(d, &s)
				require.NoError(t, err)
				assert.Equal(t, string(svg), string(again))
				lines, _ := p.collect(d, &s)
				for dec := xml.NewDecoder(strings.NewReader(string(svg))); ; {
					if _, err := dec.Token(); errors.Is(err, io.EOF) {
						break
					} else {
						require.NoError(t, err)
					}
				}
				assert.Contains(t, string(svg), p.title)
				for _, l := range lines {
					assert.Contains(t, string(svg), l.name)
				}
				drawn++
			})
		}
	}
	assert.Greater(t, drawn, 6)
}

func TestRatiosAreOfOneRun(t *testing.T) {
	const head = "goos: freebsd\n"
	d := &data{}
	require.NoError(t, d.add("a.txt", []byte(head+
		"BenchmarkContest/size=64/load=full/reader=zbuf-lease-2 1 300 cpu-ns/pkt\nPASS\n")))
	require.NoError(t, d.add("b.txt", []byte(head+"BenchmarkContest/size=64/load=full/reader=bare-2 "+
		"1 100 cpu-ns/pkt\nPASS\n")))
	require.Len(t, d.results, 2)
	_, ok := d.ratio(d.results[0], map[string]string{"reader": "bare"}, "cpu-ns/pkt")
	assert.False(t, ok, "another file is another run")
	require.NoError(t, d.add("c.txt", []byte(head+
		"BenchmarkContest/size=64/load=full/reader=zbuf-lease-2 1 300 cpu-ns/pkt\n"+
		"BenchmarkContest/size=64/load=full/reader=bare-2 1 200 cpu-ns/pkt\nPASS\n")))
	v, ok := d.ratio(d.results[0], map[string]string{"reader": "bare"}, "cpu-ns/pkt")
	assert.True(t, ok)
	assert.InDelta(t, 1.5, v, 1e-9)
	require.NoError(t, d.add("d.txt", []byte(head+
		"BenchmarkContest/size=64/load=full/reader=zbuf-lease-2 1 700 cpu-ns/pkt\n"+
		"BenchmarkContest/size=64/load=full/reader=bare-2 1 200 cpu-ns/pkt\nPASS\n")))
	require.Len(t, d.results, 2, "one result of all runs")
	v, ok = d.ratio(d.results[0], map[string]string{"reader": "bare"}, "cpu-ns/pkt")
	assert.True(t, ok)
	assert.InDelta(t, 2.5, v, 1e-9, "the median of the runs' ratios")
	assert.InDelta(t, 300, d.results[0].values["cpu-ns/pkt"], 1e-9)
}

func TestMedianOfRepeatedResults(t *testing.T) {
	d := &data{}
	require.NoError(t, d.add("a.txt", []byte("BenchmarkX/k=1-2 1 30 ns/op 5 widgets\n"+
		"BenchmarkX/k=1-2 1 10 ns/op 9 widgets\nBenchmarkX/k=1-2 1 20 ns/op\nPASS\n")))
	require.Len(t, d.results, 1)
	assert.Equal(t, map[string]float64{"ns/op": 20, "widgets": 7}, d.results[0].values,
		"and units as they were written")
}

// Nothing is written of input that is not the whole of a run that went well.
func TestBadInputIsRefused(t *testing.T) {
	const result = "BenchmarkContest/size=64/load=full/reader=bare-2 1 200 cpu-ns/pkt\n"
	doc := contents(t, "testdata/empty.md")
	for name, c := range map[string]struct {
		results map[string]string
		doc     string
		want    string
	}{
		"no files":             {nil, doc, "no results in"},
		"an empty file":        {map[string]string{"a.txt": ""}, doc, "broke off"},
		"no results":           {map[string]string{"a.txt": "goos: freebsd\nPASS\nok  \tx\t1s\n"}, doc, "no results"},
		"a failure":            {map[string]string{"a.txt": result + "--- FAIL: BenchmarkContest\nFAIL\nexit status 1\nFAIL\tx\t1s\n"}, doc, "failed"},
		"a panic":              {map[string]string{"a.txt": result + "panic: oh\n\ngoroutine 1\n"}, doc, "failed"},
		"a fatal error":        {map[string]string{"a.txt": result + "fatal error: all goroutines are asleep\nPASS\n"}, doc, "failed"},
		"broken off":           {map[string]string{"a.txt": result}, doc, "broke off"},
		"broken off later":     {map[string]string{"a.txt": result + "PASS\nok  \tx\t1s\n" + result}, doc, "broke off"},
		"one of two is bad":    {map[string]string{"a.txt": result + "PASS\n", "b.txt": result}, doc, "b.txt"},
		"a line that is wrong": {map[string]string{"a.txt": "BenchmarkX-2 many 200 cpu-ns/pkt\n" + result + "PASS\n"}, doc, "a.txt"},
		"no place for a benchmark": {map[string]string{"a.txt": result + "PASS\n"},
			strings.ReplaceAll(doc, "results: Contest", "no results: Contest"), "no place for Contest"},
		"no place for the targets": {map[string]string{"a.txt": result + "PASS\n"},
			strings.ReplaceAll(doc, "results: targets", "no results: targets"), "no place for targets"},
		"markers crossed": {map[string]string{"a.txt": result + "PASS\n"},
			strings.ReplaceAll(doc, "end of Contest", "end of Delay"), "is followed by"},
		"an unknown section": {map[string]string{"a.txt": result + "PASS\n"},
			doc + "<!-- results: Nonsense -->\n<!-- end of Nonsense -->\n", "no such section"},
	} {
		t.Run(name, func(t *testing.T) {
			in, md, plots := folder(t, c.doc, c.results)
			require.ErrorContains(t, run(in, md, plots), c.want)
			assert.Equal(t, c.doc, contents(t, md))
			made, err := os.ReadDir(plots)
			require.NoError(t, err)
			assert.Empty(t, made)
		})
	}
}

func TestTargetsTellTheWorst(t *testing.T) {
	d := &data{}
	var text strings.Builder
	for _, c := range []string{
		"size=64/load=full/reader=zbuf-lease-2 1 200 cpu-ns/pkt 0 drop-%",
		"size=64/load=full/reader=bare-2 1 190 cpu-ns/pkt 0 drop-%",
		"size=1500/load=full/reader=zbuf-lease-2 1 260 cpu-ns/pkt 3 drop-% 0.3 drop-error-%",
		"size=1500/load=full/reader=bare-2 1 200 cpu-ns/pkt 1 drop-% 0.4 drop-error-%",
		"size=64/load=overload/reader=zbuf-lease-2 1 9000 cpu-ns/pkt " +
			"50.4 drop-% 0.3 drop-error-% 7 syscalls/Mpkt",
		"size=64/load=overload/reader=bare-2 1 200 cpu-ns/pkt 50 drop-% 0 syscalls/Mpkt",
		"size=64/load=shared-overload/reader=zbuf-lease-2 1 9000 cpu-ns/pkt 60.4 drop-% 0 syscalls/Mpkt",
		"size=64/load=shared-overload/reader=bare-2 1 200 cpu-ns/pkt 60 drop-% 0 syscalls/Mpkt",
	} {
		text.WriteString("BenchmarkContest/" + c + "\n")
	}
	require.NoError(t, d.add("a.txt", []byte(text.String()+"PASS\n")))
	table := d.targets("")
	assert.Contains(t, table, "| no system call by the reader while it is behind (per million "+
		"packets) | at most 0 | 0 | 7.00 |  | size=64/load=overload | **no**: 1 of 2 |")
	assert.Contains(t, table, "| CPU per packet, lease to the bare loop | at most 1.1 × | 1.05 | "+
		"1.30 |  | size=1500/load=full | **no**: 1 of 2 |")
	assert.Contains(t, table, "beyond the contestant that drops least | at most 0 points | 0 | 2.00 "+
		"| 1.50 | size=1500/load=full | **no**: 2 of 3 |")
	assert.Contains(t, table, "shares the only processor | at most 0 points | 0.40 | 0.40 | 0 | "+
		"size=64/load=shared-overload | **no**: 0 of 1 |")
	assert.Contains(t, table, "| speed-up by a worker for each processor | at least 1 × | – | – | | "+
		"| not measured |")
}
