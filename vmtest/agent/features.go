//go:build freebsd

package main

import (
	"errors"
	"fmt"
	"syscall"
)

// features returns a line that names the running kernel and its features.
func features() string {
	release, err := syscall.Sysctl("kern.osrelease")
	if err != nil {
		release = err.Error()
	}
	version, err := syscall.SysctlUint32("kern.osreldate")
	hz := "unknown"
	if clock, err := sysctlHz(); err == nil {
		hz = fmt.Sprint(clock)
	}
	out := fmt.Sprintf("release %s", release)
	if err == nil {
		out += fmt.Sprintf(" (%d)", version)
	}
	for _, f := range []struct{ name, sysctl string }{
		{"INVARIANTS", "kern.features.invariants"}, {"VIMAGE", "kern.features.vimage"},
		{"COMPAT_FREEBSD32", "kern.features.compat_freebsd_32bit"},
	} {
		// If a kernel lacks a feature, there is no entry.
		value, err := syscall.SysctlUint32(f.sysctl)
		out += fmt.Sprintf(", %s %s", f.name, there(value != 0, err))
	}
	_, err = pathCall(syscall.SYS_MODFIND, "if_epair", 0)
	return out + fmt.Sprintf(", epair %s, kern.hz %s", there(true, err), hz)
}

// there reports whether something exists. err is the kernel's answer to a request for it. Only
// ENOENT means that it does not exist.
func there(is bool, err error) string {
	switch {
	case err == nil && is:
		return "yes"
	case err == nil, errors.Is(err, syscall.ENOENT):
		return "no"
	}
	return "unknown"
}

// sysctlHz returns the number of clock ticks in a second.
func sysctlHz() (uint32, error) { return syscall.SysctlUint32("kern.hz") }
