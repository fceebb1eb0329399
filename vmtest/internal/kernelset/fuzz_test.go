//go:build unix

package kernelset

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzChecksum: what is found in a list of checksums stands there, beside the name.
func FuzzChecksum(f *testing.F) {
	sum := strings.Repeat("0123456789abcdef", 4)
	f.Add([]byte("base.txz\t" + sum + "\t1\nkernel.txz\t" + sum + "\t2\tkernel\n"))
	f.Add([]byte("SHA256 (kernel.txz) = " + sum + "\n"))
	f.Add([]byte(sum + " *kernel.txz\n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		for _, find := range []func([]byte, string) (string, error){checksum, imageSum} {
			got, err := find(list, SetName)
			if err != nil {
				require.ErrorIs(t, err, ErrSet)
				require.Empty(t, got)
				continue
			}
			require.Regexp(t, manifestSum, got)
			found := false
			for line := range strings.Lines(string(list)) {
				found = found || strings.Contains(line, got) && strings.Contains(line, SetName)
			}
			require.True(t, found)
		}
	})
}

// FuzzExtract: whatever a set holds, nothing comes out of it but a kernel and its modules, into one
// folder.
func FuzzExtract(f *testing.F) {
	for _, names := range [][]string{{"boot/kernel/kernel", "./boot/kernel/if_em.ko"},
		{"boot/kernel/../../kernel", "/boot/kernel/kernel"}} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range names {
			require.NoError(f, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 4,
				Typeflag: tar.TypeReg}))
			_, err := w.Write([]byte("text"))
			require.NoError(f, err)
		}
		require.NoError(f, w.Close())
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, set []byte) {
		around := t.TempDir()
		dir := filepath.Join(around, "set")
		require.NoError(t, os.Mkdir(dir, 0o755))
		err := extractTo(dir, bytes.NewReader(set))
		entries, rerr := os.ReadDir(dir)
		require.NoError(t, rerr)
		kernel := false
		for _, e := range entries {
			require.True(t, e.Type().IsRegular())
			require.Regexp(t, `^(kernel|\w+\.ko)$`, e.Name())
			kernel = kernel || e.Name() == "kernel"
		}
		require.True(t, kernel || err != nil, "no kernel, and no error")
		beside, rerr := os.ReadDir(around)
		require.NoError(t, rerr)
		require.Len(t, beside, 1)
	})
}
