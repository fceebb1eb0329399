//go:build !freebsd

package lab

import "runtime"

// Kernel returns the running kernel, or the reason why tests can't use it.
func Kernel() (World, string) {
	return nil, "the kernel is " + runtime.GOOS + ", not FreeBSD"
}

// system names the machine that a test runs on.
func system() string { return runtime.GOOS + "/" + runtime.GOARCH }
