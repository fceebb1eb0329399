//go:build unix

package termshot

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestScreen(t *testing.T) {
	for _, c := range []struct{ name, written, want string }{
		{"lines", "one\r\ntwo", "one\ntwo\n"},
		{"a line over itself", "12345\rab", "ab345\n"},
		{"erased to its end", "12345\rab\x1b[K", "ab\n"},
		{"erased as a whole", "12345\x1b[2K\rab", "ab\n"},
		{"drawn in place", "a\r\nb\r\nc\r\n\x1b[3A\rx\x1b[K\r\n", "x\nb\nc\n"},
		{"erased below", "a\r\nb\r\nc\r\n\x1b[2A\x1b[J", "a\n"},
		{"colours", "\x1b[1;31mred\x1b[0m", "red\n"},
		{"more lines than there is room for", "1\r\n2\r\n3\r\n4\r\n5", "2\n3\n4\n5\n"},
		{"longer than a line", "0123456789ab", "0123456789\nab\n"},
		{"blocks", "▁█", "▁█\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewScreen(10, 4)
			for _, b := range []byte(c.written) { // however it is cut
				require.NoError(t, s.Write([]byte{b}))
			}
			assert.Equal(t, c.want, s.String())
		})
	}
	for _, unknown := range []string{"\x1b[5n", "\x07", "\x1b[x", "世"} {
		assert.Error(t, NewScreen(10, 4).Write([]byte(unknown)), "%q", unknown)
	}
}

func TestRun(t *testing.T) {
	screen, written, exit, err := Run(exec.Command("sh", "-c", "echo hello; stty size; exit 3"), 40,
		10, nil)
	require.NoError(t, err)
	assert.Equal(t, "hello\n10 40\n", screen)
	assert.Equal(t, "hello\r\n10 40\r\n", written)
	assert.Equal(t, 3, exit)

	screen, _, _, err = Run(exec.Command("sh", "-c", "echo ready; read never"), 40, 10,
		func(screen, _ string) bool { return strings.Contains(screen, "ready") })
	require.NoError(t, err)
	assert.Equal(t, "ready\n", screen)

	_, _, _, err = Run(exec.Command("true"), 40, 10, func(string, string) bool { return false })
	require.ErrorIs(t, err, ErrEnded)
}
