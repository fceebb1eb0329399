package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSizes: sizes and rates are within their limits, and mean the same when they are printed.
func FuzzSizes(f *testing.F) {
	for _, s := range []string{"65536", "64K", "2G", "1.5M", "0", "-1", "1e400", "0x10", "NaN", "k",
		"Kk", "1_0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var n, again size
		if n.Set(text) == nil {
			require.GreaterOrEqual(t, n, size(0))
			require.NoError(t, again.Set(n.String()))
			require.Equal(t, n, again)
		}
		var r, same bitRate
		if r.Set(text) == nil {
			require.True(t, r > 0 && r <= 1e15, "%v", r)
			require.NoError(t, same.Set(r.String()))
			require.Equal(t, r, same)
		}
	})
}
