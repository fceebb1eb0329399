package payload

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Arch is Go's name for the architecture of a kernel that vmtest can boot, or empty.
func Arch(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_RISCV:
		return "riscv64"
	}
	return ""
}

// Answers of [Info]. If neither the kernel's configuration nor its symbols answer a question, the
// answer is unknown, not absent.
const (
	Yes     = "yes"
	No      = "no"
	Module  = "module"
	Unknown = "unknown"
)

// Info has the properties of a kernel that its file shows.
type Info struct {
	Arch    string
	Release string // such as 14.0-STABLE, or unknown
	// Options of the kernel's configuration.
	Invariants, VIMAGE, Compat32 string
	// Epair says whether the driver is built in or a module beside the kernel.
	Epair string
}

// ReadInfo reads the properties of the kernel file at path. It does not lay the kernel out.
func ReadInfo(path string) (*Info, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kernel file: %w", err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("kernel file %s: %w: %v", path, ErrNotKernel, err)
	}
	defer f.Close()
	info := &Info{Arch: Arch(f.Machine), Release: release(data)}
	if info.Arch == "" {
		return nil, fmt.Errorf("kernel file %s: %w: it is for %v", path, ErrNotKernel, f.Machine)
	}
	if info.Release == "" {
		info.Release = Unknown
	}
	syms, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, fmt.Errorf("kernel file %s: %w: symbols: %v", path, ErrNotKernel, err)
	}
	names := map[string]bool{}
	for _, s := range syms {
		names[s.Name] = true
	}
	var conf []byte
	if s := f.Section("kern_conf"); s != nil {
		conf, _ = s.Data() // without it, the symbols answer
	}
	info.Invariants = option(conf, "options INVARIANTS", names, "__mtx_assert")
	info.VIMAGE = option(conf, "options VIMAGE", names, "vnet_alloc")
	info.Compat32 = option(conf, "options COMPAT_FREEBSD32", names, "freebsd32_sysent")
	info.Epair = option(conf, "device epair", names, "epair_mod")
	if info.Epair != Yes {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "if_epair.ko")); err == nil {
			info.Epair = Module
		}
	}
	return info, nil
}

// option looks for a line in the configuration that a kernel carries. Without a configuration it
// looks for a symbol that only this option adds.
func option(conf []byte, want string, names map[string]bool, symbol string) string {
	whole := len(conf) > 0
	for line := range strings.Lines(string(conf)) {
		f := strings.Fields(strings.Trim(line, "\x00\n"))
		if len(f) < 2 {
			continue
		}
		name, _, _ := strings.Cut(f[1], "=")
		if f[0]+" "+name == want {
			return Yes
		}
		whole = whole && f[0] != "include" // that line refers to another file
	}
	switch {
	case names[symbol]:
		return Yes
	case len(names) > 0 || whole:
		return No
	}
	return Unknown
}

// release finds the kernel's name of itself. In SCCS, that is the what string.
func release(data []byte) string {
	const mark = "@(#)FreeBSD "
	at := bytes.Index(data, []byte(mark))
	if at < 0 {
		return ""
	}
	rest := data[at+len(mark):]
	end := bytes.IndexAny(rest[:min(len(rest), 64)], " \n\x00")
	if end <= 0 {
		return ""
	}
	return string(rest[:end])
}
