package payload

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"
)

var le = binary.LittleEndian

// Boot has everything that a guest starts with.
type Boot struct {
	Kernel *Kernel
	// Root is the file system image that becomes /dev/md0.
	Root []byte
	// Env is the kernel environment, see kenv(1) and loader.conf(5).
	Env map[string]string
	// Entropy seeds the kernel's random device. Without it early reads wait.
	Entropy []byte
}

// Types of metadata records, sys/linker.h.
const (
	modinfoEnd     = 0
	modinfoName    = 1
	modinfoType    = 2
	modinfoAddr    = 3
	modinfoSize    = 4
	modinfoMD      = 0x8000
	modinfoSSYM    = modinfoMD | 3
	modinfoESYM    = modinfoMD | 4
	modinfoEnvp    = modinfoMD | 6
	modinfoHowto   = modinfoMD | 7
	modinfoKernend = modinfoMD | 8
	modinfoSMAP    = modinfoMD | 0x1001
)

// rbSerial (RB_SERIAL, sys/reboot.h) makes the serial port the console.
const rbSerial = 0x1000

const pageSize = 4096

// Image is a Multiboot image that has been laid out.
type Image struct {
	segments []segment
	// End is the first physical byte that the image does not use.
	End uint64
}

// Layout places all parts of b in guest memory.
//
//	1 MiB   Multiboot header, trampoline, GDT, stack, page tables
//	2 MiB+  the kernel's segments, bss included
//	behind  symbols, environment, metadata, entropy, root file system
func Layout(b Boot) (*Image, error) {
	k := b.Kernel
	at := roundUp(k.end(), pageSize)
	var behind []segment
	place := func(data []byte) uint64 {
		phys := at
		if len(data) > 0 {
			behind = append(behind, segment{phys: phys, data: data, size: uint64(len(data))})
			at = roundUp(at+uint64(len(data)), pageSize)
		}
		return phys
	}

	syms := place(k.symtab)
	env := place(environment(b.Env))
	entropy := place(b.Entropy)
	root := place(b.Root)
	// The metadata holds kernend, and kernend is behind the metadata. The size of the metadata does
	// not depend on the values in it.
	p := places{syms: syms, symEnd: syms + uint64(len(k.symtab)), env: env, entropy: entropy,
		root: root}
	size := len(b.metadata(p).b)
	p.kernend = roundUp(at+uint64(size), pageSize)
	if k.Relative {
		p.kernend -= k.base()
	}
	meta := b.metadata(p)
	metaAddr := place(meta.b)
	if at > mapped {
		return nil, fmt.Errorf("boot payload: kernel and root take %d MiB, more than the 1 GiB a kernel "+
			"can be started in", at>>20)
	}

	head := multibootHeader()
	head = append(head, trampoline(metaAddr+uint64(meta.smap), k.Entry)...)
	if len(head) > gdtAddr-headAddr {
		return nil, fmt.Errorf("boot payload: trampoline of %d bytes runs into the GDT", len(head))
	}
	head = append(head, make([]byte, gdtAddr-headAddr-len(head))...)
	head = append(head, gdt()...)
	head = append(head, make([]byte, stackAddr-headAddr-len(head))...)
	// 0(%rsp) is a return address that nobody uses, 4(%rsp) modulep, 8(%rsp) kernend.
	head = le.AppendUint32(head, 0)
	head = le.AppendUint32(head, uint32(metaAddr))
	head = le.AppendUint32(head, uint32(p.kernend))
	head = append(head, make([]byte, tableAddr-headAddr-len(head))...)
	head = append(head, pageTables()...)

	segs := []segment{{phys: headAddr, data: head, size: uint64(len(head))}}
	segs = append(segs, k.segments...)
	segs = append(segs, behind...)
	return &Image{segments: segs, End: at}, nil
}

type places struct{ syms, symEnd, env, entropy, root, kernend uint64 }

type metadata struct {
	b    []byte
	smap int // offset of the memory map's first entry
}

func (m *metadata) record(typ uint32, data []byte) {
	m.b = le.AppendUint32(m.b, typ)
	m.b = le.AppendUint32(m.b, uint32(len(data)))
	m.b = pad(append(m.b, data...), 8)
}

func (m *metadata) str(typ uint32, s string) { m.record(typ, append([]byte(s), 0)) }
func (m *metadata) u32(typ, v uint32)        { m.record(typ, le.AppendUint32(nil, v)) }
func (m *metadata) u64(typ uint32, v uint64) { m.record(typ, le.AppendUint64(nil, v)) }

func (m *metadata) module(name, typ string, addr uint64, size int) {
	m.str(modinfoName, name)
	m.str(modinfoType, typ)
	m.u64(modinfoAddr, addr)
	m.u64(modinfoSize, uint64(size))
}

// metadata lists the preloaded modules in the order of loader(8). The kernel comes first, with
// everything that describes the machine.
func (b *Boot) metadata(p places) *metadata {
	k := b.Kernel
	m := &metadata{}
	m.module("/boot/kernel/kernel", "elf kernel", k.base(), int(k.end()-k.base()))
	m.u32(modinfoHowto, rbSerial)
	m.u64(modinfoEnvp, p.env)
	m.u64(modinfoKernend, p.kernend)
	if len(k.symtab) > 0 {
		m.u64(modinfoSSYM, p.syms)
		m.u64(modinfoESYM, p.symEnd)
	}
	m.smap = len(m.b) + 8
	m.record(modinfoSMAP, make([]byte, smapSlots*smapEntry))
	if len(b.Root) > 0 {
		m.module("mfsroot", "mfs_root", p.root, len(b.Root))
	}
	if len(b.Entropy) > 0 {
		m.module("/boot/entropy", "boot_entropy_cache", p.entropy, len(b.Entropy))
	}
	m.b = le.AppendUint64(m.b, modinfoEnd)
	return m
}

// environment encodes name=value strings. A zero byte ends each string, and one more ends the list.
// The names are sorted, so equal input gives equal images.
func environment(env map[string]string) []byte {
	names := make([]string, 0, len(env))
	for n := range env {
		names = append(names, n)
	}
	sort.Strings(names)
	var b []byte
	for _, n := range names {
		b = append(b, n+"="+env[n]...)
		b = append(b, 0)
	}
	return append(b, 0)
}

// headerSize is the size of the Multiboot header. The trampoline follows it.
const headerSize = 12

// multibootHeader asks for a memory map (flag 1). The ELF headers have the rest.
func multibootHeader() []byte {
	const magic, flags = 0x1badb002, 2
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint32(b, flags)
	sum := uint32(magic + flags)
	return le.AppendUint32(b, -sum)
}

// WriteTo writes the image as a 32-bit ELF file.
func (im *Image) WriteTo(w io.Writer) (int64, error) {
	const ehsize, phentsize = 52, 32
	n := len(im.segments)
	var head []byte
	head = append(head, 0x7f, 'E', 'L', 'F', 1 /* 32-bit */, 1 /* little endian */, 1)
	head = append(head, make([]byte, 16-len(head))...)
	head = le.AppendUint16(head, 2) // ET_EXEC
	head = le.AppendUint16(head, 3) // EM_386
	head = le.AppendUint32(head, 1)
	head = le.AppendUint32(head, headAddr+headerSize)
	head = le.AppendUint32(head, ehsize) // program headers follow
	head = le.AppendUint32(head, 0)
	head = le.AppendUint32(head, 0)
	for _, v := range []int{ehsize, phentsize, n, 0, 0, 0} {
		head = le.AppendUint16(head, uint16(v))
	}
	// The Multiboot header must be in the first 8 KiB of the file. So the data of the first segment
	// comes directly after the headers.
	off := uint64(pageSize)
	for _, s := range im.segments {
		for _, v := range []uint64{
			1 /* PT_LOAD */, off, s.phys, s.phys, uint64(len(s.data)), s.size, 7, pageSize} {
			head = le.AppendUint32(head, uint32(v))
		}
		off += roundUp(uint64(len(s.data)), pageSize)
	}
	var total int64
	write := func(b []byte) error {
		for _, part := range [][]byte{b, make([]byte, roundUp(uint64(len(b)), pageSize)-uint64(len(b)))} {
			m, err := w.Write(part)
			total += int64(m)
			if err != nil {
				return fmt.Errorf("write boot payload: %w", err)
			}
		}
		return nil
	}
	if err := write(head); err != nil {
		return total, err
	}
	for _, s := range im.segments {
		if err := write(s.data); err != nil {
			return total, err
		}
	}
	return total, nil
}

func roundUp(v, to uint64) uint64 { return (v + to - 1) / to * to }

func pad(b []byte, to int) []byte {
	for len(b)%to != 0 {
		b = append(b, 0)
	}
	return b
}
