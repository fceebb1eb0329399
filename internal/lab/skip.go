package lab

import (
	"runtime"
	"testing"
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

// Want64Bit skips a test of zero-copy in a program that can't have it, whatever the kernel's settings.
func Want64Bit(t testing.TB) {
	t.Helper()
	if runtime.GOARCH == "386" {
		t.Skip("a 32-bit program has no zero-copy on a 64-bit kernel")
	}
}

// WantZeroCopy skips a test where zero-copy can't be had.
func WantZeroCopy(t testing.TB, w World) {
	t.Helper()
	Want64Bit(t)
	if on, err := w.Sysctl("net.bpf.zerocopy_enable"); err != nil || on == 0 {
		t.Skip("net.bpf.zerocopy_enable is 0")
	}
}
