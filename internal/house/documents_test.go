package house

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documents are the pages of the root and of docs, by their paths from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Skipf("the documents are where the source is, not here: %v", err)
	}
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			rel, err := filepath.Rel(root, path)
			require.NoError(t, err)
			all[filepath.ToSlash(rel)] = string(text)
		}
	}
	return all
}

var (
	fences   = regexp.MustCompile("(?ms)^```.*?^```$")
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the places in a document that a link can name.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, h := range headings.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		name := noAnchor.ReplaceAllString(strings.ToLower(h[1]), "")
		all[strings.ReplaceAll(name, " ", "-")] = true
	}
	return all
}

// brokenLinks returns the links of the document at path that lead nowhere, and how many it has.
func brokenLinks(docs map[string]string, path string) (broken []string, seen int) {
	for _, link := range links.FindAllStringSubmatch(fences.ReplaceAllString(docs[path], ""), -1) {
		if strings.Contains(link[1], "://") {
			continue
		}
		seen++
		file, anchor, _ := strings.Cut(link[1], "#")
		target := path
		if file != "" {
			target = filepath.ToSlash(filepath.Join(filepath.Dir(path), file))
		}
		text, known := docs[target]
		if !known {
			if _, err := os.Stat(filepath.Join(root, target)); err != nil || anchor != "" {
				broken = append(broken, link[1])
			}
		} else if anchor != "" && !anchors(text)[anchor] {
			broken = append(broken, link[1])
		}
	}
	return broken, seen
}

func TestLinksOfDocumentsLeadSomewhere(t *testing.T) {
	docs := documents(t)
	all := 0
	for path := range docs {
		broken, seen := brokenLinks(docs, path)
		assert.Empty(t, broken, path)
		all += seen
	}
	assert.Greater(t, all, 50, "the links were not found")

	made := map[string]string{
		"a.md":      "[x](docs/b.md#two-words) [y](#none) [z](gone.md) [w](internal/house)\n# A",
		"docs/b.md": "# Two words\n[up](../a.md#a) [down](../a.md#b)",
	}
	broken, seen := brokenLinks(made, "a.md")
	assert.Equal(t, []string{"#none", "gone.md"}, broken)
	assert.Equal(t, 4, seen)
	broken, _ = brokenLinks(made, "docs/b.md")
	assert.Equal(t, []string{"../a.md#b"}, broken)
}

// The program of README.md builds.
func TestProgramOfReadmeBuilds(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	program := block.FindStringSubmatch(documents(t)["README.md"])
	require.NotNil(t, program, "README.md has no program")
	require.Contains(t, program[1], "Expression:")
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(source, []byte(program[1]), 0o644))
	where, err := filepath.Abs(filepath.Join(root, "internal", "house", "readme", "main.go"))
	require.NoError(t, err)
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {where: source}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, replace, 0o644))
	c := exec.Command("go", "build", "-overlay", overlay, "-o", filepath.Join(dir, "readme"),
		"./internal/house/readme")
	c.Dir = root
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The one number of README.md is that of docs/performance.md. What README.md says beside libpcap is
// what the summary of that page says.
func TestReadmeQuotesThePerformancePage(t *testing.T) {
	docs := documents(t)
	readme := strings.Join(strings.Fields(docs["README.md"]), " ")
	quoted := regexp.MustCompile(
		`([\d.]+) against ([\d.]+) times .* as much as zbuf there \(([\d.]+)\)`).
		FindStringSubmatch(readme)
	require.NotNil(t, quoted, "README.md quotes no figures")
	_, table, found := strings.Cut(docs["docs/performance.md"],
		"FreeBSD 12.1, packets of 64 bytes, load full:")
	require.True(t, found, "docs/performance.md has no such table")
	table, _, _ = strings.Cut(table, "× is to: bare.")
	for i, reader := range []string{"zbuf-lease", "gopacket", "read2"} {
		assert.Contains(t, table, "| "+reader+" | "+quoted[i+1]+" × |")
	}

	part := func(file, name string) string {
		_, text, found := strings.Cut(docs[file], "<!-- results: "+name+" -->\n")
		require.True(t, found, "%s has no %s", file, name)
		text, _, _ = strings.Cut(text, "<!-- end of "+name+" -->\n")
		return strings.Join(strings.Fields(text), " ")
	}
	summary := part("docs/performance.md", "summary")
	beside := regexp.MustCompile(`takes ([\d.]+), ([\d.]+)[, ]`).
		FindAllStringSubmatch(part("README.md", "numbers"), -1)
	require.Len(t, beside, 3, "README.md stands beside libpcap")
	for _, figures := range beside {
		assert.Contains(t, summary, ": "+strings.Join(figures[1:], ", ")+", ")
	}
}

// The reproducers of docs/kernel.md are Go, on the raw binding of FreeBSD.
func TestReproducersCompile(t *testing.T) {
	_, defects, found := strings.Cut(documents(t)["docs/kernel.md"], "\n## Defects of FreeBSD")
	require.True(t, found)
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(defects, -1)
	require.Greater(t, len(blocks), 7)
	var source strings.Builder
	source.WriteString(`package reproducers

import (
	"fmt"
	"io"
	"os"

	"` + module + `"
)

var _, _, _ = fmt.Println, io.SeekCurrent, os.Create
`)
	for i, block := range blocks {
		fmt.Fprintf(&source, "\nfunc _%d(b, w zbuf.Backend, epair0a, tun0 zbuf.Ifreq, "+
			"buffers zbuf.Zbuf, refuseAll zbuf.Program, packet, buf []byte, "+
			"pid, nobody int32, err error) {\n%s}\n", i, block[1])
	}
	exports := map[string]string{}
	for _, p := range list(t, "freebsd", "-export", "-deps", ".", "fmt", "io", "os") {
		exports[p.ImportPath] = p.Export
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "docs/kernel.md", source.String(),
		parser.SkipObjectResolution)
	require.NoError(t, err, source.String())
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", open)}
	_, err = conf.Check("reproducers", fset, []*ast.File{f}, nil)
	require.NoError(t, err, source.String())
}
