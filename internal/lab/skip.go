package lab

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
)

// OnKernel returns the running kernel, or skips the test where there is none.
func OnKernel(t testing.TB) World {
	t.Helper()
	w, why := Kernel()
	if w == nil {
		t.Skip("not on a FreeBSD kernel: ", why)
	}
	return w
}

// Want64Bit skips a test of zero-copy in a program that can't have it with any settings of the
// kernel.
func Want64Bit(t testing.TB) {
	t.Helper()
	if Compat32() {
		t.Skip("a 32-bit program has no zero-copy on a 64-bit kernel")
	}
}

// Compat32 reports whether this is a 32-bit program on a 64-bit kernel: 386 on amd64, or arm on
// arm64.
func Compat32() bool {
	w, _ := Kernel()
	if w == nil || zbuf.WordSize == 8 {
		return false
	}
	on, err := w.Sysctl("kern.features.compat_freebsd_32bit")
	return err == nil && on == 1
}

// WantZeroCopy skips a test where zero-copy can't be had.
func WantZeroCopy(t testing.TB, w World) {
	t.Helper()
	Want64Bit(t)
	if on, err := w.Sysctl("net.bpf.zerocopy_enable"); err != nil || on == 0 {
		t.Skip("net.bpf.zerocopy_enable is 0")
	}
}

// InModes runs f on the running kernel, once in each buffer mode that it has. It skips the test
// where there is no kernel.
func InModes[M fmt.Stringer](t *testing.T, zeroCopy, buffered M, f func(*testing.T, World, M)) {
	t.Helper()
	w := OnKernel(t)
	t.Run(zeroCopy.String(), func(t *testing.T) {
		WantZeroCopy(t, w)
		f(t, w, zeroCopy)
	})
	t.Run(buffered.String(), func(t *testing.T) { f(t, w, buffered) })
}

// WantStorm skips a test where no storm can be had.
func WantStorm(t testing.TB) {
	t.Helper()
	if zbuf.WordSize == 4 {
		t.Skip("a 32-bit program cannot build bridges on a 64-bit kernel: SIOCSDRVSPEC has no " +
			"32-bit form")
	}
	cpus, err := Processors()
	require.NoError(t, err)
	if len(cpus) == 1 {
		t.Skip("a storm takes a processor of its own, and there is one")
	}
}
