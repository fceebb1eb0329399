package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// stream is go test -json of one package. Each line is ACTION TEST [KEY VALUE].
func stream(pkg string, lines ...string) string {
	var b strings.Builder
	for _, line := range append([]string{"start"}, lines...) {
		f := strings.Fields(line)
		fmt.Fprintf(&b, `{"Time":"2026-11-22T21:20:05Z","Action":%q,"Package":%q`, f[0], module+"/"+pkg)
		if len(f) > 1 && f[1] != "-" {
			fmt.Fprintf(&b, `,"Test":%q`, f[1])
		}
		if f[0] == "attr" {
			fmt.Fprintf(&b, `,"Key":%q,"Value":%q`, f[2], strings.Join(f[3:], " "))
		} else if f[0] == "output" {
			fmt.Fprintf(&b, `,"Output":%q`, "    "+strings.Join(f[2:], " ")+"\n")
		} else if f[0] == "pass" {
			b.WriteString(`,"Elapsed":61.25`)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

const fuzzLog = `fuzz: elapsed: 0s, gathering baseline coverage: 0/37 completed
fuzz: elapsed: 0s, gathering baseline coverage: 37/37 completed, now fuzzing with 1 workers
fuzz: elapsed: 3s, execs: 12034 (4011/sec), new interesting: 1 (total: 38)
fuzz: elapsed: 31m0s, execs: 1234567 (4011/sec), new interesting: 12 (total: 49)
fuzz: elapsed: 31m0s, execs: 1234570 (0/sec), new interesting: 12 (total: 49)
PASS
ok  	github.com/zbuf-go/zbuf/internal/pcapio	1860.070s
`

var (
	onKernel = []string{
		"run TestKernelOverload/zerocopy/16K",
		"attr TestKernelOverload/zerocopy/16K system FreeBSD 12.1-RELEASE amd64 GENERIC",
		"attr TestKernelOverload/zerocopy/16K parameters ZBUF_SOAK=60s",
		"attr TestKernelOverload/zerocopy/16K packets 1000",
		"attr TestKernelOverload/zerocopy/16K lost 0",
		"pass TestKernelOverload/zerocopy/16K",
		"attr TestKernelOverload/zerocopy/256K packets 234",
		"attr TestKernelOverload/zerocopy/256K lost 0",
		"pass TestKernelOverload/zerocopy/256K",
		"skip TestKernelOverload/buffered",
		"pass TestKernelOverload",
		"pass",
	}
	onModel = []string{
		"attr TestConformance/poll/x/model system linux/amd64 -race",
		"attr TestConformance/poll/x/model parameters ",
		"attr TestConformance/poll/x/model cases 1",
		"pass TestConformance/poll/x/model",
		"attr TestConformance/poll/y/model cases 1",
		"pass TestConformance/poll/y/model",
		"pass",
	}
	faulty = []string{
		"attr TestKeptByAChild/a_lease system FreeBSD 12.1-RELEASE amd64 GENERIC",
		"attr TestKeptByAChild/a_lease parameters ",
		"attr TestKeptByAChild/a_lease faults 40",
		"pass TestKeptByAChild/a_lease",
		"pass",
	}
)

func TestPage(t *testing.T) {
	page, err := makePage(fstest.MapFS{
		"kernel.json":           {Data: []byte(stream("bpf", onKernel...))},
		"again.json":            {Data: []byte(stream("bpf", onKernel...))},
		"both.json":             {Data: []byte(stream("conformance", onModel...) + stream("faults", faulty...))},
		"pcapio-FuzzReader.log": {Data: []byte(fuzzLog)},
	}, nil)
	require.NoError(t, err)
	var rows []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| ---") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	assert.Equal(t, []string{
		"| What | Where | With | Day | Runs | Time | Cases | Operations | Packets | Faults | Lost |",
		"| rules of the table | model, linux/amd64 -race | short form | 2026-11-22 | 1 | 2m3s | 2 |  |  |  |  |",
		"| an in-kernel storm with two numbered, checksummed writers on top, accounted for at rest | FreeBSD 12.1-RELEASE amd64 GENERIC | ZBUF_SOAK=60s | 2026-11-22 | 2 | 4m5s |  |  | 2,468 |  | 0 |",
		"| faults: kept by a child | FreeBSD 12.1-RELEASE amd64 GENERIC | short form | 2026-11-22 | 1 | 1m1s |  |  |  | 40 |  |",
		"| **total** |  |  |  |  | 7m9s | 2 |  | 2,468 | 40 | 0 |",
		"| Package | Target | Time | Executions | New interesting | Corpus |",
		"| internal/pcapio | FuzzReader | 31m0s | 1,234,570 | 12 | 49 |",
		"| **total** |  | 31m0s | 1,234,570 | 12 |  |",
	}, rows)
	assert.Contains(t, string(page), "- bpf on FreeBSD 12.1-RELEASE amd64 GENERIC: "+
		"TestKernelOverload/buffered\n")
}

// A run of a fuzz target replaces its row. Every other row stays.
func TestFuzzingIsKept(t *testing.T) {
	tests := &fstest.MapFile{Data: []byte(stream("bpf", onKernel...))}
	both, err := makePage(fstest.MapFS{"kernel.json": tests,
		"pcapio-FuzzReader.log": {Data: []byte(fuzzLog)}}, nil)
	require.NoError(t, err)
	kept, err := makePage(fstest.MapFS{"kernel.json": tests}, both)
	require.NoError(t, err)
	assert.Equal(t, string(both), string(kept))
	log := strings.ReplaceAll(fuzzLog, "31m0s", "32m0s")
	anew, err := makePage(fstest.MapFS{"kernel.json": tests,
		"pcapio-FuzzReader.log": {Data: []byte(log)}}, both)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(both), "31m0s", "32m0s"), string(anew))
	other := strings.ReplaceAll(fuzzLog, "/pcapio", "/other")
	two, err := makePage(fstest.MapFS{"kernel.json": tests,
		"other-FuzzThat.log": {Data: []byte(other)}}, both)
	require.NoError(t, err)
	assert.Contains(t, string(two), "| internal/other | FuzzThat | 31m0s | 1,234,570 | 12 | 49 |\n"+
		"| internal/pcapio | FuzzReader | 31m0s | 1,234,570 | 12 | 49 |\n"+
		"| **total** |  | 1h2m0s | 2,469,140 | 24 |  |\n")
	none, err := makePage(fstest.MapFS{"kernel.json": tests}, nil)
	require.NoError(t, err)
	assert.NotContains(t, string(none), "Fuzzing")
}

// A run replaces the row of the same tests in the same place. Every other row stays, and counts.
func TestRowsAreKeptUntilTheirTestsRunAgain(t *testing.T) {
	file := func(pkg string, lines []string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(stream(pkg, lines...))}
	}
	all, err := makePage(fstest.MapFS{
		"a.json": file("bpf", onKernel), "b.json": file("conformance", onModel),
		"c.json": file("faults", faulty),
	}, nil)
	require.NoError(t, err)
	part, err := makePage(fstest.MapFS{"c.json": file("faults", faulty)}, all)
	require.NoError(t, err)
	table := func(page []byte) string {
		head, _, _ := strings.Cut(string(page), "\nSkipped in")
		return head
	}
	assert.Equal(t, table(all), table(part))
	more := strings.ReplaceAll(stream("faults", faulty...), "40", "41")
	part, err = makePage(fstest.MapFS{"c.json": {Data: []byte(more)}}, all)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(table(all), "| 40 |", "| 41 |"), table(part))
	gone := strings.ReplaceAll(string(all), "rules of the table", "what nobody tests any more")
	part, err = makePage(fstest.MapFS{"c.json": file("faults", faulty)}, []byte(gone))
	require.NoError(t, err)
	assert.NotContains(t, string(part), "nobody tests")
}

// Whatever is wrong with a run, there is no page.
func TestRefused(t *testing.T) {
	change := func(lines []string, old, new string) string {
		s := strings.Join(lines, "\n")
		require.Contains(t, s, old)
		lines = strings.Split(strings.Replace(s, old, new, 1), "\n")
		for i := 0; i < len(lines); i++ {
			if lines[i] == "" {
				lines = append(lines[:i], lines[i+1:]...)
				i--
			}
		}
		return stream("bpf", lines...)
	}
	whole := stream("bpf", onKernel...)
	for _, c := range []struct{ why, name, data, says string }{
		{"nothing", "", "", "no runs"},
		{"fuzzing alone", "pcapio-FuzzReader.log", fuzzLog, "no runs"},
		{"empty", "a.json", "", "no tests ran"},
		{"another file", "notes.txt", "x", "neither"},
		{"no JSON", "a.json", whole + "ok\n", "not of go test -json"},
		{"half a line", "a.json", whole[:len(whole)-5], "not of go test -json"},
		{"killed", "a.json", change(onKernel, "\npass TestKernelOverload\npass", ""), "ends before"},
		{"failed as a whole", "a.json", change(onKernel, "TestKernelOverload\npass", "TestKernelOverload\nfail"), "failed"},
		{"failed test", "a.json", change(onKernel, "pass TestKernelOverload/zerocopy/16K", "fail TestKernelOverload/zerocopy/16K"), "failed"},
		{"failed beside", "a.json", change(onKernel, "skip TestKernelOverload/buffered", "fail TestOther"), "failed"},
		{"another package failed", "a.json", whole + stream("faults", "fail"), "failed"},
		{"did not build", "a.json", whole + `{"Action":"build-fail","ImportPath":"x"}` + "\n", "not started"},
		{"figures of a test that did not pass", "a.json", change(onKernel, "pass TestKernelOverload/zerocopy/16K", "skip TestKernelOverload/zerocopy/16K"), "has not passed"},
		{"lost", "a.json", change(onKernel, "16K lost 0", "16K lost 3"), "lost 3"},
		{"no figures", "a.json", stream("bpf", "pass TestX", "pass"), "reported nothing"},
		{"no tests", "a.json", stream("bpf", "skip"), "has no tests"},
		{"a figure twice", "a.json", change(onKernel, "16K lost 0", "16K packets 7"), "twice"},
		{"a strange figure", "a.json", change(onKernel, "16K lost 0", "16K found 7"), "no figure"},
		{"no number", "a.json", change(onKernel, "packets 1000", "packets many"), "many"},
		{"a number below nought", "a.json", change(onKernel, "packets 1000", "packets -1"), "-1"},
		{"a suite that is not known", "a.json", change(onKernel, "attr TestKernelOverload/zerocopy/16K packets 1000", "attr TestNew packets 7\npass TestNew"), "no suite"},
		{"from nowhere", "a.json", change(onKernel, "attr TestKernelOverload/zerocopy/16K system FreeBSD 12.1-RELEASE amd64 GENERIC", ""), "where it ran"},
		{"not on a kernel", "a.json", change(onKernel, "FreeBSD 12.1-RELEASE amd64 GENERIC", "linux/amd64"), "no FreeBSD kernel"},
		{"fuzzing found something", "pcapio-FuzzReader.log", strings.Replace(fuzzLog, "PASS", "--- FAIL: FuzzReader (3.1s)", 1), "found something"},
		{"fuzzing failed", "pcapio-FuzzReader.log", strings.Replace(fuzzLog, "ok  ", "FAIL", 1), "found something"},
		{"fuzzing was cut short", "pcapio-FuzzReader.log", fuzzLog[:strings.Index(fuzzLog, "PASS")], "not ended"},
		{"seeds alone ran", "pcapio-FuzzReader.log", fuzzLog[strings.Index(fuzzLog, "PASS"):], "nothing was executed"},
		{"fuzzing of something else", "bpf-FuzzReader.log", fuzzLog, "it is of"},
		{"fuzzing of nobody knows what", "fuzz.log", fuzzLog, "its name"},
	} {
		t.Run(c.why, func(t *testing.T) {
			dir := fstest.MapFS{}
			if c.name != "" {
				dir[c.name] = &fstest.MapFile{Data: []byte(c.data)}
			}
			if !strings.Contains(c.why, "nothing") && !strings.Contains(c.why, "alone") {
				dir["good.json"] = &fstest.MapFile{Data: []byte(stream("conformance", onModel...))}
			}
			page, err := makePage(dir, nil)
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, page)
		})
	}
}

// What a real go test says is understood: a child of this test reports, and fails if it is told to.
func TestRecord(t *testing.T) {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command: ", err)
	}
	file := filepath.Join(t.TempDir(), "out", "run.json")
	command := []string{gocmd, "test", "-json", "-count=1", "-run", "^TestReporter$", "."}
	for _, how := range []string{"pass", "fail"} {
		t.Run(how, func(t *testing.T) {
			t.Setenv("ZBUF_REPORTER", how)
			var shown bytes.Buffer
			err := record(file, command, &shown)
			assert.Contains(t, shown.String(), "=== RUN   TestReporter\n")
			in, oerr := os.Open(file)
			require.NoError(t, oerr)
			defer in.Close()
			runs, rerr := readRuns(in)
			if how == "fail" {
				assert.ErrorContains(t, err, "exit status 1")
				assert.ErrorContains(t, rerr, "failed")
				return
			}
			require.NoError(t, err)
			require.NoError(t, rerr)
			require.Len(t, runs, 1)
			assert.Equal(t, "internal/reliability", runs[0].pkg)
			assert.NotEmpty(t, runs[0].system)
			assert.Contains(t, runs[0].parameters, "ZBUF_REPORTER=pass")
			assert.EqualValues(t, 7, runs[0].tests["TestReporter"].figures[lab.Faults])
		})
	}
}

// TestReporter is the child of TestRecord.
func TestReporter(t *testing.T) {
	how := os.Getenv("ZBUF_REPORTER")
	if how == "" {
		t.Skip("TestRecord runs it")
	}
	lab.Report(t, lab.Faults, 7)
	assert.Equal(t, "pass", how)
}
