//go:build unix

package server

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/zbuf-go/zbuf/vmtest/internal/payload"
	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// prepareKernel completes spec for a boot of the kernel alone. It returns the files that it made.
// QEMU has read or opened them by the time the agent calls.
func (s *server) prepareKernel(spec *qemu.Spec, token string) (made []string, err error) {
	k, err := payload.OpenKernel(s.cfg.Kernel)
	if err != nil {
		return nil, err
	}
	disk, rootDevice := "/dev/vtbd0", "/dev/md0"
	if k.Arch != "amd64" {
		disk, rootDevice = "/dev/vtbd1", "/dev/vtbd0"
	}
	root, err := s.root(k, token, disk)
	if err != nil {
		return nil, err
	}
	env := kernelEnvironment(k.Arch)
	env["vfs.root.mountfrom"] = "cd9660:" + rootDevice
	for _, t := range s.cfg.Tunables {
		name, value, _ := strings.Cut(t, "=")
		env[name] = value
	}
	keep := func(image io.WriterTo) (string, error) {
		path, err := writeTemp("boot-*", image)
		if err != nil {
			return "", fmt.Errorf("boot payload: %w", err)
		}
		made = append(made, path)
		return path, nil
	}
	if k.Arch == "amd64" {
		entropy := make([]byte, 4096)
		if _, err := rand.Read(entropy); err != nil {
			return made, err
		}
		image, err := payload.Layout(payload.Boot{Kernel: k, Root: root, Env: env, Entropy: entropy})
		if err != nil {
			return made, err
		}
		spec.Payload, err = keep(image)
		return made, err
	}
	if spec.Append, err = payload.CommandLine(k.Arch, env); err != nil {
		return made, err
	}
	if spec.Root, err = keep(bytes.NewReader(root)); err != nil {
		return made, err
	}
	if k.Arch == "riscv64" { // the firmware there starts an ELF file
		spec.Payload = s.cfg.Kernel
		return made, nil
	}
	flat, err := k.Flat()
	if err != nil {
		return made, err
	}
	spec.Payload, err = keep(bytes.NewReader(flat))
	return made, err
}

// root makes the root file system: the agent with its settings, and the kernel's modules.
func (s *server) root(k *payload.Kernel, token, disk string) ([]byte, error) {
	agent, err := os.ReadFile(s.cfg.Agent)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	mods, err := payload.FindModules(k, s.cfg.Modules)
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal(wire.Settings{Token: token, Addr: qemu.AgentAddr, Disk: disk,
		Load: mods.Load, Required: mods.Required})
	if err != nil {
		return nil, err
	}
	files := append(mods.Files, payload.File{Path: "agent", Data: agent},
		payload.File{Path: wire.SettingsFile, Data: settings})
	return payload.Root(files, []string{"dev", "vm"})
}

// writeTemp writes data to a new file in the folder of the servers.
func writeTemp(pattern string, data io.WriterTo) (string, error) {
	f, err := os.CreateTemp(dir(), pattern)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = data.WriteTo(w)
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// kernelEnvironment returns the environment that every guest of arch starts with, see loader(8).
func kernelEnvironment(arch string) map[string]string {
	env := map[string]string{
		"init_path":   "/agent",
		"boot_serial": "YES",
		// The buffer pager reads the agent in blocks of 2 KiB, each through another thread. With
		// two emulated processors that takes seconds.
		"vfs.cd9660.use_buf_pager": "0",
		// The kernel does not test emulated memory.
		"hw.memtest.tests": "0",
	}
	if arch != "amd64" {
		// On arm64 and riscv64 a device tree describes the machine, and a kernel would tick a
		// thousand times a second. On amd64 the kernel knows that it is emulated, and ticks a
		// hundred times.
		env["kern.hz"] = "100"
		return env
	}
	for name, value := range map[string]string{
		"console":           "comconsole",
		"hint.uart.0.at":    "isa",
		"hint.uart.0.port":  "0x3F8",
		"hint.uart.0.flags": "0x10",
		"hint.uart.0.irq":   "4",
		"hint.uart.0.baud":  "115200",
		"hw.uart.console":   "io:0x3f8,br:115200",
		// The kernel does not wait for a keyboard.
		"hint.atkbdc.0.disabled": "1",
		"hint.atkbd.0.disabled":  "1",
	} {
		env[name] = value
	}
	return env
}
