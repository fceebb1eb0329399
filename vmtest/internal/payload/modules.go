package payload

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// agentNeeds are the modules that the agent can't work without, and that a kernel may lack: its
// file system, its disk and its network card.
var agentNeeds = []string{"tmpfs", "virtio", "virtio_pci", "if_vtnet", "virtio_blk"}

// Modules are the kernel modules that go into a guest's root.
type Modules struct {
	Files []File
	// Load lists names in the order of loading, needed ones first.
	Load []string
	// Required lists the names that must be loaded or built in. The agent checks that.
	Required []string
}

// FindModules looks beside the kernel for the wanted modules, for those that the agent needs, and
// for those that they depend on. It leaves out the modules that the kernel has built in.
func FindModules(k *Kernel, wanted []string) (*Modules, error) {
	m := &Modules{}
	for _, name := range append([]string{"tmpfs"}, wanted...) {
		if !k.modules[name] {
			m.Required = append(m.Required, name)
		}
	}
	files := map[string][]byte{}
	read := func(name string) (*module, error) {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(k.Path), name+".ko"))
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil // the agent checks whether it is built in
		}
		if err != nil {
			return nil, fmt.Errorf("kernel module: %w", err)
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("kernel module %s.ko: %w", name, err)
		}
		defer f.Close()
		if f.Machine != k.machine {
			return nil, fmt.Errorf("kernel module %s.ko is for %v", name, f.Machine)
		}
		syms, err := f.Symbols()
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			return nil, fmt.Errorf("kernel module %s.ko: symbols: %w", name, err)
		}
		mod := readModule(syms)
		files[name] = data
		return &mod, nil
	}
	var err error
	if m.Load, err = loadOrder(append(append([]string{}, agentNeeds...), wanted...), k.modules,
		read); err != nil {
		return nil, err
	}
	for _, name := range m.Load {
		m.Files = append(m.Files, File{Path: "boot/kernel/" + name + ".ko", Data: files[name]})
	}
	return m, nil
}

// module has the facts that the symbols of a .ko file show.
type module struct{ provides, needs []string }

// The names that sys/module.h gives to the records of MODULE_VERSION and
// MODULE_DEPEND.
var (
	versionSymbol = regexp.MustCompile(`^_mod_metadata_(\w+)_version$`)
	dependSymbol  = regexp.MustCompile(`^_\w+_depend_on_(\w+)$`)
)

func readModule(syms []elf.Symbol) (m module) {
	for _, s := range syms {
		if v := versionSymbol.FindStringSubmatch(s.Name); v != nil {
			m.provides = append(m.provides, v[1])
		}
		if d := dependSymbol.FindStringSubmatch(s.Name); d != nil {
			m.needs = append(m.needs, d[1])
		}
	}
	return m
}

// loadOrder returns those wanted modules that read finds. Each module stands behind the modules
// that it needs. Built-in modules are left out.
func loadOrder(
	wanted []string, builtIn map[string]bool, read func(name string) (*module, error),
) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		if seen[name] || builtIn[name] {
			return nil
		}
		seen[name] = true
		m, err := read(name)
		if err != nil || m == nil {
			return err
		}
		there := len(m.provides) > 0
		for _, p := range m.provides {
			there = there && builtIn[p]
		}
		if there {
			return nil
		}
		for _, n := range m.needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		out = append(out, name)
		return nil
	}
	for _, name := range wanted {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}
