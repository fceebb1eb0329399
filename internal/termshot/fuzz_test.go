//go:build unix

package termshot

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzScreen: whatever is written, the screen keeps its size.
func FuzzScreen(f *testing.F) {
	f.Add([]byte("a\r\n\x1b[2K\x1b[1Ab\x1b[31mc\x1b[0m"))
	f.Add([]byte("\x1b[999999999999C\x1b[-1D\x1b["))
	f.Fuzz(func(t *testing.T, text []byte) {
		const columns, lines = 7, 3
		s := NewScreen(columns, lines)
		_ = s.Write(text) // what it does not know is an error
		rows := strings.Split(s.String(), "\n")
		for _, row := range rows {
			require.LessOrEqual(t, len([]rune(row)), columns)
		}
	})
}
