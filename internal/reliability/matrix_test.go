package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

const (
	on12   = "FreeBSD 12.1-RELEASE amd64 TESTING"
	on14   = "FreeBSD 14.0-STABLE riscv TESTING, a program for riscv64"
	as386  = "FreeBSD 12.1-RELEASE i386 TESTING, a program for 386"
	onHost = "linux/amd64"
)

// ran is a run of the table with four rules: a plain one, one that differs, one that skips where
// lacking says so, and one that no kernel plays.
func ran(day, system string, has, lacking string, plays ...string) *fstest.MapFile {
	lines := []string{
		`attr TestConformance rule {"name":"a/plain"}`,
		`attr TestConformance rule {"name":"a/differs"}`,
		`attr TestConformance rule {"name":"b/skips"}`,
		`attr TestConformance rule {"name":"c/panics","elsewhere":"it would bring the kernel down"}`,
	}
	for i, name := range plays {
		test := "TestConformance/" + name + "/kernel"
		if i == 0 {
			lines = append(lines, "attr "+test+" system "+system, "attr "+test+" parameters -short")
		}
		features := ""
		if name == "a/differs" && has != "" {
			features = `,"has":["` + has + `"]`
		}
		lines = append(lines, "attr "+test+` rule {"name":"`+name+`","plays":true`+features+"}")
		if name == "b/skips" && lacking != "" {
			lines = append(lines, "output "+test+" "+lacking, "skip "+test)
			continue
		}
		lines = append(lines, "attr "+test+" cases 1", "pass "+test)
	}
	text := stream("conformance", append(lines, "pass TestConformance", "pass")...)
	return &fstest.MapFile{Data: []byte(strings.ReplaceAll(text, "2026-11-22", day))}
}

var four = []string{"a/plain", "a/differs", "b/skips", "c/panics"}

// tables returns the lines of a page's tables.
func tables(page []byte) (lines []string) {
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "| ---") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestMatrix(t *testing.T) {
	page, summary, err := makeMatrix(four, fstest.MapFS{
		"host.json": ran("2026-11-23", onHost, "", "", "a/plain"),
		"12.json": ran("2026-11-22", on12, "", "world_test.go:7: there is one processor", "a/plain",
			"a/differs", "b/skips"),
		"14.json":  ran("2026-11-21", on14, "PadZero", "", "a/differs", "b/skips"),
		"386.json": ran("2026-11-21", as386, "", "", "a/plain"),
	}, nil)
	require.NoError(t, err)
	want := []string{
		"| Kernel | Programs | Day | Rules that held | of these not as on 12.1 | Not for it | Not run |",
		"| " + on12 + " | amd64 | 2026-11-22 | 2 | 0 | 2 | 0 |",
		"| " + as386 + " | 386 | 2026-11-21 | 1 | 0 | 1 | 2 |",
		"| " + on14 + " | riscv64 | 2026-11-21 | 2 | 1 | 1 | 1 |",
		"| Rule | 12.1 amd64 | 12.1 386 | 14.0 riscv64 |",
		"| `a/plain` | ok | ok |  |",
		"| `a/differs` | ok |  | differs: PadZero |",
		"| `b/skips` | n/a 2 |  | ok |",
		"| `c/panics` | n/a 1 | n/a 1 | n/a 1 |",
	}
	assert.Equal(t, want, tables(page))
	assert.Equal(t, want[:4], tables(summary))
	assert.Contains(t, string(page), "1. it would bring the kernel down\n2. there is one processor\n")

	t.Run("no new run: nothing changes", func(t *testing.T) {
		again, _, err := makeMatrix(four, fstest.MapFS{}, page)
		require.NoError(t, err)
		assert.Equal(t, string(page), string(again))
	})
	t.Run("a run of one rule changes its cell and the day", func(t *testing.T) {
		again, _, err := makeMatrix(four, fstest.MapFS{
			"12.json": ran("2026-11-24", on12, "", "", "b/skips"),
		}, page)
		require.NoError(t, err)
		new := slices.Clone(want)
		new[1] = "| " + on12 + " | amd64 | 2026-11-24 | 3 | 0 | 1 | 0 |"
		new[7] = "| `b/skips` | ok |  | ok |"
		assert.Equal(t, new, tables(again))
	})
	t.Run("of two runs the later counts", func(t *testing.T) {
		again, _, err := makeMatrix(four, fstest.MapFS{
			"a.json": ran("2026-11-26", on14, "", "", "a/differs"),
			"b.json": ran("2026-11-25", on14, "TapWrite", "", "a/differs"),
		}, page)
		require.NoError(t, err)
		assert.Contains(t, tables(again), "| `a/differs` | ok |  | ok |")
	})
	t.Run("a rule that is new is empty, one that is gone has no row", func(t *testing.T) {
		again, _, err := makeMatrix([]string{"a/plain", "a/new"}, fstest.MapFS{}, page)
		require.NoError(t, err)
		assert.Equal(t, []string{want[4], want[5], "| `a/new` |  |  |  |"}, tables(again)[4:])
	})
}

func TestMatrixRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		file *fstest.MapFile
		want string
	}{
		"a run with a failure": {&fstest.MapFile{Data: []byte(stream("conformance",
			`attr TestConformance rule {"name":"a/plain"}`, "fail TestConformance/a/plain/kernel"))},
			"failed"},
		"a rule that is played and is none": {&fstest.MapFile{Data: []byte(stream("conformance",
			`attr TestConformance/x/kernel rule {"name":"x","plays":true}`))}, `"x", which is no rule`},
		"two rules of one name": {&fstest.MapFile{Data: []byte(stream("conformance",
			`attr TestConformance rule {"name":"x"}`, `attr TestConformance rule {"name":"x"}`))},
			"two rules"},
		"what is no rule": {&fstest.MapFile{Data: []byte(stream("conformance",
			`attr TestConformance rule x`))}, "reports a rule"},
		"models alone":               {ran("2026-11-22", onHost, "", "", "a/plain"), "no runs of the table on a kernel"},
		"a kernel without a release": {ran("2026-11-22", "FreeBSD unknown", "", "", "a/plain"), "no name of a kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := makeMatrix(four, fstest.MapFS{"x.json": c.file}, nil)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestFillIn(t *testing.T) {
	doc, err := fillIn([]byte("before\n"+beginBlock+"old\n"+endBlock+"after\n"), []byte("new\n"))
	require.NoError(t, err)
	assert.Equal(t, "before\n"+beginBlock+"new\n"+endBlock+"after\n", string(doc))
	for _, none := range []string{"", beginBlock, endBlock, endBlock + beginBlock} {
		_, err := fillIn([]byte(none), nil)
		require.Error(t, err, none)
	}
}

// top is the root of the module.
const top = "../.."

// document reads a page of the module.
func document(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top, path))
	if os.IsNotExist(err) {
		if _, gone := os.Stat(filepath.Join(top, "go.mod")); gone != nil {
			t.Skipf("the documents are where the source is, not here: %v", gone)
		}
	}
	require.NoError(t, err)
	return b
}

// The pages that speak of every rule name the rules that there are, in the order of the table.
func TestPagesNameEveryRule(t *testing.T) {
	readme := document(t, "README.md")
	rules, err := rulesOf(filepath.Join(top, "conformance"))
	require.NoError(t, err)
	require.Greater(t, len(rules), 200)
	for page, columns := range map[string]int{"docs/kernels.md": 6, "docs/freebsd-15-16.md": 2} {
		_, below, found := strings.Cut(string(document(t, page)), rulesHeading)
		require.True(t, found, "%s has no heading %q", page, rulesHeading)
		var named []string
		for line := range strings.Lines(below) {
			if f := cellsOf(line); len(f) > 1 && strings.HasPrefix(f[0], "`") {
				named = append(named, strings.Trim(f[0], "`"))
				require.GreaterOrEqual(t, len(f)-1, columns, "%s: %s", page, line)
			}
		}
		require.Equal(t, rules, named, "%s: make matrix brings docs/kernels.md up to date; "+
			"docs/freebsd-15-16.md needs a verdict, which may be unknown", page)
	}

	kernels := tables(document(t, "docs/kernels.md"))
	_, block, _ := strings.Cut(string(readme), beginBlock)
	block, _, found := strings.Cut(block, endBlock)
	require.True(t, found, "README.md has no block of kernels")
	n := len(tables([]byte(block)))
	require.Greater(t, n, 1)
	require.Equal(t, kernels[:n], tables([]byte(block)), "README.md: make matrix brings it up to date")
	require.True(t, strings.HasPrefix(kernels[n], "| Rule |"), "README.md leaves kernels out: %s",
		kernels[n])
}

// Every rule has a verdict for 15 and for 16 that the page explains, and says how it differs.
func TestVerdicts(t *testing.T) {
	_, below, found := strings.Cut(string(document(t, "docs/freebsd-15-16.md")), rulesHeading)
	require.True(t, found)
	seen := map[string]int{}
	for line := range strings.Lines(below) {
		f := cellsOf(line)
		if len(f) != 3 || !strings.HasPrefix(f[0], "`") {
			continue
		}
		for _, cell := range f[1:] {
			verdict, why, _ := strings.Cut(cell, ": ")
			require.Contains(t, []string{"same", "differs", "unknown"}, verdict, line)
			if verdict != "same" {
				require.NotEmpty(t, why, "%s says neither how nor why", line)
			}
			seen[verdict]++
		}
	}
	require.Greater(t, seen["same"], 0)
	require.Greater(t, seen["differs"], 0)
	require.Greater(t, seen["unknown"], 0)
}

// Every feature of the models of 15 and 16 has the functions that show it, and the models agree.
func TestFeaturesHaveSources(t *testing.T) {
	text := string(document(t, "docs/freebsd-15-16.md"))
	rows := map[string][]string{}
	for line := range strings.Lines(text) {
		if f := cellsOf(line); len(f) == 3 {
			rows[f[0]] = f[1:]
		}
	}
	v15, v16 := reflect.ValueOf(bpftest.FreeBSD15()), reflect.ValueOf(bpftest.FreeBSD16())
	for i := range v15.NumField() {
		name := v15.Type().Field(i).Name
		require.Contains(t, rows, name, "docs/freebsd-15-16.md names no source of a feature")
		for j, has := range []bool{v15.Field(i).Bool(), v16.Field(i).Bool()} {
			said, source, _ := strings.Cut(rows[name][j], ": ")
			require.Equal(t, has, said == "yes", "%s: the model and the page", name)
			require.Contains(t, source, "()", "%s names no function", name)
		}
	}
}
