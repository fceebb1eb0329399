//go:build unix

package server

import (
	"errors"
	"os"
	"path/filepath"
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
		func(c *Config) { c.Private = "1" },
	} {
		c := base
		change(&c)
		assert.False(t, seen[c.Key()], "%+v", c)
		seen[c.Key()] = true
	}
}

func TestVerdictIsKeptForADayAndOneKernel(t *testing.T) {
	c := Config{Cache: t.TempDir(), Kernel: "/k"}
	require.Nil(t, recall(c, "7.2"))
	remember(c, "7.2", qemu.KVM, errors.New("a reason"))
	v := recall(c, "7.2")
	require.NotNil(t, v)
	assert.Equal(t, "a reason", v.Reason)
	assert.Equal(t, qemu.KVM, v.Accel)
	assert.Nil(t, recall(c, "8.0"), "another QEMU")
	other := c
	other.KernelTime = time.Unix(1, 0)
	assert.Nil(t, recall(other, "7.2"), "another kernel")

	old := `{"Accel":"kvm","Reason":"r","Time":"2001-01-01T00:00:00Z"}`
	require.NoError(t, os.WriteFile(verdictPath(c, "7.2"), []byte(old), 0o600))
	assert.Nil(t, recall(c, "7.2"), "too old")
	require.NoError(t, os.WriteFile(verdictPath(c, "7.2"), []byte("{"), 0o600))
	assert.Nil(t, recall(c, "7.2"), "broken")
}

func TestSweepRemovesOldLeftoversAlone(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"boot-1": time.Hour, "disk-2": time.Hour, "boot-3": 0, "x.lock": time.Hour} {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, nil, 0o600))
		require.NoError(t, os.Chtimes(p, time.Time{}, now.Add(-age)))
	}
	sweep(dir, now)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(dir, "boot-3"), filepath.Join(dir, "x.lock")}, left)
}
