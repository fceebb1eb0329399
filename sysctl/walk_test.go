package sysctl_test

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/sysctl"
)

func names(t *testing.T, tree sysctl.Tree, root string) (all []string) {
	t.Helper()
	for name, err := range tree.Walk(root) {
		require.NoError(t, err)
		all = append(all, name)
	}
	return all
}

func TestWalk(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		t.Run("a folder", func(t *testing.T) {
			require.Subset(t, names(t, w.tree, "net.bpf"), []string{"net.bpf.zerocopy_enable",
				"net.bpf.maxinsns", "net.bpf.stats",
				"net.bpf.optimize_writers", "net.bpf.bufsize", "net.bpf.maxbufsize"})
		})
		t.Run("nothing but what is below", func(t *testing.T) {
			for _, root := range []string{"net.bpf", "net", "kern"} {
				all := names(t, w.tree, root)
				require.NotEmpty(t, all)
				for _, name := range all {
					require.True(t, strings.HasPrefix(name, root+"."), name)
				}
				sorted := slices.Sorted(slices.Values(all))
				require.Equal(t, len(all), len(slices.Compact(sorted)), "no name twice")
			}
		})
		t.Run("a value is itself", func(t *testing.T) {
			require.Equal(t, []string{"net.bpf.bufsize"}, names(t, w.tree, "net.bpf.bufsize"))
		})
		t.Run("so is a node that takes numbers", func(t *testing.T) {
			require.Equal(t, []string{"net.bpf.stats"}, names(t, w.tree, "net.bpf.stats"))
		})
		t.Run("everything", func(t *testing.T) {
			all := names(t, w.tree, "")
			require.Contains(t, all, "net.bpf.bufsize")
			require.Contains(t, all, "kern.ostype")
			for _, root := range []string{"net.bpf", "kern"} {
				require.Subset(t, all, names(t, w.tree, root))
			}
			t.Logf("%d sysctls", len(all))
		})
		t.Run("can be left", func(t *testing.T) {
			n := 0
			for range w.tree.Walk("net.bpf") {
				if n++; n == 2 {
					break
				}
			}
			require.Equal(t, 2, n)
		})
	})
}

// Every value of the real tree agrees with its format, or the call returns an error that says why
// it does not.
func TestEveryValueAgreesWithItsFormat(t *testing.T) {
	w := kernel(t)
	for _, root := range []string{"vm", ""} {
		count := map[string]int{}
		for name, err := range w.tree.Walk(root) {
			require.NoError(t, err)
			f, err := w.tree.Format(name)
			if errors.Is(err, fs.ErrNotExist) {
				count["without a format"]++
				continue
			}
			require.NoError(t, err)
			size, signed := f.Type.Integer()
			switch {
			case f.Type == sysctl.CTLTYPE_STRING:
				_, err = w.tree.String(name)
			case size != 0 && signed:
				_, err = w.tree.Int64(name)
			case size != 0:
				_, err = w.tree.Uint64(name)
			default:
				count[f.Type.String()]++
				continue
			}
			if err != nil {
				t.Logf("%s (%v, %q): %v", name, f, f.Fmt, err)
				var named *sysctl.Error
				require.ErrorAs(t, err, &named)
				require.Equal(t, name, named.Name)
				count["refused"]++
				continue
			}
			count[f.Type.String()]++
		}
		t.Logf("below %s: %v", strconv.Quote(root), count)
		require.Greater(t, count["int"]+count["unsigned int"], 20, "below %q", root)
		require.Less(t, count["refused"], 40, "below %q", root)
	}
}
