package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// guest is the machine on which the agent runs.
type guest struct{ entries []sysctlEntry }

// settingRoots are the parts of the sysctl tree that the agent puts back. The other parts are
// statistics, or settings that a program under test does not need.
var settingRoots = []string{"net", "kern", "security"}

func takeBaseline() (*baseline, error) {
	entries, err := settings(settingRoots...)
	if err != nil {
		return nil, err
	}
	g := &guest{entries: entries}
	b := &baseline{m: g}
	for _, e := range entries {
		b.settings = append(b.settings, e.value)
	}
	if b.interfaces, err = g.interfaces(); err != nil {
		return nil, err
	}
	if b.mounts, err = g.mounts(); err != nil {
		return nil, err
	}
	if b.others, err = g.others(); err != nil {
		return nil, err
	}
	if b.overflows, err = g.overflows(); err != nil {
		return nil, err
	}
	return b, nil
}

func (g *guest) interfaces() (map[string]string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	out := map[string]string{}
	for _, ifi := range list {
		addrs, err := ifi.Addrs()
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", ifi.Name, err)
		}
		out[ifi.Name] = fmt.Sprint(ifi.Flags, ifi.MTU, addrs)
	}
	return out, nil
}

func (g *guest) destroyInterface(name string) error { return destroyInterface(name) }
func (g *guest) mounts() ([]string, error)          { return mounts() }
func (g *guest) unmount(path string) error          { return unmount(path) }
func (g *guest) readSetting(i int) ([]byte, error)  { return readSysctl(g.entries[i].mib) }
func (g *guest) writeSetting(i int, v []byte) error { return writeSysctl(g.entries[i].mib, v) }
func (g *guest) settingName(i int) string           { return nameOf(g.entries[i].mib) }

func (g *guest) overflows() (uint64, error) {
	const epair = 8 // NETISR_EPAIR
	mib, err := mibOf("net.isr.work")
	if err != nil {
		return 0, fmt.Errorf("sysctl net.isr.work: %w", err)
	}
	buf := make([]byte, 64<<10)
	n, err := rawSysctl(mib, buf, nil)
	if err != nil {
		return 0, fmt.Errorf("sysctl net.isr.work: %w", err)
	}
	return drops(buf[:n], epair)
}

// others describes the kernel modules and the jails, by number.
func (g *guest) others() (string, error) {
	var b strings.Builder
	b.WriteString("modules")
	for id := uintptr(0); ; {
		next, _, errno := syscall.Syscall(syscall.SYS_KLDNEXT, id, 0, 0)
		if errno != 0 {
			return "", fmt.Errorf("kldnext: %w", errno)
		}
		if next == 0 {
			break
		}
		id = next
		fmt.Fprintf(&b, " %d", id)
	}
	b.WriteString(" jails")
	for last := 0; ; {
		jid, err := nextJail(last)
		if errors.Is(err, syscall.ENOENT) {
			return b.String(), nil
		}
		if err != nil {
			return "", fmt.Errorf("jail_get: %w", err)
		}
		last = jid
		fmt.Fprintf(&b, " %d", jid)
	}
}
