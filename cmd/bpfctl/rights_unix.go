//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// become makes the whole process run as a user, for good.
func (a *account) become() error {
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"setgroups", func() error { return syscall.Setgroups(a.groups) }},
		{"setgid", func() error { return syscall.Setgid(a.gid) }},
		{"setuid", func() error { return syscall.Setuid(a.uid) }},
	} {
		switch err := step.do(); {
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("--user %s: only root can become another user: %s: %w", a.name, step.name,
				err)
		case err != nil:
			return fmt.Errorf("--user %s: %s: %w", a.name, step.name, err)
		}
	}
	if a.uid != 0 && syscall.Setuid(0) == nil {
		return fmt.Errorf("--user %s: the process could become root again", a.name)
	}
	return nil
}

// apart makes a command run as a user, which may be nil, and without the signals that a terminal
// sends to this process.
func apart(c *exec.Cmd, as *account) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		groups := make([]uint32, len(as.groups))
		for i, g := range as.groups {
			groups[i] = uint32(g)
		}
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid),
			Groups: groups}
	}
}

// ignoreEnds makes this process go on after the signals that end a capture, and when nobody reads
// its reports. The commands that it starts do not inherit that.
func ignoreEnds() {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP,
		syscall.SIGPIPE)
}
