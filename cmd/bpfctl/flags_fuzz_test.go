package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
)

// FuzzParseFilter: what is read as a filter is one, and is the same when it is printed as tcpdump does.
func FuzzParseFilter(f *testing.F) {
	f.Add("1\n6 0 0 262144\n")
	f.Add(" 2 \r\n40 0 0 12\r\n\n6 0 0 0")
	f.Add("-1\n6 0 0 4294967296\n")
	f.Fuzz(func(t *testing.T, text string) {
		prog, err := parseFilter(strings.NewReader(text))
		if err != nil {
			return
		}
		require.NotEmpty(t, prog)
		require.NoError(t, zbuf.Validate(prog))
		var b strings.Builder
		fmt.Fprintln(&b, len(prog))
		for _, i := range prog {
			fmt.Fprintln(&b, i.Op, i.Jt, i.Jf, i.K)
		}
		again, err := parseFilter(strings.NewReader(b.String()))
		require.NoError(t, err)
		require.Equal(t, prog, again)
	})
}

// FuzzSizes: sizes and rates are within their limits, and mean the same when they are printed.
func FuzzSizes(f *testing.F) {
	for _, s := range []string{"65536", "64K", "2G", "1.5M", "0", "-1", "1e400", "0x10", "NaN", "k", "Kk", "1_0"} {
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
