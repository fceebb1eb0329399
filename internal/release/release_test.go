package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The same files make the same bytes, whatever order they come in and whatever owns them.
func TestArchivesAreReproducible(t *testing.T) {
	dir := t.TempDir()
	at := time.Unix(1700000000, 0)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), []byte("X"), 0o600))
	pack := func(at time.Time, backwards bool) []byte {
		a := archive{root: "r", at: at}
		steps := []func(){func() { a.add("b", []byte("B"), 0o644) },
			func() { a.addFolder("f", dir, 0o755) }}
		if backwards {
			steps[0], steps[1] = steps[1], steps[0]
		}
		for _, step := range steps {
			step()
		}
		b, err := a.pack()
		require.NoError(t, err)
		return b
	}
	first := pack(at, false)
	assert.Equal(t, first, pack(at.In(time.FixedZone("", 3600)), false), "another time zone")
	assert.Equal(t, first, pack(at, true), "another order")
	require.NoError(t, os.Chtimes(filepath.Join(dir, "x"), at, at))
	require.NoError(t, os.Chmod(filepath.Join(dir, "x"), 0o777))
	assert.Equal(t, first, pack(at, false), "another time and mode of the file")

	z, err := gzip.NewReader(bytes.NewReader(first))
	require.NoError(t, err)
	var got []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, h.ModTime.Equal(at))
		got = append(got, fmt.Sprintf("%s %o %s %s %s", h.Name, h.Mode, h.Uname, h.Gname, content))
	}
	assert.Equal(t, []string{"r/b 644 root wheel B", "r/f/x 755 root wheel X"}, got)

	missing := archive{}
	missing.addFile("x", filepath.Join(dir, "none"), 0o644)
	_, err = missing.pack()
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestSumsAreThoseOfTheFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	require.NoError(t, writeSums(dir, []string{"b", "a"}))
	got, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	require.NoError(t, err)
	want := fmt.Sprintf("%x  a\n%x  b\n", sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b")))
	assert.Equal(t, want, string(got))
	assert.ErrorIs(t, writeSums(dir, []string{"c"}), os.ErrNotExist)
}

func TestModulesWithoutLicenceAreRefused(t *testing.T) {
	for name, ok := range map[string]bool{"LICENSE": true, "LICENCE.md": true, "COPYING": true,
		"license.go": false, "README": false} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("text of it"), 0o600))
		var b bytes.Buffer
		err := addLicences(&b, "m v1", dir)
		assert.Equal(t, ok, err == nil, name)
		assert.Equal(t, ok, bytes.Contains(b.Bytes(), []byte("==== m v1: "+name)), name)
	}
}
