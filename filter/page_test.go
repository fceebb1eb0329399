package filter

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPageShowsTheProgram(t *testing.T) {
	page, err := os.ReadFile("../docs/filter.md")
	require.NoError(t, err)
	var shown []string
	for _, line := range strings.Split(string(page), "\n") {
		if line, ok := strings.CutPrefix(line, "    (0"); ok {
			shown = append(shown, "(0"+line)
		}
	}
	prog := strings.Split(strings.TrimSpace(compiled(t, "tcp port 80 or 443",
		Options{LinkType: DLTEthernet})), "\n")
	require.Len(t, shown, len(prog))
	for i, line := range prog {
		got := strings.Fields(shown[i])
		want := strings.Fields(line)
		require.GreaterOrEqual(t, len(got), len(want))
		require.Equal(t, want, got[:len(want)])
	}
}
