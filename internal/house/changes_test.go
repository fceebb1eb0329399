package house

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// No change of the kinds that CONTRIBUTING.md lists takes more than three files, and no program
// among these is longer than 500 lines.
func TestChangesTouchFewShortFiles(t *testing.T) {
	text := documents(t)["CONTRIBUTING.md"]
	_, table, found := strings.Cut(text, "| what you add |")
	require.True(t, found, "CONTRIBUTING.md has no table of changes")
	table, _, _ = strings.Cut(table, "\n\n")
	rows, programs := 0, 0
	for _, row := range strings.Split(table, "\n")[2:] {
		columns := strings.Split(row, "|")
		require.Len(t, columns, 5, row)
		rows++
		assert.LessOrEqual(t, len(strings.Split(columns[2], ", ")), 3, row)
		for _, link := range links.FindAllStringSubmatch(columns[2], -1) {
			if !strings.HasSuffix(link[1], ".go") {
				continue
			}
			source, err := os.ReadFile(filepath.Join(root, link[1]))
			require.NoError(t, err)
			assert.LessOrEqual(t, bytes.Count(source, []byte("\n")), 500, link[1])
			programs++
		}
	}
	assert.Equal(t, 10, rows)
	assert.Greater(t, programs, 5, "the files were not found")
}
