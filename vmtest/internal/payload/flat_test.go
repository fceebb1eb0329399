package payload

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// otherKernel is the file of a kernel for a machine that is not amd64, whose
// first segment begins with the ELF header.
func otherKernel(machine elf.Machine) []byte {
	const base = 0xffff000000000000
	file := kernelFile(func(_, h []byte, progs [][]byte) {
		le.PutUint16(h[2:], uint16(machine))
		le.PutUint64(h[8:], base+0x110)
		le.PutUint64(progs[0][8:], 0) // from the start of the file
		le.PutUint64(progs[0][16:], base)
		le.PutUint64(progs[0][32:], 0x180)
		le.PutUint64(progs[0][40:], 0x180)
		le.PutUint64(progs[1][16:], base+0x1000)
	})
	copy(file[0x120:], "@(#)FreeBSD 14.0-STABLE #0 main\n")
	return file
}

func TestFlatKernel(t *testing.T) {
	file := otherKernel(elf.EM_AARCH64)
	k, err := ParseKernel(file)
	require.NoError(t, err)
	assert.Equal(t, "arm64", k.Arch)
	image, err := k.Flat()
	require.NoError(t, err)

	require.Len(t, image, 0x1040)
	assert.Equal(t, uint32(0x14000000+0x110/4), le.Uint32(image), "a branch to the entry")
	assert.Equal(t, uint64(0), le.Uint64(image[8:]), "offset of the text")
	assert.Equal(t, uint64(0x4000), le.Uint64(image[16:]), "size with bss")
	assert.Equal(t, uint64(8), le.Uint64(image[24:]), "flags")
	assert.Equal(t, "ARMd", string(image[56:60]))
	assert.Equal(t, file[0x100:0x180], image[0x100:0x180], "text at its place")
	assert.Equal(t, make([]byte, 0x1000-0x180), image[0x180:0x1000])
	assert.Equal(t, bytes.Repeat([]byte{0xbb}, 0x40), image[0x1000:])
}

func TestCommandLine(t *testing.T) {
	env := map[string]string{"b": "2", "a": "x=1"}
	for arch, want := range map[string]string{"arm64": "FreeBSD: a=x=1 b=2", "riscv64": "a=x=1 b=2"} {
		got, err := CommandLine(arch, env)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	_, err := CommandLine("arm64", map[string]string{"a": "b c"})
	assert.ErrorContains(t, err, "no spaces")
}

func TestInfoIsKnownOrUnknown(t *testing.T) {
	conf := "options\tINVARIANTS\noptions \tVIMAGE=1\ndevice\tepair\n"
	for _, tt := range []struct {
		name, conf, symbol string
		want               [3]string // of INVARIANTS, VIMAGE and a driver that is not there
	}{
		{"by its configuration", conf, "", [3]string{Yes, Yes, No}},
		{"by a configuration that includes another", "include GENERIC\n" + conf, "", [3]string{Yes, Yes, Unknown}},
		{"by its symbols", "", "vnet_alloc", [3]string{No, Yes, No}},
		{"by both", "include GENERIC\n", "vnet_alloc", [3]string{No, Yes, No}},
		{"by neither", "", "", [3]string{Unknown, Unknown, Unknown}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			names := map[string]bool{}
			if tt.symbol != "" {
				names[tt.symbol] = true
			}
			assert.Equal(t, tt.want, [3]string{
				option([]byte(tt.conf), "options INVARIANTS", names, "__mtx_assert"),
				option([]byte(tt.conf), "options VIMAGE", names, "vnet_alloc"),
				option([]byte(tt.conf), "device ath", names, "ath_attach"),
			})
		})
	}
}

func TestReadInfo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kernel-riscv64")
	require.NoError(t, os.WriteFile(path, otherKernel(elf.EM_RISCV), 0o644))
	info, err := ReadInfo(path)
	require.NoError(t, err)
	assert.Equal(t, &Info{Arch: "riscv64", Release: "14.0-STABLE", Invariants: Unknown,
		VIMAGE: Unknown, Compat32: Unknown, Epair: Unknown}, info)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "if_epair.ko"), nil, 0o644))
	info, err = ReadInfo(path)
	require.NoError(t, err)
	assert.Equal(t, Module, info.Epair)
	require.NoError(t, os.WriteFile(path, kernelFile(nil), 0o644))
	info, err = ReadInfo(path)
	require.NoError(t, err)
	assert.Equal(t, Unknown, info.Release)
	require.NoError(t, os.WriteFile(path, []byte("text"), 0o644))
	_, err = ReadInfo(path)
	require.ErrorIs(t, err, ErrNotKernel)
}
