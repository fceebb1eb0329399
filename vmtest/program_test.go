package vmtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program makes an ELF file with one program header and no section.
func program(t *testing.T, abi elf.OSABI, machine elf.Machine, header elf.ProgType) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident:   [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT), byte(abi)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}))
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(header)}))
	return b.Bytes()
}

func TestCheckProgram(t *testing.T) {
	for _, tt := range []struct {
		name, arch string
		file       []byte
		want       string
	}{
		{"static for amd64", "amd64", program(t, elf.ELFOSABI_FREEBSD, elf.EM_X86_64, elf.PT_LOAD), ""},
		{"static for arm64", "arm64", program(t, elf.ELFOSABI_FREEBSD, elf.EM_AARCH64, elf.PT_LOAD), ""},
		{"dynamic", "amd64", program(t, elf.ELFOSABI_FREEBSD, elf.EM_X86_64, elf.PT_INTERP), "it is dynamically linked and the guest has no libraries (build it with CGO_ENABLED=0, without -race)"},
		{"of Linux", "amd64", program(t, elf.ELFOSABI_LINUX, elf.EM_X86_64, elf.PT_LOAD), "for LINUX, not for FreeBSD"},
		{"for arm64", "amd64", program(t, elf.ELFOSABI_FREEBSD, elf.EM_AARCH64, elf.PT_LOAD), "it is for AARCH64, the guest runs amd64 and 386"},
		{"for amd64 on arm64", "arm64", program(t, elf.ELFOSABI_FREEBSD, elf.EM_X86_64, elf.PT_LOAD), "it is for X86_64, the guest runs arm64"},
		{"a script", "amd64", []byte("#!/bin/sh\n"), "it is not an ELF file"},
		{"empty", "amd64", nil, "it is not an ELF file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "program")
			require.NoError(t, os.WriteFile(path, tt.file, 0o755))
			err := CheckProgram(path, tt.arch)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrProgram)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}
