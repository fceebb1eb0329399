//go:build !freebsd

package faults

import (
	"runtime"
	"testing"
)

func TestFaults(t *testing.T) {
	t.Skip("faults are made on a FreeBSD kernel, and this is " + runtime.GOOS + ": run make vmtest")
}
