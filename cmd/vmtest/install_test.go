//go:build unix

package main

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestThreeLinesOfThePage does what docs/vmtest.md tells others to: exactly those lines, in a
// module of its own. The command comes from a module proxy in a folder, which has this very source.
func TestThreeLinesOfThePage(t *testing.T) {
	needGuest(t)
	page, err := os.ReadFile("../../docs/vmtest.md")
	require.NoError(t, err)
	m := regexp.MustCompile("(?s)## Your project's CI in three lines\n\n" +
		"```sh\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, m)
	require.Equal(t, 3, strings.Count(string(m[1]), "\n"))

	work, bin, proxy := t.TempDir(), t.TempDir(), t.TempDir()
	publish(t, proxy, "github.com/zbuf-go/zbuf", "v1.0.0")
	for name, text := range map[string]string{
		"go.mod": "module example.com/scratch\n\ngo 1.24\n",
		"a_test.go": "package a\n\nimport (\n\t\"runtime\"\n\t\"testing\"\n)\n\n" +
			"func TestThere(t *testing.T) {\n\tif runtime.GOOS != \"freebsd\" {\n" +
			"\t\tt.Fatal(runtime.GOOS)\n\t}\n}\n",
		"sub/b_test.go": "package b\n\nimport \"testing\"\n\nfunc TestToo(t *testing.T) {}\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(work, name), []byte(text), 0o644))
	}
	downloads, err := exec.Command("go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-exc", string(m[1]))
	cmd.Dir = work
	local := "file://" + strings.TrimSpace(string(downloads)) + "/cache/download"
	cmd.Env = append(os.Environ(), "GOBIN="+bin,
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "CGO_ENABLED=0", "GOWORK=off",
		"GOPROXY=file://"+proxy+","+local, "GOSUMDB=off", "GOMODCACHE="+t.TempDir(),
		"GOFLAGS="+os.Getenv("GOFLAGS")+" -modcacherw")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "ok  \texample.com/scratch\t")
	assert.Contains(t, string(out), "ok  \texample.com/scratch/sub\t")

	version, err := exec.Command(filepath.Join(bin, "vmtest"), "--version").Output()
	require.NoError(t, err)
	assert.Contains(t, string(version), "vmtest version v1.0.0 ")
}

// publish lays this module out as a proxy serves it, see go help goproxy.
func publish(t *testing.T, proxy, module, version string) {
	t.Helper()
	const top = "../.."
	out, err := exec.Command("git", "-C", top, "ls-files", "-z", "--cached", "--others",
		"--exclude-standard").Output()
	if err != nil {
		t.Skipf("NOT RUN: lists the module's files with git: %v", err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	var nested []string // modules of their own
	for _, f := range files {
		if dir, ok := strings.CutSuffix(f, "/go.mod"); ok {
			nested = append(nested, dir+"/")
		}
	}
	dir := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	z, err := os.Create(filepath.Join(dir, version+".zip"))
	require.NoError(t, err)
	defer z.Close()
	w := zip.NewWriter(z)
next:
	for _, f := range files {
		for _, n := range nested {
			if strings.HasPrefix(f, n) {
				continue next
			}
		}
		b, err := os.ReadFile(filepath.Join(top, f))
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		require.NoError(t, err)
		e, err := w.Create(module + "@" + version + "/" + f)
		require.NoError(t, err)
		_, err = e.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	mod, err := os.ReadFile(filepath.Join(top, "go.mod"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		version + ".mod":  string(mod),
		version + ".info": `{"Version":"` + version + `"}`,
		"list":            version + "\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}
