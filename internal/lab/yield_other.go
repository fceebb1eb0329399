//go:build !freebsd

package lab

import "runtime"

func yield() { runtime.Gosched() }

// Pin does nothing here.
func Pin(cpu int) error { return nil }
