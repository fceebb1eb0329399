//go:build unix

package vmtest

import (
	"bytes"
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChoiceOfAKernel(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", base)
	for _, tt := range []struct{ name, arch, want string }{
		{"", "amd64", base + "/vmtest/kernel-amd64"},
		{"", "riscv64", base + "/vmtest/kernel-riscv64"},
		{"14", "amd64", base + "/vmtest/kernel-amd64-14"},
		{"14", "arm64", base + "/vmtest/kernel-arm64-14"},
		{"kernel-amd64-14", "amd64", base + "/vmtest/kernel-amd64-14"},
		{"./kernel", "amd64", "./kernel"},
		{"/boot/kernel/kernel", "arm64", "/boot/kernel/kernel"},
	} {
		assert.Equal(t, tt.want, KernelPath(tt.name, tt.arch), "%q for %s", tt.name, tt.arch)
	}
}

// kernelFile is an ELF file of a machine that tells its release and its configuration by symbols or
// not at all.
func kernelFile(t *testing.T, path string, machine elf.Machine) {
	t.Helper()
	require.NoError(t, os.WriteFile(path,
		append(program(t, elf.ELFOSABI_FREEBSD, machine, elf.PT_NULL), "@(#)FreeBSD 14.0-STABLE x\n"...),
		0o644))
}

func TestKernelOfAnotherMachineIsRefusedBeforeBooting(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	prog := filepath.Join(dir, "prog")
	require.NoError(t, os.WriteFile(prog, program(t, elf.ELFOSABI_FREEBSD, elf.EM_AARCH64,
		elf.PT_LOAD), 0o755))
	kernel := filepath.Join(dir, "kernel")
	kernelFile(t, kernel, elf.EM_X86_64)
	c := DefaultConfig()
	c.Image, c.Kernel = "", kernel
	_, err := Run(context.Background(), c, prog, nil)
	assert.ErrorContains(t, err, "is for amd64, and the program for arm64")

	c.Kernel = "none"
	_, err = Run(context.Background(), c, prog, nil)
	assert.ErrorContains(t, err, "vmtest/kernel-arm64-none: `vmtest kernels` lists")
}

func TestKernelsAreListed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	list := func() (string, bool) {
		var b bytes.Buffer
		ok, err := Kernels(context.Background(), DefaultConfig(), false, &b)
		require.NoError(t, err)
		return b.String(), ok
	}
	out, ok := list()
	assert.True(t, ok)
	assert.Contains(t, out, "no kernels in")
	cache := filepath.Join(dir, "vmtest")
	kernelFile(t, filepath.Join(cache, "kernel-arm64"), elf.EM_AARCH64)
	kernelFile(t, filepath.Join(cache, "kernel-amd64-14"), elf.EM_X86_64)
	out, ok = list()
	assert.True(t, ok, out)
	assert.Regexp(t, `(?m)^kernel-amd64-14 +amd64 +14.0-STABLE +unknown +unknown +unknown +unknown$`,
		out)
	assert.Regexp(t, `(?m)^kernel-arm64 +arm64 +14.0-STABLE `, out)
	kernelFile(t, filepath.Join(cache, "kernel-riscv64"), elf.EM_AARCH64)
	out, ok = list()
	assert.False(t, ok)
	assert.Contains(t, out, "its name should begin with kernel-arm64")
}
