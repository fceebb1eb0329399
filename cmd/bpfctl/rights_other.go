//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package main

import (
	"fmt"
	"os/exec"
	"runtime"
)

func (a *account) become() error {
	return fmt.Errorf("--user %s: bpfctl can't become another user on %s", a.name, runtime.GOOS)
}

func apart(*exec.Cmd, *account) {}

func ignoreEnds() {}
