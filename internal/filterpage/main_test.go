package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What tests log comes under their names, failures and skips too, and benchmarks as a table.
func TestPageHasWhatTheOutputsSay(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"kernel-amd64.txt": "=== RUN   TestA\n    a_test.go:5: 7 equal\n--- PASS: TestA (0.1s)\n" +
			"=== RUN   TestB\n--- FAIL: TestB (0.1s)\n",
		"bench.txt": "goos: linux\nBenchmarkRun/port-2   \t 10\t  5 ns/op\t 0 B/op\nPASS\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	var b strings.Builder
	require.NoError(t, page(&b, dir))
	assert.Equal(t, head+"\n## bench\n\n- goos: linux\n\n| benchmark | |\n| --- | --- |\n"+
		"| Run/port | 5 ns/op 0 B/op |\n\n## kernel-amd64\n\n\n| test | |\n| --- | --- |\n"+
		"| TestA | 7 equal |\n| TestB | **FAIL** |\n", b.String())
	assert.ErrorContains(t, page(&b, t.TempDir()), "has no outputs")
}
