package payload

import (
	"bytes"
	"debug/elf"
	"io"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	testBase  = kernBase + 0x200000
	testEntry = testBase + 0x10
)

// kernelFile makes the file of a kernel with one segment of text and one of
// data with bss, as edit changes it.
func kernelFile(edit func(ident, header []byte, progs [][]byte)) []byte {
	ident := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0}
	var h []byte
	h = le.AppendUint16(h, uint16(elf.ET_EXEC))
	h = le.AppendUint16(h, uint16(elf.EM_X86_64))
	h = le.AppendUint32(h, 1)
	h = le.AppendUint64(h, testEntry)
	h = le.AppendUint64(h, 64)
	h = le.AppendUint64(h, 0)
	h = le.AppendUint32(h, 0)
	for _, v := range []uint16{64, 56, 2, 64, 0, 0} {
		h = le.AppendUint16(h, v)
	}
	prog := func(off, vaddr, filesz, memsz uint64) []byte {
		p := le.AppendUint32(nil, uint32(elf.PT_LOAD))
		p = le.AppendUint32(p, 7)
		for _, v := range []uint64{off, vaddr, vaddr, filesz, memsz, 4096} {
			p = le.AppendUint64(p, v)
		}
		return p
	}
	progs := [][]byte{
		prog(0x100, testBase, 0x80, 0x80),
		prog(0x180, testBase+0x1000, 0x40, 0x3000),
	}
	if edit != nil {
		edit(ident, h, progs)
	}
	file := append(append(ident, h...), bytes.Join(progs, nil)...)
	file = append(file, make([]byte, 0x100-len(file))...)
	file = append(file, bytes.Repeat([]byte{0xaa}, 0x80)...)
	return append(file, bytes.Repeat([]byte{0xbb}, 0x40)...)
}

func TestParseKernelRefusesWhatIsNone(t *testing.T) {
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "EOF"},
		{"no ELF", []byte(strings.Repeat("text ", 100)), "bad magic"},
		{"another ABI", kernelFile(func(id, _ []byte, _ [][]byte) { id[7] = 3 }), "ELFOSABI_LINUX"},
		{"another machine", kernelFile(func(_, h []byte, _ [][]byte) {
			le.PutUint16(h[2:], uint16(elf.EM_ARM))
		}), "EM_ARM"},
		{"a program of another machine", kernelFile(func(_, h []byte, _ [][]byte) {
			le.PutUint16(h[2:], uint16(elf.EM_AARCH64))
		}), "does not tell its release"},
		{"an object file", kernelFile(func(_, h []byte, _ [][]byte) {
			le.PutUint16(h, uint16(elf.ET_REL))
		}), "ET_REL"},
		{"a program", kernelFile(func(_, _ []byte, p [][]byte) { le.PutUint64(p[0][16:], 0x400000) }),
			"outside of kernel memory"},
		{"below 2 MiB", kernelFile(func(_, _ []byte, p [][]byte) { le.PutUint64(p[0][16:], kernBase) }),
			"outside of kernel memory"},
		{"beyond the page tables", kernelFile(func(_, _ []byte, p [][]byte) {
			le.PutUint64(p[1][40:], 2<<30)
		}), "outside of kernel memory"},
		{"size that overflows", kernelFile(func(_, _ []byte, p [][]byte) {
			le.PutUint64(p[1][40:], 1<<64-1)
		}), "outside of kernel memory"},
		{"cut short", kernelFile(nil)[:0x190], "cut short"},
		{"overlap", kernelFile(func(_, _ []byte, p [][]byte) { le.PutUint64(p[1][16:], testBase+0x10) }),
			"overlap"},
		{"entry in no segment", kernelFile(func(_, h []byte, _ [][]byte) {
			le.PutUint64(h[8:], testBase+0x800)
		}), "in no segment"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseKernel(tt.file)
			require.ErrorIs(t, err, ErrNotKernel)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func FuzzParseKernel(f *testing.F) {
	f.Add(kernelFile(nil))
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := ParseKernel(file)
		if err != nil {
			require.ErrorIs(t, err, ErrNotKernel)
			return
		}
		_, err = Layout(Boot{Kernel: k})
		require.NoError(t, err)
	})
}

// memory is guest memory as QEMU fills it from an image.
type memory map[uint64][]byte

func load(t *testing.T, im *Image) (memory, *elf.File, []byte) {
	t.Helper()
	var file bytes.Buffer
	n, err := im.WriteTo(&file)
	require.NoError(t, err)
	require.EqualValues(t, file.Len(), n)
	f, err := elf.NewFile(bytes.NewReader(file.Bytes()))
	require.NoError(t, err)
	m := memory{}
	for _, p := range f.Progs {
		data, err := io.ReadAll(p.Open())
		require.NoError(t, err)
		m[p.Paddr] = append(data, make([]byte, p.Memsz-p.Filesz)...)
	}
	return m, f, file.Bytes()
}

func (m memory) at(t *testing.T, addr uint64) []byte {
	t.Helper()
	for base, data := range m {
		if addr >= base && addr < base+uint64(len(data)) {
			return data[addr-base:]
		}
	}
	require.Failf(t, "nothing there", "address %#x", addr)
	return nil
}

func TestLayout(t *testing.T) {
	k, err := ParseKernel(kernelFile(nil))
	require.NoError(t, err)
	root := bytes.Repeat([]byte("root"), 3000)
	im, err := Layout(Boot{
		Kernel: k, Root: root, Entropy: []byte("chance"),
		Env: map[string]string{"b": "2", "a": "1"},
	})
	require.NoError(t, err)
	m, f, file := load(t, im)

	t.Run("Multiboot header", func(t *testing.T) {
		at := bytes.Index(file, []byte{0x02, 0xb0, 0xad, 0x1b})
		require.GreaterOrEqual(t, at, 0)
		assert.Zero(t, at%4)
		assert.LessOrEqual(t, at+headerSize, 8192)
		var sum uint32
		for i := range 3 {
			sum += le.Uint32(file[at+4*i:])
		}
		assert.Zero(t, sum)
		assert.Equal(t, elf.ELFCLASS32, f.Class)
		assert.EqualValues(t, headAddr+headerSize, f.Entry)
	})
	t.Run("kernel in its place, bss zero", func(t *testing.T) {
		assert.Equal(t, bytes.Repeat([]byte{0xaa}, 0x80), m.at(t, 0x200000)[:0x80])
		data := m.at(t, 0x201000)
		assert.Equal(t, bytes.Repeat([]byte{0xbb}, 0x40), data[:0x40])
		assert.Equal(t, make([]byte, 0x3000-0x40), data[0x40:0x3000])
	})
	stack := m.at(t, stackAddr)
	modulep, kernend := uint64(le.Uint32(stack[4:])), uint64(le.Uint32(stack[8:]))
	records := readRecords(t, m.at(t, modulep))
	t.Run("metadata", func(t *testing.T) {
		var types []uint32
		for _, r := range records {
			types = append(types, r.typ)
		}
		assert.Equal(t, []uint32{1, 2, 3, 4, 0x8007, 0x8006, 0x8008, 0x9001, 1, 2, 3, 4, 1, 2, 3, 4},
			types)
		assert.Equal(t, "/boot/kernel/kernel\x00", string(records[0].data))
		assert.Equal(t, "elf kernel\x00", string(records[1].data))
		assert.EqualValues(t, 0x200000, le.Uint64(records[2].data))
		assert.EqualValues(t, 0x4000, le.Uint64(records[3].data))
		assert.EqualValues(t, 0x1000, le.Uint32(records[4].data))
		assert.Equal(t, "a=1\x00b=2\x00\x00", string(m.at(t, le.Uint64(records[5].data))[:9]))
		assert.Equal(t, kernend, le.Uint64(records[6].data))
		assert.Len(t, records[7].data, smapSlots*smapEntry)
		assert.Equal(t, "mfs_root\x00", string(records[9].data))
		assert.Equal(t, root, m.at(t, le.Uint64(records[10].data))[:len(root)])
		assert.EqualValues(t, len(root), le.Uint64(records[11].data))
		assert.Equal(t, "boot_entropy_cache\x00", string(records[13].data))
		assert.Equal(t, "chance", string(m.at(t, le.Uint64(records[14].data))[:6]))
	})
	t.Run("kernend is behind everything", func(t *testing.T) {
		assert.Equal(t, im.End, kernend)
		for base, data := range m {
			assert.LessOrEqual(t, base+uint64(len(data)), kernend)
		}
	})
	t.Run("page tables", func(t *testing.T) {
		for _, virt := range []uint64{0, headAddr, modulep, kernBase + 0x200000, 1<<47 | 0x12345678} {
			want := virt & (mapped - 1)
			assert.Equal(t, want, walk(t, m, virt), "%#x", virt)
		}
	})
	t.Run("the memory map goes where its record is", func(t *testing.T) {
		code := m.at(t, headAddr+headerSize)
		at := bytes.IndexByte(code, 0xbf) // mov edi, imm32
		smap := uint64(le.Uint32(code[at+1:]))
		assert.EqualValues(t, smapSlots*smapEntry, le.Uint32(m.at(t, smap-4)))
		assert.EqualValues(t, modinfoSMAP, le.Uint32(m.at(t, smap-8)))
	})
}

func TestKernendOfLaterKernelsIsRelative(t *testing.T) {
	k, err := ParseKernel(kernelFile(nil))
	require.NoError(t, err)
	k.Relative = true
	im, err := Layout(Boot{Kernel: k})
	require.NoError(t, err)
	m, _, _ := load(t, im)
	assert.EqualValues(t, im.End-0x200000, le.Uint32(m.at(t, stackAddr)[8:]))
}

func TestLayoutRefusesWhatDoesNotFit(t *testing.T) {
	k, err := ParseKernel(kernelFile(nil))
	require.NoError(t, err)
	_, err = Layout(Boot{Kernel: k, Root: make([]byte, mapped)})
	assert.ErrorContains(t, err, "more than the 1 GiB")
}

// walk translates as the processor does.
func walk(t *testing.T, m memory, virt uint64) uint64 {
	const address = 0xffffffffff000
	table := uint64(tableAddr)
	for _, shift := range []int{39, 30} {
		e := le.Uint64(m.at(t, table+virt>>shift&511*8))
		require.EqualValues(t, 3, e&0xfff, "present, writable")
		table = e & address
	}
	e := le.Uint64(m.at(t, table+virt>>21&511*8))
	require.EqualValues(t, 0x83, e&0xfff, "present, writable, 2 MiB")
	return e&address | virt&(1<<21-1)
}

type record struct {
	typ  uint32
	data []byte
}

func readRecords(t *testing.T, b []byte) (out []record) {
	for {
		typ, n := le.Uint32(b), le.Uint32(b[4:])
		if typ == 0 && n == 0 {
			return out
		}
		require.Less(t, len(out), 100, "no end")
		out = append(out, record{typ, b[8 : 8+n]})
		b = b[roundUp(uint64(8+n), 8):]
	}
}

// TestTrampolineJumps follows the jumps of the hand-made code.
func TestTrampolineJumps(t *testing.T) {
	c := trampoline(0x300000, testEntry)
	find := func(code ...byte) int {
		at := bytes.Index(c, code)
		require.GreaterOrEqual(t, at, 0)
		return at
	}
	next, done := find(0x39, 0xee), find(0xbc, stackAddr&0xff, stackAddr>>8&0xff)
	jae, jz, jmp := next+2, find(0x85, 0xd2)+2, find(0x89, 0xde)+2
	require.Equal(t, []byte{0x73, 0x74, 0xeb}, []byte{c[jae], c[jz], c[jmp]})
	assert.Equal(t, done, jae+2+int(int8(c[jae+1])), "jae done")
	assert.Equal(t, done, jz+2+int(int8(c[jz+1])), "jz done")
	assert.Equal(t, next, jmp+2+int(int8(c[jmp+1])), "jmp next")
	far := find(0xea)
	assert.EqualValues(t, headAddr+headerSize+far+7, le.Uint32(c[far+1:]),
		"the far jump's target is behind it")
	assert.EqualValues(t, 8, le.Uint16(c[far+5:]), "code segment")
	entry := find(0x48, 0xb8)
	assert.EqualValues(t, uint64(testEntry), le.Uint64(c[entry+2:]))
	assert.Equal(t, []byte{0xff, 0xe0}, c[entry+10:], "jmp rax comes last")
}

func TestRoot(t *testing.T) {
	image, err := Root([]File{{"agent", []byte("program")},
		{"boot/kernel/if_bridge.ko", []byte("module")}}, []string{"dev"})
	require.NoError(t, err)
	im, err := iso9660.OpenImage(bytes.NewReader(image))
	require.NoError(t, err)
	root, err := im.RootDir()
	require.NoError(t, err)
	children, err := root.GetChildren()
	require.NoError(t, err)
	found := map[string]bool{}
	for _, c := range children {
		found[c.Name()] = c.IsDir()
		if c.Name() == "agent" {
			b, err := io.ReadAll(c.Reader())
			require.NoError(t, err)
			assert.Equal(t, "program", string(b))
		}
	}
	assert.Equal(t, map[string]bool{"agent": false, "boot": true, "dev": true}, found)
}
