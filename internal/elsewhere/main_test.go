package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the compiler or go vet for a system and processor would refuse, the check refuses too, and
// nothing else.
func TestCheckRefusesWhatTheCompilerAndVetRefuse(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("no go command here, which knows the packages: %v", err)
	}
	const good = "package m\n\nfunc F() int { return 1 }\n"
	for name, c := range map[string]struct {
		files  map[string]string
		target string
		want   string // is in the error; none if empty
	}{
		"good": {map[string]string{
			"m.go":      good,
			"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestF(t *testing.T) { t.Log(F()) }\n",
		}, "freebsd/riscv64", ""},
		"for this system alone": {map[string]string{
			"m.go": good, "m_freebsd.go": "package m\n\nvar x string = F()\n",
		}, "freebsd/arm64", "m_freebsd.go:3:16: cannot use F()"},
		"for another system": {map[string]string{
			"m.go": good, "m_freebsd.go": "package m\n\nvar x string = F()\n",
		}, "windows/amd64", ""},
		"what the system's library lacks": {map[string]string{
			"m.go": "package m\n\nimport \"syscall\"\n\nfunc F() error { return syscall.Flock(0, 0) }\n",
		}, "windows/amd64", "undefined: syscall.Flock"},
		"in a function": {map[string]string{
			"m.go": "package m\n\nfunc F() { unused := 1 }\n",
		}, "linux/amd64", "declared and not used"},
		"a constant too large for the processor": {map[string]string{
			"m.go": "package m\n\nconst C int = 1 << 40\n",
		}, "freebsd/386", "cannot use 1 << 40"},
		"the same where it fits": {map[string]string{
			"m.go": "package m\n\nconst C int = 1 << 40\n",
		}, "freebsd/amd64", ""},
		"in a test": {map[string]string{
			"m.go": good, "m_test.go": "package m\n\nvar _ = G()\n",
		}, "linux/amd64", "undefined: G"},
		"in a test from outside, which uses what a test exports": {map[string]string{
			"m.go": good, "in_test.go": "package m\n\nvar Inside = F\n",
			"out_test.go": "package m_test\n\nimport \"example.com/m\"\n\nvar _ string = m.Inside()\n",
		}, "linux/amd64", "cannot use m.Inside()"},
		"an import that nobody has": {map[string]string{
			"m.go": "package m\n\nimport _ \"example.com/m/none\"\n",
		}, "linux/amd64", "none"},
		"what vet finds": {map[string]string{
			"m.go": "package m\n\nimport \"fmt\"\n\nfunc F() string { return fmt.Sprintf(\"%d\", \"x\") }\n",
		}, "freebsd/arm64", "m.go:5:39: fmt.Sprintf format %d has arg \"x\" of wrong type string"},
		"what vet finds through another package": {map[string]string{
			"a/a.go": "package a\n\nimport \"fmt\"\n\nfunc Logf(f string, a ...any) { fmt.Printf(f, a...) }",
			"m.go":   "package m\n\nimport \"example.com/m/a\"\n\nfunc F() { a.Logf(\"%d\", \"x\") }\n",
		}, "freebsd/arm64", "a.Logf format %d has arg"},
		"what vet finds for this processor alone": {map[string]string{
			"m.go": "package m\n\nfunc F(i int) int { return i << 40 }\n",
		}, "freebsd/arm", "too small for shift of 40"},
		"the same on another": {map[string]string{
			"m.go": "package m\n\nfunc F(i int) int { return i << 40 }\n",
		}, "freebsd/arm64", ""},
		"no package": {map[string]string{}, "linux/amd64", "no packages"},
		"no target":  {map[string]string{"m.go": good}, "linux", "GOOS/GOARCH"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.files["go.mod"] = "module example.com/m\n\ngo 1.26\n"
			for file, text := range c.files {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			n, err := check(dir, c.target)
			if c.want == "" {
				require.NoError(t, err)
				assert.Positive(t, n)
				return
			}
			require.Error(t, err)
			assert.Contains(t, strings.ReplaceAll(err.Error(), "\n", " "), c.want)
		})
	}
}
