package sysctl_test

import (
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/sysctl"
)

func TestSet(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		restore, err := w.tree.Override("net.bpf.maxbufsize", 1<<20)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, restore()) })
		for _, v := range []any{int8(100), int16(1000), int32(4096), int64(1 << 20), 8192, uint8(200),
			uint16(40000), uint32(65536),
			uint64(1 << 19), uint(5000), true, []byte{0, 0, 0, 0}, -1, math.MaxInt32, math.MinInt32} {
			require.NoError(t, w.tree.Set("net.bpf.maxbufsize", v), "%T(%v)", v, v)
			got, err := w.tree.Int32("net.bpf.maxbufsize")
			require.NoError(t, err)
			want := int64(0)
			switch v := v.(type) {
			case bool:
				want = 1
			case []byte:
			case int:
				want = int64(v)
			case int8:
				want = int64(v)
			case int16:
				want = int64(v)
			case int32:
				want = int64(v)
			case int64:
				want = v
			case uint8:
				want = int64(v)
			case uint16:
				want = int64(v)
			case uint32:
				want = int64(v)
			case uint64:
				want = int64(v)
			case uint:
				want = int64(v)
			}
			require.Equal(t, want, int64(got), "%T(%v)", v, v)
		}
		require.NoError(t, w.tree.Set("net.bpf.maxbufsize", -1))
		_, err = w.tree.Uint32("net.bpf.maxbufsize")
		require.ErrorIs(t, err, sysctl.ErrRange)
		_, err = w.tree.Uint64("net.bpf.maxbufsize")
		require.ErrorIs(t, err, sysctl.ErrRange)
		v, err := w.tree.Int64("net.bpf.maxbufsize")
		require.NoError(t, err)
		require.Equal(t, int64(-1), v)
	})
}

func TestStringsAreSetWhole(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		for _, name := range []string{"a", "", "with.dots-and-more", strings.Repeat("x", 200)} {
			restore, err := w.tree.Override("kern.hostname", name)
			require.NoError(t, err)
			got, err := w.tree.String("kern.hostname")
			require.NoError(t, err)
			require.NoError(t, restore())
			require.Equal(t, name, got)
		}
	})
}

func TestOverride(t *testing.T) {
	everywhere(t, func(t *testing.T, w target) {
		before, err := w.tree.Raw("net.bpf.bufsize")
		require.NoError(t, err)
		t.Run("restores what was there, inside out", func(t *testing.T) {
			outer, err := w.tree.Override("net.bpf.bufsize", 1111)
			require.NoError(t, err)
			inner, err := w.tree.Override("net.bpf.bufsize", 2222)
			require.NoError(t, err)
			require.NoError(t, inner())
			n, err := w.tree.BPF().BufSize()
			require.NoError(t, err)
			require.Equal(t, int32(1111), n)
			require.NoError(t, outer())
		})
		t.Run("restores once", func(t *testing.T) {
			restore, err := w.tree.Override("net.bpf.bufsize", 1111)
			require.NoError(t, err)
			require.NoError(t, restore())
			require.NoError(t, w.tree.Set("net.bpf.bufsize", 3333))
			require.NoError(t, restore())
			n, err := w.tree.BPF().BufSize()
			require.NoError(t, err)
			require.Equal(t, int32(3333), n)
			require.NoError(t, w.tree.Set("net.bpf.bufsize", before))
		})
		t.Run("refused, changes nothing", func(t *testing.T) {
			restore, err := w.tree.Override("net.bpf.bufsize", int64(1)<<40)
			require.ErrorIs(t, err, sysctl.ErrRange)
			require.Nil(t, restore)
		})
		after, err := w.tree.Raw("net.bpf.bufsize")
		require.NoError(t, err)
		require.Equal(t, before, after)
	})
}

// overrideThenFail, in the environment, makes the test below override and then do this: "fail" or
// "panic".
const overrideThenFail = "SYSCTL_TEST_OVERRIDE_THEN"

func TestOverrideRestoresAfterAFailingTest(t *testing.T) {
	w := kernel(t)
	if how := os.Getenv(overrideThenFail); how != "" {
		restore, err := w.tree.Override("net.bpf.bufsize", 7777)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, restore()) })
		n, err := w.tree.BPF().BufSize()
		require.NoError(t, err)
		require.Equal(t, int32(7777), n)
		t.Log("overridden")
		if how == "panic" {
			panic("on purpose")
		}
		t.FailNow()
	}
	before, err := w.tree.BPF().BufSize()
	require.NoError(t, err)
	for _, how := range []string{"fail", "panic"} {
		c := exec.Command(os.Args[0], "-test.run=^TestOverrideRestoresAfterAFailingTest$", "-test.v")
		c.Env = append(os.Environ(), overrideThenFail+"="+how)
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", out)
		require.Contains(t, string(out), "overridden")
		after, err := w.tree.BPF().BufSize()
		require.NoError(t, err)
		require.Equal(t, before, after, how)
	}
}

func TestKernelRefusesValueOutOfRange(t *testing.T) {
	w := kernel(t)
	const msl = "net.inet.tcp.msl" // its handler refuses what is less than a tick
	before, err := w.tree.Int32(msl)
	require.NoError(t, err)
	err = w.tree.Set(msl, 0)
	require.ErrorIs(t, err, sysctl.ErrRange)
	require.ErrorIs(t, err, syscall.EINVAL)
	require.ErrorContains(t, err, msl)
	after, err := w.tree.Int32(msl)
	require.NoError(t, err)
	require.Equal(t, before, after)
}
