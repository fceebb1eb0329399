package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// machine has the part of the guest's state that outlives a program.
type machine interface {
	// interfaces describes each network interface by name: its flags and
	// addresses as text.
	interfaces() (map[string]string, error)
	destroyInterface(name string) error
	// mounts lists mount points, oldest first.
	mounts() ([]string, error)
	unmount(path string) error
	// settings reads the value of each sysctl of the baseline.
	readSetting(i int) ([]byte, error)
	writeSetting(i int, value []byte) error
	settingName(i int) string
	// others describes the state that the agent can't put back: loaded modules and jails.
	others() (string, error)
	// overflows returns the number of frames that found an epair's queue full.
	overflows() (uint64, error)
}

// baseline is the state in which each program finds the machine.
type baseline struct {
	m          machine
	interfaces map[string]string
	mounts     []string
	settings   [][]byte
	others     string
	overflows  uint64
}

// restore puts the machine back. It returns an error that names the state that it could not put
// back. After an error the host must not use the machine again.
func (b *baseline) restore() error {
	return errors.Join(b.restoreInterfaces(), b.restoreMounts(), b.restoreSettings(), b.checkOthers(),
		b.checkWires())
}

func (b *baseline) restoreInterfaces() error {
	now, err := b.m.interfaces()
	if err != nil {
		return err
	}
	var failed error
	for name := range now {
		if _, ok := b.interfaces[name]; ok {
			continue
		}
		// When one end of a pair goes, so does the other. Only the ends that are still there count.
		if err := b.m.destroyInterface(name); err != nil {
			failed = err
		}
	}
	if now, err = b.m.interfaces(); err != nil {
		return err
	}
	for name, want := range b.interfaces {
		if got, ok := now[name]; !ok || got != want {
			return fmt.Errorf("interface %s is %q, was %q", name, got, want)
		}
		delete(now, name)
	}
	for name := range now {
		return errors.Join(fmt.Errorf("interface %s stays", name), failed)
	}
	return nil
}

func (b *baseline) restoreMounts() error {
	now, err := b.m.mounts()
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(now) {
		if slices.Contains(b.mounts, path) {
			continue
		}
		if err := b.m.unmount(path); err != nil {
			return err
		}
	}
	return nil
}

func (b *baseline) restoreSettings() error {
	for i, want := range b.settings {
		got, err := b.m.readSetting(i)
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", b.m.settingName(i), err)
		}
		if bytes.Equal(got, want) {
			continue
		}
		if err := b.m.writeSetting(i, want); err != nil {
			return fmt.Errorf("put back sysctl %s: %w", b.m.settingName(i), err)
		}
		if got, err = b.m.readSetting(i); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("sysctl %s does not go back to its value", b.m.settingName(i))
		}
	}
	return nil
}

func (b *baseline) checkOthers() error {
	now, err := b.m.others()
	if err != nil {
		return err
	}
	if now != b.others {
		return fmt.Errorf("modules and jails are %s, were %s", oneLine(now), oneLine(b.others))
	}
	return nil
}

// checkWires returns an error if epairs may have stopped working. All epairs share one queue. If
// that queue was full once, the driver may refuse every later frame of any epair: see
// epair_transmit_locked in 12.1.
func (b *baseline) checkWires() error {
	now, err := b.m.overflows()
	if err != nil {
		return err
	}
	if n := now - b.overflows; n > 0 {
		return fmt.Errorf("the queue of all epairs overflowed (%d frames), after which they may carry "+
			"nothing any more", n)
	}
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
