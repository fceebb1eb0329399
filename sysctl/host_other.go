//go:build !freebsd

package sysctl

import (
	"errors"
	"fmt"
	"runtime"
)

// Host returns a tree on which every call fails with [errors.ErrUnsupported]. This system has no
// sysctls of FreeBSD's kind.
func Host() Tree { return New(foreign{}) }

type foreign struct{}

var errForeign = fmt.Errorf("%s does not have FreeBSD's sysctls: %w", runtime.GOOS,
	errors.ErrUnsupported)

func (foreign) Sysctl([]int32, []byte, []byte) (int, error) { return 0, errForeign }
