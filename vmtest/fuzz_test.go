package vmtest

import (
	"bytes"
	"debug/elf"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzCheckELF: whatever the file is, what is accepted is for the guest's processor.
func FuzzCheckELF(f *testing.F) {
	self, err := os.Open("/proc/self/exe")
	if err == nil {
		head := make([]byte, 4096)
		n, _ := self.ReadAt(head, 0)
		self.Close()
		f.Add(head[:n], false)
	}
	// An ELF file without sections or segments: class, order, version, system; executable, x86-64.
	f.Add(append(
		[]byte("\x7fELF\x02\x01\x01\x09\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00\x01\x00\x00\x00"),
		make([]byte, 40)...), true)
	f.Fuzz(func(t *testing.T, file []byte, arm bool) {
		arch, want := "amd64", []elf.Machine{elf.EM_X86_64, elf.EM_386}
		if arm {
			arch, want = "arm64", []elf.Machine{elf.EM_AARCH64, elf.EM_ARM}
		}
		program, guest, err := checkELF(bytes.NewReader(file), arch)
		if err != nil {
			return
		}
		require.Equal(t, arch, guest)
		require.NotEmpty(t, program)
		e, err := elf.NewFile(bytes.NewReader(file))
		require.NoError(t, err)
		require.Contains(t, want, e.Machine)
	})
}
