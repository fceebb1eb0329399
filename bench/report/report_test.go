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
	require.NoError(t, os.WriteFile(filepath.Join(dir, "short.md"), []byte(shortPage), 0o644))
	for name, text := range results {
		require.NoError(t, os.WriteFile(filepath.Join(in, name), []byte(text), 0o644))
	}
	return in, md, plots
}

// shortPage is a page that has the numbers of the summary alone.
const shortPage = "above\n<!-- results: numbers -->\nold\n<!-- end of numbers -->\nbelow\n"

// shortOf returns the path of that page, beside the folder of the document.
func shortOf(md string) string { return filepath.Join(filepath.Dir(md), "..", "short.md") }

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
	require.NoError(t, run("testdata/in", md, plots, shortOf(md)))
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

	numbers := contents(t, shortOf(md))
	assert.Equal(t, shortPage, numbers, "these results have no low rate")
	require.NoError(t, run("testdata/in", md, plots, shortOf(md)))
	assert.Equal(t, got, contents(t, md), "filling in again changes nothing")
	assert.Equal(t, numbers, contents(t, shortOf(md)), "nor here")
}

// Measuring one benchmark anew changes what is said of it, and nothing else.
func TestWhatWasNotMeasuredStays(t *testing.T) {
	all := contents(t, "testdata/filled.md")
	in, md, plots := folder(t, all, map[string]string{"contest.txt": "commit: abc\n" +
		strings.ReplaceAll(contents(t, "testdata/in/contest.txt"), "Made Up CPU", "Other CPU")})
	require.NoError(t, os.WriteFile(filepath.Join(plots, "fanout.svg"), []byte("old"), 0o644))
	require.NoError(t, run(in, md, plots, shortOf(md)))
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
		"no place for the summary": {map[string]string{"a.txt": result + "PASS\n"},
			strings.ReplaceAll(doc, "results: summary", "no results: summary"), "no place for summary"},
		"no place for the targets": {map[string]string{"a.txt": result + "PASS\n"},
			strings.ReplaceAll(doc, "results: targets", "no results: targets"), "no place for targets"},
		"markers crossed": {map[string]string{"a.txt": result + "PASS\n"},
			strings.ReplaceAll(doc, "end of Contest", "end of Delay"), "is followed by"},
		"an unknown section": {map[string]string{"a.txt": result + "PASS\n"},
			doc + "<!-- results: Nonsense -->\n<!-- end of Nonsense -->\n", "no such section"},
	} {
		t.Run(name, func(t *testing.T) {
			in, md, plots := folder(t, c.doc, c.results)
			require.ErrorContains(t, run(in, md, plots, shortOf(md)), c.want)
			assert.Equal(t, c.doc, contents(t, md))
			assert.Equal(t, shortPage, contents(t, shortOf(md)))
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
	require.NoError(t, d.add("a.txt", []byte(once(text.String())+"PASS\n")))
	table := d.targets("")
	assert.Contains(t, table, "| no system call by the reader while it is behind (per million "+
		"packets) | at most 0 | 0 | 7.00 |  | size=64/load=overload | **no**: 1 of 2 |")
	assert.Contains(t, table, "| CPU per packet, lease to the bare loop in Go | at most 1.1 × | "+
		"1.05 | 1.30 |  | size=1500/load=full | **no**: 1 of 2 |")
	assert.Contains(t, table, "beyond the contestant that drops least | at most 0 points | 0 | 2.00 "+
		"| 1.50 | size=1500/load=full | **no**: 2 of 3 |")
	assert.Contains(t, table, "shares the only processor | at most 0 points | 0.40 | 0.40 | 0 | "+
		"size=64/load=shared-overload | **no**: 0 of 1 |")
	assert.Contains(t, table, "| speed-up by a worker for each processor | at least 1 × | – | – | | "+
		"| not measured |")
}

// once adds the figures of the cheapest run, where all runs cost the same.
func once(text string) string {
	return regexp.MustCompile(`(\d+) (cpu-\S+)`).ReplaceAllString(text, "$0 $1 least-$2")
}

// besideLibpcap has zbuf and libpcap at all rates.
const besideLibpcap = `kernel: FreeBSD 14.0
BenchmarkTouch/size=64/language=Go 1 100 touch-ns/pkt
BenchmarkTouch/size=64/language=C 1 90 touch-ns/pkt
BenchmarkTouch/size=1500/language=Go 1 500 touch-ns/pkt
BenchmarkTouch/size=1500/language=C 1 400 touch-ns/pkt
BenchmarkContest/size=64/load=idle/reader=zbuf-lease 1 180 cpu-us/s
BenchmarkContest/size=64/load=idle/reader=libpcap 1 90 cpu-us/s
BenchmarkContest/size=64/load=idle/reader=cgo-libpcap 1 900 cpu-us/s
BenchmarkContest/size=64/load=idle/reader=bare 1 600 cpu-us/s
BenchmarkContest/size=64/load=low/reader=zbuf-lease 1 770 cpu-us/s 7700 cpu-ns/pkt
BenchmarkContest/size=64/load=low/reader=zbuf-lease 1 102000 p99-us 100 p99-error-us
BenchmarkContest/size=64/load=low/reader=libpcap 1 140 cpu-us/s 1400 cpu-ns/pkt
BenchmarkContest/size=64/load=low/reader=libpcap 1 100000 p99-us 100 p99-error-us
BenchmarkContest/size=64/load=low/reader=bare 1 700 cpu-us/s 7000 cpu-ns/pkt
BenchmarkContest/size=64/load=low/reader=bare-c 1 160 cpu-us/s 1600 cpu-ns/pkt
BenchmarkContest/size=64/load=full/reader=zbuf-lease 1 2000 cpu-us/s 300 cpu-ns/pkt
BenchmarkContest/size=64/load=full/reader=libpcap 1 2500 cpu-us/s 375 cpu-ns/pkt
BenchmarkContest/size=64/load=full/reader=libpcap-zc 1 2200 cpu-us/s 340 cpu-ns/pkt
BenchmarkContest/size=64/load=full/reader=cgo-libpcap 1 20000 cpu-us/s 3000 cpu-ns/pkt
BenchmarkContest/size=64/load=full/reader=bare 1 1900 cpu-us/s 275 cpu-ns/pkt
BenchmarkContest/size=1500/load=full/reader=zbuf-lease 1 4000 cpu-us/s 800 cpu-ns/pkt
BenchmarkContest/size=1500/load=full/reader=libpcap-zc 1 3000 cpu-us/s 600 cpu-ns/pkt
BenchmarkContest/size=1500/load=full/reader=bare-c 1 2000 cpu-us/s 450 cpu-ns/pkt
PASS
`

// What libpcap costs is the limit. At the full rate nobody's touch counts, in no language.
func TestTargetsAgainstLibpcap(t *testing.T) {
	d := &data{}
	require.NoError(t, d.add("a.txt", []byte(once(besideLibpcap))))
	table := d.targets("")
	const k = "kernel=FreeBSD 14.0/size="
	for _, want := range []string{
		"| CPU when idle, lease to libpcap in C with read(2) | at most 1.5 × | 2.00 | 2.00 |  | " + k +
			"64/load=idle | **no**: 0 of 1 |",
		"| CPU per packet at the low and the mid rate, lease to libpcap in C with read(2) | at most 1.5 × " +
			"| 5.50 | 5.50 |  | " + k + "64/load=low | **no**: 0 of 1 |",
		"| the floor of the two lines above: CPU, lease to the bare loop in Go | at most 1.1 × | 0.30 | " +
			"1.10 |  | " + k + "64/load=low | yes |",
		"| delay at the low and the mid rate, 99 %, lease to libpcap in C with read(2) | at most 1 × | " +
			"1.02 | 1.02 | 0.0042 | " + k + "64/load=low | **no**: 0 of 1 |",
		"without the touch, lease to libpcap with lent buffers | at most 1 × | 0.80 | 0.80 |  | " + k +
			"64/load=full | yes |",
		"| the same with packets of 1500 bytes, to libpcap with lent buffers | at most 1.2 × | 1.50 | " +
			"1.50 |  | " + k + "1500/load=full | **no**: 0 of 1 |",
		"lease to the bare loop in Go, without the touch | at most 1.1 × | 1.14 | 1.14 |  | " + k +
			"64/load=full | **no**: 0 of 1 |",
		"| CPU per packet, lease to gopacket/pcap, which calls libpcap by cgo | at most 1 × | 0.10 | 0.10 " +
			"|  | " + k + "64/load=full | yes |",
	} {
		assert.Contains(t, table, want)
	}
}

func TestSummaryTellsWhereZbufLoses(t *testing.T) {
	d := &data{}
	require.NoError(t, d.add("a.txt", []byte(once(besideLibpcap))))
	assert.Equal(t, `
CPU of zbuf (lease) on FreeBSD 14.0 beside others, when idle and at 100, 800 and 6400 packets of 64
bytes a second, and at 6400 of 1500 bytes:
* **Against libpcap through cgo** (gopacket/pcap): 0.20, –, –, 0.10 and – times. So zbuf takes less
  each time.
* **Against tcpdump's way**, libpcap in C with read(2): 2.00, 5.50, –, 0.80 and – times. So zbuf
  takes more at idle, low.
* **Why**: it is waking up, in Go. At 100 packets a second zbuf takes 770 µs of CPU a second. The
  same bare loop takes 700 in Go and 160 in C.
* **Against libpcap in C with lent buffers**: –, –, –, 0.91 and 1.33 times. So zbuf takes more at
  1500 bytes.
* **Against gopacket's bsdbpf**, in Go with read(2): not measured.
`, "\n"+d.summary("old"))
	assert.Equal(t, `
**Beside libpcap**, at no packets, 100 and 6,400 a second (of 64 bytes), zbuf takes 0.20, – and 0.10
times the CPU of libpcap through cgo (gopacket/pcap). Beside a C program over libpcap with read(2),
as tcpdump is, it takes 2.00, 5.50 and 0.80 times, because waking up costs more in Go. Beside
libpcap 1.10.6 with lent buffers it takes –, – and 0.91 times. The kernel was FreeBSD 14.0, in QEMU
as above.
`, "\n"+d.short("old"))

	text := strings.ReplaceAll(once(besideLibpcap), "180 least-cpu-us/s", "90 least-cpu-us/s")
	cheap := &data{}
	require.NoError(t, cheap.add("a.txt", []byte(text)))
	assert.Contains(t, cheap.summary(""), "(gopacket/pcap): 0.10,", "the cheapest of Go and Go")
	assert.Contains(t, cheap.summary(""), "with read(2): 2.00,", "the medians of Go and C")

	none := &data{}
	assert.Equal(t, "Not measured.\n", none.summary(""))
	assert.Equal(t, "old\n", none.summary("old\n"))
	assert.Equal(t, "old\n", none.short("old\n"))
}

// Two kernels have separate results and tables. The summary is about the newer one.
func TestKernelsStayApart(t *testing.T) {
	d := &data{}
	require.NoError(t, d.add("a.txt", []byte(once(besideLibpcap))))
	old := strings.ReplaceAll(strings.ReplaceAll(besideLibpcap, "FreeBSD 14.0", "FreeBSD 12.1"),
		"770 cpu-us/s 7700", "999 cpu-us/s 9990")
	require.NoError(t, d.add("b.txt", []byte(once(old))))
	assert.InDelta(t, 770, d.lease("64", "low").values["cpu-us/s"], 0)
	tables := sections[0].tables(d, "")
	assert.Contains(t, tables, "FreeBSD 14.0, packets of 64 bytes, load low:")
	assert.Contains(t, tables, "FreeBSD 12.1, packets of 64 bytes, load low:")
	lines, _ := sections[0].plots[0].collect(d, &sections[0])
	require.Equal(t, "zbuf-lease", lines[0].name)
	assert.InDelta(t, 1.1, lines[0].y["low"], 1e-9, "a plot has the newer kernel alone")
}

// A table that nobody measured anew stays, with its heading.
func TestTablesOfOtherRunsStay(t *testing.T) {
	all := contents(t, "testdata/filled.md")
	const old = "A kernel of old, load full:\n\n| reader | CPU, × |\n|---|--:|\n" +
		"| bare | 1.00 × |\n\n× is to: bare.\n\n"
	const before = "| program | what it says of itself |"
	require.Contains(t, all, before)
	_, md, plots := folder(t, strings.Replace(all, before, old+before, 1), nil)
	require.NoError(t, run("testdata/in", md, plots, shortOf(md)))
	assert.Equal(t, strings.Replace(all, before, old+before, 1), contents(t, md))
}

// A run on another processor adds to what the page says of the walk, and takes nothing away.
func TestProcessorsStayApart(t *testing.T) {
	all := contents(t, "testdata/filled.md")
	amd := "| Made Up CPU, AuthenticAMD family 1 model 2 | gcc 1.2, no clang | 0.80 to 0.90 | " +
		"1.05 to 1.05 |  |\n"
	require.Contains(t, all, "| Intel | | not measured | not measured | |\n"+amd)
	other := strings.NewReplacer("AuthenticAMD family 1 model 2", "GenuineIntel family 6 model 3",
		"1.05 ratio", "1.30 ratio").Replace(contents(t, "testdata/in/walk.txt"))
	in, md, plots := folder(t, all, map[string]string{"walk-other.txt": "commit: abc\n" + other})
	require.NoError(t, run(in, md, plots, shortOf(md)))
	got := contents(t, md)
	assert.Contains(t, got, amd+"| Made Up CPU, GenuineIntel family 6 model 3 | gcc 1.2, no clang | "+
		"0.80 to 0.90 | 1.30 to 1.30 | abc |\n")
	assert.NotContains(t, got, "| Intel |")
	for _, name := range []string{"AuthenticAMD family 1 model 2", "GenuineIntel family 6 model 3"} {
		assert.Equal(t, 1, strings.Count(got, "Made Up CPU, "+name+", buffer 512K:\n"), name)
		assert.Equal(t, 1, strings.Count(got, "to the best C loop, on Made Up CPU, "+name+" |"), name)
	}
	const where = " | 0.06 | buffer=128x2048K/packet=64 | "
	assert.Contains(t, got, "model 2 | at most 1 × | 0.80 | 1.05"+where+"yes |")
	assert.Contains(t, got, "model 3 | at most 1 × | 0.80 | 1.30"+where+"**no**: 2 of 3 |")

	require.NoError(t, run("testdata/in", md, plots, shortOf(md)))
	assert.Contains(t, contents(t, md), "GenuineIntel family 6 model 3 | gcc 1.2, no clang | ")
	assert.NotContains(t, contents(t, md), "| Intel |")
}
