//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A replay never overwrites the file that it reads, however the file gets there.
func TestReplayedFileIsNotOverwritten(t *testing.T) {
	sample, err := os.ReadFile("testdata/sample.pcapng")
	require.NoError(t, err)
	for name, input := range map[string]string{
		"the same name": "in.pcapng", "another name": "link.pcapng", "standard input": "-",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := filepath.Join(dir, "in.pcapng")
			require.NoError(t, os.WriteFile(in, sample, 0o600))
			require.NoError(t, os.Symlink("in.pcapng", filepath.Join(dir, "link.pcapng")))
			p := start(t, func(c *exec.Cmd) {
				f, err := os.Open(in)
				require.NoError(t, err)
				t.Cleanup(func() { f.Close() })
				c.Dir, c.Stdin = dir, f
			}, "capture", "--replay", input, "-w", "in.pcapng")
			assert.Equal(t, exitUsage, p.exit())
			assert.Equal(t, "bpfctl: -w in.pcapng: that is the file to replay\n", p.said())
			left, err := os.ReadFile(in)
			require.NoError(t, err)
			assert.Equal(t, sample, left)
		})
	}
}
