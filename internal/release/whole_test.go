package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small is a module as small as can be that has what a release takes from this one.
var small = map[string]string{
	"go.mod": "module example.org/small\n\ngo 1.26\n",
	"cmd/bpfctl/main.go": `package main

import "os"

func main() {
	if len(os.Args) > 2 && os.Mkdir(os.Args[2], 0o755) == nil {
		os.WriteFile(os.Args[2]+"/bpfctl.8", []byte("a page"), 0o644)
	}
}
`,
	"LICENSE": "licence", "README.md": "readme", "CHANGELOG.md": "changes",
	"docs/licences.md": "", "docs/prometheus/alerts.yml": "rules",
	"packaging/rc.d/bpfctl_x": "service",
}

// inSmall makes the working folder one with the module small in it.
func inSmall(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range small {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
}

func git(t *testing.T, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("git")
	if err != nil {
		t.Skipf("git names the commit of a release: %v", err)
	}
	as := []string{"-c", "user.name=x", "-c", "user.email=x@example.org"}
	out, err := exec.Command(tool, append(as, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func commitAll(t *testing.T) {
	t.Helper()
	git(t, "init", "-q")
	git(t, "add", ".")
	git(t, "commit", "-q", "-m", "Begin")
}

// A release has all files, their sums and the commit. A second one has the same bytes.
func TestRelease(t *testing.T) {
	inSmall(t)
	commitAll(t)
	out := t.TempDir()
	first, second := filepath.Join(out, "1"), filepath.Join(out, "2")
	require.NoError(t, release("v1.2.3", first, []string{"amd64"}))
	require.NoError(t, release("v1.2.3", second, []string{"amd64"}))
	const base = "bpfctl-v1.2.3-freebsd-amd64"
	names := []string{base + ".cdx.json", base + ".tar.gz"}
	sums := ""
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(first, name))
		require.NoError(t, err)
		again, err := os.ReadFile(filepath.Join(second, name))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(content, again), "%s has the same bytes", name)
		sums += fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name)
	}
	got, err := os.ReadFile(filepath.Join(first, "SHA256SUMS"))
	require.NoError(t, err)
	assert.Equal(t, sums, string(got))
	entries, err := os.ReadDir(first)
	require.NoError(t, err)
	assert.Len(t, entries, 3)

	packed := unpack(t, filepath.Join(first, base+".tar.gz"))
	for name, text := range map[string]string{"LICENSE": "licence", "README.md": "readme",
		"CHANGELOG.md": "changes", "man/man8/bpfctl.8": "a page", "rc.d/bpfctl_x": "service",
		"prometheus/alerts.yml": "rules"} {
		assert.Equal(t, text, string(packed[base+"/"+name]), name)
	}
	assert.Contains(t, string(packed[base+"/LICENCES-OF-MODULES.txt"]), "==== Go go1.")
	assert.Contains(t, string(packed[base+"/MODULES.txt"]), "vcs.revision=")
	materials, err := os.ReadFile(filepath.Join(first, base+".cdx.json"))
	require.NoError(t, err)
	assert.Equal(t, string(materials), string(packed[base+"/bpfctl.cdx.json"]))
	assert.Len(t, packed, 10)

	bom := decode(t, materials)
	program := sha256.Sum256(packed[base+"/bpfctl"])
	assert.Equal(t, fmt.Sprintf("%x", program), (*bom.Metadata.Component.Hashes)[0].Value)
	assert.Equal(t, "pkg:golang/example.org/small@v1.2.3?goarch=amd64&goos=freebsd#cmd/bpfctl",
		bom.Metadata.Component.PackageURL)
	assert.Regexp(t, `^[0-9a-f]{40}$`, (*bom.Metadata.Component.Properties)[0].Value)
}

// A program that would not know its commit is no release. Go does not look into a worktree.
func TestReleaseNeedsTheCommit(t *testing.T) {
	inSmall(t)
	commitAll(t)
	tree := filepath.Join(t.TempDir(), "tree")
	git(t, "worktree", "add", "-q", tree)
	t.Chdir(tree)
	err := release("v1.2.3", t.TempDir(), []string{"amd64"})
	assert.ErrorContains(t, err, "amd64: go finds no commit")
}

// unpack returns the files of an archive.
func unpack(t *testing.T, name string) map[string][]byte {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	all := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all[h.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
}

func decode(t *testing.T, materials []byte) *cdx.BOM {
	t.Helper()
	bom := &cdx.BOM{}
	from := cdx.NewBOMDecoder(bytes.NewReader(materials), cdx.BOMFileFormatJSON)
	require.NoError(t, from.Decode(bom))
	return bom
}

// A bill of materials has the program, Go's own library and each module, with licences.
func TestSBOM(t *testing.T) {
	info := &buildinfo.BuildInfo{GoVersion: "go1.26.8", Path: "example.org/m/cmd/bpfctl",
		Main: debug.Module{Path: "example.org/m"},
		Deps: []*debug.Module{{Path: "example.org/dep", Version: "v2.0.0+incompatible", Sum: "h1:x="}},
		Settings: []debug.BuildSetting{{Key: "GOOS", Value: "freebsd"}, {Key: "GOARCH", Value: "386"},
			{Key: "vcs.revision", Value: "0a1b"}},
	}
	page := filepath.Join(t.TempDir(), "licences.md")
	table := "| module | version | licence | used by |\n|---|---|---|---|\n" +
		"| example.org/dep | v2.0.0+incompatible | MIT and Apache-2.0 | bpfctl |\n"
	require.NoError(t, os.WriteFile(page, []byte(table), 0o600))
	licences, err := licencesOf(page)
	require.NoError(t, err)
	at := time.Unix(1700000000, 0)
	made := func(program string) *cdx.BOM {
		materials, err := sbom(info, []byte(program), "v1", licences, at)
		require.NoError(t, err)
		again, err := sbom(info, []byte(program), "v1", licences, at.In(time.FixedZone("", 3600)))
		require.NoError(t, err)
		require.Equal(t, string(materials), string(again))
		return decode(t, materials)
	}
	bom := made("program")
	assert.Equal(t, cdx.SpecVersion1_6, bom.SpecVersion)
	assert.Regexp(t, `^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
		bom.SerialNumber)
	assert.NotEqual(t, bom.SerialNumber, made("another").SerialNumber)
	assert.Equal(t, "2023-11-14T22:13:20Z", bom.Metadata.Timestamp)
	var got []string
	for _, c := range *bom.Components {
		got = append(got, strings.Join([]string{c.Name, c.Version, c.PackageURL,
			(*c.Licenses)[0].Expression}, " "))
	}
	assert.Equal(t, []string{"std go1.26.8 pkg:golang/std@go1.26.8 BSD-3-Clause",
		"example.org/dep v2.0.0+incompatible pkg:golang/example.org/dep@v2.0.0%2Bincompatible " +
			"MIT AND Apache-2.0"}, got)
	assert.Equal(t, []cdx.Dependency{{Ref: info.Path,
		Dependencies: &[]string{(*bom.Components)[0].BOMRef, (*bom.Components)[1].BOMRef}}},
		*bom.Dependencies)

	_, err = sbom(info, nil, "v1", nil, at)
	assert.ErrorContains(t, err, "example.org/dep v2.0.0+incompatible is not in docs/licences.md")
	info.Deps[0].Replace = &debug.Module{Path: "../dep"}
	_, err = sbom(info, nil, "v1", licences, at)
	assert.ErrorContains(t, err, "example.org/dep is replaced")
}
