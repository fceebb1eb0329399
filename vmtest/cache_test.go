//go:build unix

package vmtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCacheFolderIsOnesOwn(t *testing.T) {
	withUmask(t, 0o022)
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string)
		err  string
	}{
		{"none yet", func(*testing.T, string) {}, ""},
		{"one's own", func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir, 0o755)) }, ""},
		{"one's own by a link", func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink(t.TempDir(), dir))
		}, ""},
		{"the group may write", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.Chmod(dir, 0o775))
		}, "others may write to it"},
		{"everybody may write, by a link", func(t *testing.T, dir string) {
			target := t.TempDir()
			require.NoError(t, os.Chmod(target, 0o777))
			require.NoError(t, os.Symlink(target, dir))
		}, "others may write to it"},
		{"another's", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o755))
			if err := os.Chown(dir, 12345, 12345); err != nil {
				t.Skipf("NOT RUN: needs the right to give a folder away: %v", err)
			}
		}, "it belongs to user 12345"},
		{"another's link", func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink(t.TempDir(), dir))
			if err := os.Lchown(dir, 12345, 12345); err != nil {
				t.Skipf("NOT RUN: needs the right to give a link away: %v", err)
			}
		}, "it belongs to user 12345"},
		{"a file", func(t *testing.T, dir string) { require.NoError(t, os.WriteFile(dir, nil, 0o600)) },
			"not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			t.Setenv("XDG_CACHE_HOME", base)
			tt.make(t, filepath.Join(base, "vmtest"))
			dir, err := safeCache()
			if tt.err == "" {
				require.NoError(t, err)
				assert.Equal(t, filepath.Join(base, "vmtest"), dir)
				return
			}
			require.ErrorContains(t, err, tt.err)
			_, err = Run(context.Background(), DefaultConfig(), os.Args[0], nil)
			require.ErrorContains(t, err, tt.err, "a run asks first of all")
		})
	}
}

func TestCacheFolderOfAUserWithoutAHome(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := safeCache()
	require.NoError(t, err)
	assert.Regexp(t, `/vmtest-cache-\d+$`, dir)
	fi, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), fi.Mode().Perm())
}
