package house

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The core, and what stands on it alone, reaches no module but x/sys and x/net. So a program that
// captures does not link gopacket.
func TestCoreReachesFewModules(t *testing.T) {
	for _, system := range []string{"linux", "freebsd", "windows"} {
		foreign, seen := reaches(t, system, ".", "./bpf/...", "./filter", "./packet",
			"./sysctl/...")
		assert.Empty(t, foreign, system)
		assert.Greater(t, seen, 30, "the packages were not found")
	}

	foreign, _ := reaches(t, "freebsd", "./gopacketbpf")
	assert.Contains(t, foreign, "github.com/gopacket/gopacket", "the check sees what is foreign")
}

// reaches returns the packages that others import, directly or not, and that are of other modules
// than x/sys and x/net. seen counts all.
func reaches(t *testing.T, system string, packages ...string) (foreign []string, seen int) {
	t.Helper()
	for _, p := range list(t, system, append([]string{"-deps"}, packages...)...) {
		seen++
		first, _, _ := strings.Cut(p.ImportPath, "/")
		known := slices.ContainsFunc([]string{module, "golang.org/x/sys", "golang.org/x/net"},
			func(m string) bool { return p.ImportPath == m || strings.HasPrefix(p.ImportPath, m+"/") })
		if strings.Contains(first, ".") && !known { // names of the Go library have no dot there
			foreign = append(foreign, p.ImportPath)
		}
	}
	return foreign, seen
}

const (
	ourBpf  = module + "/bpf"
	xnetBpf = "golang.org/x/net/bpf"
)

// Two packages are named bpf. Where both meet, ours is bpf and that of x/net is xbpf: in each file
// that imports both, in the files of ours, and in the pages and comments that show the line.
func TestNamesOfTheTwoPackagesBpf(t *testing.T) {
	shown := regexp.MustCompile(`^(//)?\s+(\w+ )?"(` + ourBpf + "|" + xnetBpf + `)"$`)
	both := 0
	for _, path := range sources(t) {
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		names := map[string]string{}
		if strings.HasSuffix(path, ".go") {
			names = importNames(t, path, text)
		}
		if filepath.Dir(path) == "bpf" {
			names[ourBpf] = ""
		}
		_, ours := names[ourBpf]
		name, xnet := names[xnetBpf]
		if ours && xnet {
			both++
			assert.Equal(t, "xbpf", name, path)
		}
		assert.Empty(t, names[ourBpf], path)
		for line := range strings.Lines(string(text)) {
			m := shown.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if m != nil && (m[1] != "" || !strings.HasSuffix(path, ".go")) {
				want := map[string]string{ourBpf: "", xnetBpf: "xbpf "}[m[3]]
				assert.Equal(t, want, m[2], "%s: %s", path, line)
			}
		}
	}
	assert.Greater(t, both, 10, "the files were not found")
}

// importNames returns the names that a Go file gives its imports, by path. "" is the package's own.
func importNames(t *testing.T, path string, text []byte) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
	require.NoError(t, err)
	names := map[string]string{}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		names[imported] = ""
		if spec.Name != nil {
			names[imported] = spec.Name.Name
		}
	}
	return names
}
