package payload

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadModule(t *testing.T) {
	var syms []elf.Symbol
	for _, n := range []string{"bridge_init", "_mod_metadata_if_bridge_version",
		"_if_bridge_depend_on_kernel", "_if_bridge_depend_on_bridgestp",
		"_mod_metadata_md_if_bridge_on_kernel"} {
		syms = append(syms, elf.Symbol{Name: n})
	}
	assert.Equal(t, module{provides: []string{"if_bridge"}, needs: []string{"kernel", "bridgestp"}},
		readModule(syms))
}

func TestLoadOrder(t *testing.T) {
	files := map[string]module{
		"if_bridge": {provides: []string{"if_bridge"}, needs: []string{"kernel", "bridgestp"}},
		"bridgestp": {provides: []string{"bridgestp"}, needs: []string{"kernel"}},
		"if_vtnet":  {provides: []string{"vtnet"}, needs: []string{"virtio"}},
		"tmpfs":     {provides: []string{"tmpfs"}},
		"ring_a":    {needs: []string{"ring_b"}},
		"ring_b":    {needs: []string{"ring_a"}},
	}
	read := func(name string) (*module, error) {
		if name == "broken" {
			return nil, errors.New("broken")
		}
		if m, ok := files[name]; ok {
			return &m, nil
		}
		return nil, nil
	}
	for _, tt := range []struct {
		name    string
		wanted  []string
		builtIn map[string]bool
		want    []string
	}{
		{"needed ones first", []string{"tmpfs", "if_bridge"}, nil, []string{"tmpfs", "bridgestp", "if_bridge"}},
		{"each once", []string{"if_bridge", "bridgestp", "if_bridge"}, nil, []string{"bridgestp", "if_bridge"}},
		{"built in under its name", []string{"tmpfs"}, map[string]bool{"tmpfs": true}, nil},
		{"built in under another name", []string{"if_vtnet"}, map[string]bool{"vtnet": true}, nil},
		{"no file", []string{"if_epair"}, nil, nil},
		{"a ring ends", []string{"ring_a"}, nil, []string{"ring_b", "ring_a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := loadOrder(tt.wanted, tt.builtIn, read)
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
	_, err := loadOrder([]string{"broken"}, nil, read)
	require.Error(t, err)
}

func TestFindModules(t *testing.T) {
	dir := t.TempDir()
	k := &Kernel{Path: filepath.Join(dir, "kernel"), machine: elf.EM_X86_64,
		modules: map[string]bool{"if_epair": true}}
	m, err := FindModules(k, []string{"if_epair", "if_tap"})
	require.NoError(t, err)
	assert.Equal(t, []string{"tmpfs", "if_tap"}, m.Required, "the agent looks for what may "+
		"be built in")
	assert.Empty(t, m.Files)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "if_tap.ko"), []byte("text"), 0o644))
	_, err = FindModules(k, []string{"if_tap"})
	require.ErrorContains(t, err, "kernel module if_tap.ko")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "if_tap.ko"), kernelFile(nil), 0o644))
	m, err = FindModules(k, []string{"if_tap"})
	require.NoError(t, err)
	assert.Equal(t, []string{"if_tap"}, m.Load)
	require.Len(t, m.Files, 1)
	assert.Equal(t, "boot/kernel/if_tap.ko", m.Files[0].Path)
}
