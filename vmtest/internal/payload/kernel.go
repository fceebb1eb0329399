package payload

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
)

// kernBase is KERNBASE of sys/amd64/include/vmparam.h. A segment's physical address is its virtual
// address minus kernBase.
const kernBase = 0xffffffff80000000

// lowMemory is the lowest address at which a kernel may start. The payload uses the memory below it
// to start the kernel.
const lowMemory = 2 << 20

// mapped is the amount of physical memory that the trampoline's page tables reach.
const mapped = 1 << 30

// ErrNotKernel is in the error of [OpenKernel] when the file can't be a FreeBSD kernel.
var ErrNotKernel = errors.New("not a FreeBSD kernel")

// Kernel is a FreeBSD kernel file that has been read and checked.
type Kernel struct {
	Path  string
	Arch  string // amd64, arm64 or riscv64
	Entry uint64
	// Relative says that the kernel counts kernend from its load base. 13 and later do so (they
	// have the symbol amd64_loadaddr).
	Relative bool

	segments []segment
	machine  elf.Machine
	modules  map[string]bool // built in, by name; empty if it is stripped
	symtab   []byte          // in the layout that ddb reads: u64 size, .symtab, u64 size, .strtab
}

type segment struct {
	phys uint64 // on arm64 and riscv64 counted from the start of the kernel
	data []byte
	size uint64 // with bss
}

// OpenKernel reads the kernel file at path.
func OpenKernel(path string) (*Kernel, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kernel file: %w", err)
	}
	k, err := ParseKernel(data)
	if err != nil {
		return nil, fmt.Errorf("kernel file %s: %w", path, err)
	}
	k.Path = path
	return k, nil
}

// ParseKernel checks the bytes of a kernel file and finds its parts.
func ParseKernel(data []byte) (*Kernel, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotKernel, err)
	}
	defer f.Close()
	arch := Arch(f.Machine)
	switch {
	case f.Class != elf.ELFCLASS64 || arch == "":
		return nil, fmt.Errorf("%w: it is for %v", ErrNotKernel, f.Machine)
	case arch == "amd64" && f.OSABI != elf.ELFOSABI_FREEBSD:
		return nil, fmt.Errorf("%w: its ABI mark is %v", ErrNotKernel, f.OSABI)
	case arch != "amd64" && release(data) == "": // linkers leave no ABI mark there
		return nil, fmt.Errorf("%w: it does not tell its release", ErrNotKernel)
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return nil, fmt.Errorf("%w: it is a %v", ErrNotKernel, f.Type)
	}
	k := &Kernel{Arch: arch, machine: f.Machine, Entry: f.Entry, modules: map[string]bool{}}
	base, lowest, found := uint64(kernBase), uint64(lowMemory), arch == "amd64"
	entered := false
	for i, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Memsz == 0 {
			continue
		}
		if !found { // these run anywhere, at a start that is a multiple of 2 MiB
			base, lowest, found = p.Vaddr&^(imageAlign-1), 0, true
		}
		if p.Vaddr < base+lowest || p.Memsz > mapped || p.Vaddr-base+p.Memsz > mapped {
			return nil, fmt.Errorf("%w: segment %d lies at %#x, outside of kernel memory", ErrNotKernel, i,
				p.Vaddr)
		}
		if p.Filesz > p.Memsz || p.Off > uint64(len(data)) || p.Filesz > uint64(len(data))-p.Off {
			return nil, fmt.Errorf("%w: segment %d runs over the end of the file: it is cut short",
				ErrNotKernel, i)
		}
		if f.Entry >= p.Vaddr && f.Entry-p.Vaddr < p.Filesz {
			entered = true
		}
		k.segments = append(k.segments, segment{
			phys: p.Vaddr - base,
			data: data[p.Off : p.Off+p.Filesz],
			size: p.Memsz,
		})
	}
	for i := 1; i < len(k.segments); i++ {
		if prev := k.segments[i-1]; k.segments[i].phys < prev.phys+prev.size {
			return nil, fmt.Errorf("%w: its segments overlap or are out of order", ErrNotKernel)
		}
	}
	if !entered {
		return nil, fmt.Errorf("%w: its entry %#x is in no segment", ErrNotKernel, f.Entry)
	}
	k.Entry -= base
	if arch == "amd64" {
		k.Entry = f.Entry
	}
	syms, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, fmt.Errorf("%w: symbols: %v", ErrNotKernel, err)
	}
	for _, s := range syms {
		if s.Name == "amd64_loadaddr" {
			k.Relative = true
		}
	}
	for _, name := range readModule(syms).provides {
		k.modules[name] = true
	}
	k.symtab = ddbSymbols(f)
	return k, nil
}

// base returns the physical address of the kernel's first byte.
func (k *Kernel) base() uint64 { return k.segments[0].phys }

// end returns the first physical byte behind the kernel and its bss.
func (k *Kernel) end() uint64 {
	last := k.segments[len(k.segments)-1]
	return last.phys + last.size
}

// ddbSymbols lays out the symbol table as the loader does for ddb. So the backtrace of a panic has
// names. A stripped kernel has no symbols.
func ddbSymbols(f *elf.File) []byte {
	var tab *elf.Section
	for _, s := range f.Sections {
		if s.Type == elf.SHT_SYMTAB {
			tab = s
		}
	}
	if tab == nil || int(tab.Link) >= len(f.Sections) {
		return nil
	}
	var out []byte
	for _, s := range []*elf.Section{tab, f.Sections[tab.Link]} {
		b, err := s.Data()
		if err != nil {
			return nil
		}
		out = le.AppendUint64(out, uint64(len(b)))
		out = pad(append(out, b...), 8)
	}
	return out
}
