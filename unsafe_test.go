package zbuf_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unsafeRooms are the files that may import unsafe: the two binding files, and files that are named
// for it.
var unsafeRooms = regexp.MustCompile(`(^|/)(bpf_freebsd|zbuf_freebsd|\w+_unsafe(_test)?)\.go$`)

func TestUnsafeStaysInItsRooms(t *testing.T) {
	if _, err := os.Stat("go.mod"); err != nil {
		t.Skip("not in the source tree: ", err)
	}
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "out") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		files++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			if imp.Path.Value == `"unsafe"` {
				assert.Regexp(t, unsafeRooms, filepath.ToSlash(path), "imports unsafe outside its rooms")
			}
		}
		return nil
	})
	require.NoError(t, err)
	assert.Greater(t, files, 10)
}

// The packages that users import depend on the standard library, x/sys and x/net/bpf alone.
func TestCoreImportsLittle(t *testing.T) {
	if _, err := os.Stat("go.mod"); err != nil {
		t.Skip("not in the source tree: ", err)
	}
	allowed := regexp.MustCompile(`^"([^."]+(/[^"]*)?|golang\.org/x/(sys/unix|net/bpf)|` +
		`github\.com/zbuf-go/zbuf(/bpf|/filter)?)"$`)
	for _, pattern := range []string{"*.go", "bpf/*.go", "bpf/fanout/*.go", "filter/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, imp := range f.Imports {
				assert.Regexp(t, allowed, imp.Path.Value, path)
			}
		}
	}
}
