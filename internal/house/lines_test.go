package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// widest is the number of characters that a line of code or prose may have.
const widest = 100

// No line of a Go file or of a document has more than 100 characters. mayBeLong has the exceptions.
func TestLinesHaveAtMost100Characters(t *testing.T) {
	files := 0
	for _, path := range sources(t) {
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		for _, n := range longLines(t, path, string(text)) {
			assert.Fail(t, "a long line", "%s:%d", path, n)
		}
		files++
	}
	assert.Greater(t, files, 400, "the files were not found")
}

// No Go file has more than 500 lines, but for the generated ones.
func TestFilesHaveAtMost500Lines(t *testing.T) {
	for _, path := range sources(t) {
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		if strings.HasSuffix(path, ".go") && !generated.Match(text) {
			assert.LessOrEqual(t, strings.Count(string(text), "\n"), 500, path)
		}
	}
}

// sources are the Go files and the documents, by their paths from the root. Files in folders named
// testdata are data.
func sources(t *testing.T) (paths []string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Skipf("the files are where the source is, not here: %v", err)
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root &&
			(strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "bin", "out"}, name)) {
			return fs.SkipDir
		}
		if ext := filepath.Ext(name); !d.IsDir() && (ext == ".go" || ext == ".md") {
			rel, err := filepath.Rel(root, path)
			paths = append(paths, filepath.ToSlash(rel))
			return err
		}
		return nil
	}))
	return paths
}

var (
	generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	// make shots takes the screens.
	screens = regexp.MustCompile(`(?s)<!-- shot until .*?<!-- end of shot -->`)
	// A row can also be in a string of Go.
	tableOfPage = regexp.MustCompile(`^\s*"?\| `)
)

// longLines returns the numbers of the lines that have too many characters.
func longLines(t *testing.T, path, text string) (numbers []int) {
	t.Helper()
	isGo := strings.HasSuffix(path, ".go")
	if isGo && generated.MatchString(text) {
		return nil
	}
	text = screens.ReplaceAllStringFunc(text, func(s string) string {
		return strings.Repeat("\n", strings.Count(s, "\n"))
	})
	var rows map[int]bool
	for i, line := range strings.Split(text, "\n") {
		if utf8.RuneCountInString(line) <= widest || mayBeLong(line) {
			continue
		}
		if isGo && rows == nil {
			rows = tableRows(t, path, text)
		}
		if !rows[i+1] {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

// mayBeLong reports whether a line can't be broken: a row of a page's table, or an address.
func mayBeLong(line string) bool {
	return tableOfPage.MatchString(line) || strings.Contains(line, "://")
}

// tableRows returns the lines of a Go file that are rows of a table. Such a line is one element of
// a list of at least two elements. The element is itself a list, and has no function.
func tableRows(t *testing.T, path, text string) map[int]bool {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, text, parser.SkipObjectResolution)
	require.NoError(t, err)
	lines := strings.Split(text, "\n")
	rows := map[int]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if list, ok := n.(*ast.CompositeLit); ok && len(list.Elts) > 1 {
			for _, e := range list.Elts {
				from, to := fset.Position(e.Pos()), fset.Position(e.End())
				line := lines[from.Line-1]
				if from.Line == to.Line && isRow(e) &&
					strings.Trim(line[:from.Column-1]+line[to.Column-1:], "\t,") == "" {
					rows[from.Line] = true
				}
			}
		}
		return true
	})
	return rows
}

func isRow(e ast.Expr) bool {
	if kv, ok := e.(*ast.KeyValueExpr); ok {
		e = kv.Value
	}
	_, row := e.(*ast.CompositeLit)
	ast.Inspect(e, func(n ast.Node) bool {
		if _, function := n.(*ast.FuncLit); function {
			row = false
		}
		return row
	})
	return row
}

func TestLongLinesAreFound(t *testing.T) {
	x := strings.Repeat("x", widest)
	code := "package p\n\n%s\n"
	for name, c := range map[string]struct {
		path, text string
		want       []int
	}{
		"prose of 100 characters":   {"a.md", x + "\n", nil},
		"prose of 101 characters":   {"a.md", "a\n" + x + "x\n", []int{2}},
		"characters, not bytes":     {"a.md", strings.Repeat("ü", widest) + "\n", nil},
		"a row of a page's table":   {"a.md", "| " + x + " |\n", nil},
		"an address":                {"a.md", "https://" + x + "\n", nil},
		"a screen":                  {"a.md", "<!-- shot until x: y -->\n" + x + "x\n<!-- end of shot -->\n", nil},
		"behind a screen":           {"a.md", "<!-- shot until x: y -->\n<!-- end of shot -->\n" + x + "x", []int{3}},
		"a comment":                 {"a.go", fmt.Sprintf(code, "// "+x), []int{3}},
		"an address in a comment":   {"a.go", fmt.Sprintf(code, "// https://"+x), nil},
		"code":                      {"a.go", fmt.Sprintf(code, "const a = `"+x+"`"), []int{3}},
		"text of several lines":     {"a.go", fmt.Sprintf(code, "const a = `\n"+x+"x\n`"), []int{4}},
		"a generated file":          {"a.go", "// Code generated by g. DO NOT EDIT.\n" + "// " + x, nil},
		"a row of a table":          {"a.go", fmt.Sprintf(code, "var a = [][]string{\n{`"+x+"`},\n{},\n}"), nil},
		"a row with a name":         {"a.go", fmt.Sprintf(code, "var a = m{\n`a`: {`"+x+"`},\n`b`: {},\n}"), nil},
		"a list of one":             {"a.go", fmt.Sprintf(code, "var a = [][]string{\n{`"+x+"`},\n}"), []int{4}},
		"an element that is no row": {"a.go", fmt.Sprintf(code, "var a = []string{\n`"+x+"`,\n``,\n}"), []int{4}},
		"a row with a function":     {"a.go", fmt.Sprintf(code, "var a = []s{\n{`"+x+"`, func() {}},\n{},\n}"), []int{4}},
		"two rows in one line":      {"a.go", fmt.Sprintf(code, "var a = []s{\n{}, {`"+x+"`},\n{},\n}"), []int{4}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, longLines(t, c.path, c.text))
		})
	}
}
