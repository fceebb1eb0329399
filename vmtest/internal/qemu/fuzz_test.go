package qemu

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzConsole: it does not matter in which pieces a guest's words come, and nothing after death
// changes its cause.
func FuzzConsole(f *testing.F) {
	f.Add("boot\r\npanic: at the disco\r\ncpuid = 0\r\n", 9, 3)
	f.Add("mountroot> ", 4, 1)
	f.Add("x\ndb> \nFatal trap 12: page fault while in kernel mode\n", 5, 2)
	f.Fuzz(func(t *testing.T, text string, cut, lines int) {
		whole, pieces := NewConsole(), NewConsole()
		write := func(c *Console, s string) {
			n, err := c.Write([]byte(s))
			require.NoError(t, err)
			require.Equal(t, len(s), n)
		}
		// A prompt is known before its line goes on, so the pieces end where lines do.
		cut = strings.LastIndexByte(text[:min(max(cut, 0), len(text))], '\n') + 1
		write(whole, text)
		write(pieces, text[:cut])
		early := pieces.Cause()
		write(pieces, text[cut:])
		require.Equal(t, whole.Cause(), pieces.Cause())
		require.Equal(t, whole.Final(), pieces.Final())
		require.Equal(t, whole.Total(), pieces.Total())
		if early != "" {
			require.Equal(t, early, pieces.Cause())
		}
		select {
		case <-whole.Died():
			require.NotEmpty(t, whole.Cause())
		default:
			require.Empty(t, whole.Cause())
		}
		lines = min(max(lines, 1), 1000)
		tail := whole.Tail(lines)
		require.Equal(t, tail, pieces.Tail(lines))
		require.Less(t, strings.Count(tail, "\n"), lines)
		require.Equal(t, whole.Since(0), pieces.Since(0))
	})
}
