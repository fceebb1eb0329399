//go:build !freebsd

package lab

import "runtime"

func yield() { runtime.Gosched() }
