//go:build staticcheck

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The analyzers of each of staticcheck's groups run, and know what the standard library says of
// its own functions.
func TestStaticcheckRuns(t *testing.T) {
	for name, text := range map[string]string{
		"S1005":  "func F(m map[int]int) {\n\tfor _ = range m {\n\t}\n}\n",
		"SA1019": "import \"io/ioutil\"\n\nvar F = ioutil.ReadAll\n",
		"SA4005": "type T struct{ x int }\n\nfunc (t T) Set(x int) { t.x = x }\n",
		"ST1005": "import \"errors\"\n\nvar F = errors.New(\"Bad.\")\n",
		"":       "func F() int { return 1 }\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
			}
			write("go.mod", "module example.com/m\n\ngo 1.26.0\n")
			write("m.go", "package m\n\n"+text)
			_, err := check(dir, "linux/amd64")
			if name == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, "("+name+")")
		})
	}
}
