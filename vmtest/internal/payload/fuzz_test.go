package payload

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzFindModules: whatever the file of a module is, it is loaded once and behind what it needs, or
// refused.
func FuzzFindModules(f *testing.F) {
	f.Add(kernelFile(nil), kernelFile(nil))
	f.Add(kernelFile(nil), []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"if_em": a, "virtio": b} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name+".ko"), data, 0o600))
		}
		m, err := FindModules(&Kernel{Path: filepath.Join(dir, "kernel"), machine: elf.EM_X86_64},
			[]string{"if_em"})
		if err != nil {
			return
		}
		require.Len(t, m.Files, len(m.Load))
		for i, name := range m.Load {
			require.NotContains(t, m.Load[:i], name)
			require.Equal(t, "boot/kernel/"+name+".ko", m.Files[i].Path)
		}
		require.True(t, slices.Contains(m.Load, "virtio"), "the agent needs it")
	})
}
