//go:build unix

package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
)

func TestKeyTellsConfigurationsApart(t *testing.T) {
	base := Config{Kernel: "/k", Agent: "/a", MemMiB: 512, CPUs: 2, Modules: []string{"x"}}
	assert.Equal(t, base.Key(), base.Key())
	seen := map[string]bool{base.Key(): true}
	for _, change := range []func(c *Config){
		func(c *Config) { c.Kernel = "/other" },
		func(c *Config) { c.KernelTime = time.Unix(1, 0) },
		func(c *Config) { c.Agent = "/b" },
		func(c *Config) { c.MemMiB = 513 },
		func(c *Config) { c.CPUs = 1 },
		func(c *Config) { c.Modules = nil },
		func(c *Config) { c.Tunables = []string{"a=b"} },
		func(c *Config) { c.Accel = "tcg" },
		func(c *Config) { c.ICount = true },
		func(c *Config) { c.Stall = time.Second },
		func(c *Config) { c.Private = "1" },
	} {
		c := base
		change(&c)
		assert.False(t, seen[c.Key()], "%+v", c)
		seen[c.Key()] = true
	}
}

func TestVerdictIsKeptForAProcessor(t *testing.T) {
	c := Config{Cache: t.TempDir(), Kernel: "/k", Arch: "amd64"}
	require.Nil(t, recall(c, "7.2"))
	remember(c, "7.2", qemu.KVM, errors.New("a reason"))
	for _, tt := range []struct {
		name    string
		change  func(c *Config)
		version string
		kept    bool
	}{
		{"the same", func(*Config) {}, "7.2", true},
		{"another kernel of the guest", func(c *Config) {
			c.Kernel, c.KernelTime = "/other", time.Unix(1, 0)
		}, "7.2", true},
		{"more memory", func(c *Config) { c.MemMiB = 4096 }, "7.2", true},
		{"another QEMU", func(*Config) {}, "8.0", false},
		{"another model for the guest", func(c *Config) { c.CPU = "max" }, "7.2", false},
		{"another architecture", func(c *Config) { c.Arch = "arm64" }, "7.2", false},
	} {
		other := c
		tt.change(&other)
		v := recall(other, tt.version)
		if !tt.kept {
			assert.Nil(t, v, tt.name)
			continue
		}
		require.NotNil(t, v, tt.name)
		assert.Equal(t, verdict{qemu.KVM, "a reason"}, *v, tt.name)
	}
	require.NoError(t, os.WriteFile(verdictPath(c, "7.2"), []byte("{"), 0o600))
	assert.Nil(t, recall(c, "7.2"), "broken")
}

func TestModelOfAProcessor(t *testing.T) {
	const intel = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n" +
		"model name\t: Xeon\nstepping\t: 7\ncpu MHz\t\t: %s\n\nprocessor\t: 1\nmodel\t\t: 86\n"
	assert.Equal(t, "GenuineIntel 6 85 Xeon 7", modelOf(strings.Replace(intel, "%s", "2500.1", 1)),
		"what changes from moment to moment does not count")
	assert.Equal(t, "0x41 0x3 0xd0c 1",
		modelOf("processor\t: 0\nBogoMIPS\t: 50\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\n"+
			"CPU part\t: 0xd0c\nCPU revision\t: 1\n\n"))
}

func TestSweepRemovesOldLeftoversAlone(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"boot-1": time.Hour, "disk-2": time.Hour,
		"boot-3": 0, "x.lock": time.Hour} {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, nil, 0o600))
		require.NoError(t, os.Chtimes(p, time.Time{}, now.Add(-age)))
	}
	sweep(dir, now)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(dir, "boot-3"), filepath.Join(dir, "x.lock")}, left)
}
