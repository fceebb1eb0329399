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
		{"of Linux", "amd64", program(t, elf.ELFOSABI_LINUX, elf.EM_X86_64, elf.PT_LOAD), "this is a Linux program: set GOOS=freebsd"},
		{"for arm64", "amd64", program(t, elf.ELFOSABI_FREEBSD, elf.EM_AARCH64, elf.PT_LOAD), "it is for arm64, the guest is amd64 (build it with GOARCH=amd64)"},
		{"for amd64 on arm64", "arm64", program(t, elf.ELFOSABI_FREEBSD, elf.EM_X86_64, elf.PT_LOAD), "it is for amd64, the guest is arm64"},
		{"unmarked, as Go makes them for Linux", "", program(t, elf.ELFOSABI_NONE, elf.EM_X86_64, elf.PT_LOAD), "this is a Linux program: set GOOS=freebsd"},
		{"of NetBSD", "", program(t, elf.ELFOSABI_NETBSD, elf.EM_X86_64, elf.PT_LOAD), "it is a program for NETBSD, not for FreeBSD: set GOOS=freebsd"},
		{"of macOS", "", []byte("\xcf\xfa\xed\xfe\x07\x00\x00\x01"), "this is a macOS program"},
		{"of Windows", "", []byte("MZ\x90\x00\x03"), "this is a Windows program"},
		{"of a machine without guests", "", program(t, elf.ELFOSABI_FREEBSD, elf.EM_PPC64, elf.PT_LOAD), "it is for PPC64, and guests are amd64, arm64 or riscv64"},
		{"for whatever guest", "", program(t, elf.ELFOSABI_FREEBSD, elf.EM_RISCV, elf.PT_LOAD), ""},
		{"a script", "amd64", []byte("#!/bin/sh\n"), "it is not an ELF file"},
		{"empty", "amd64", nil, "it is not an ELF file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "program")
			require.NoError(t, os.WriteFile(path, tt.file, 0o755))
			_, _, err := CheckProgram(path, tt.arch)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrProgram)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestGuestOfAProgram(t *testing.T) {
	for _, tt := range []struct {
		machine        elf.Machine
		program, guest string
	}{
		{elf.EM_X86_64, "amd64", "amd64"}, {elf.EM_386, "386", "amd64"},
		{elf.EM_AARCH64, "arm64", "arm64"}, {elf.EM_ARM, "arm", "arm64"},
		{elf.EM_RISCV, "riscv64", "riscv64"},
	} {
		path := filepath.Join(t.TempDir(), "program")
		require.NoError(t, os.WriteFile(path, program(t, elf.ELFOSABI_FREEBSD, tt.machine, elf.PT_LOAD),
			0o755))
		program, guest, err := CheckProgram(path, "")
		require.NoError(t, err)
		assert.Equal(t, [2]string{tt.program, tt.guest}, [2]string{program, guest})
	}
}
