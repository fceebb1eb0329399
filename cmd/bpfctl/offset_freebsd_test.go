package main

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestKernelOffsetOnTmpfs shows why a capture file is written at offsets of its own: on 14 a write
// to tmpfs that ends in ENOSPC writes nothing and moves the file's offset.
func TestKernelOffsetOnTmpfs(t *testing.T) {
	version, err := unix.SysctlUint32("kern.osreldate")
	require.NoError(t, err)
	if version >= 1300000 && version < 1400000 || version >= 1500000 {
		t.Skipf("it was seen on 12.1 and on 14.0; %d is neither", version)
	}
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	const size = 1 << 20
	require.NoError(t, mountTmpfs(dir, size))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	f, err := os.Create(filepath.Join(dir, "f"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 1000))
	require.NoError(t, err)
	n, err := f.Write(make([]byte, 4*size))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Zero(t, n)
	at, err := f.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	require.EqualValues(t, 1000, info.Size())
	if version < 1300000 {
		require.EqualValues(t, 1000, at)
		return
	}
	require.EqualValues(t, size, at, "the offset moved by what was not written")
}
