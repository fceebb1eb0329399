//go:build linux || freebsd

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// smallDisk mounts a file system of 256 KiB until the test ends.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := mountTmpfs(dir, 256<<10); err != nil {
		if os.Geteuid() != 0 {
			t.Skipf("NOT RUN: %v: only root may mount a file system", err)
		}
		t.Skipf("NOT RUN: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// A full disk ends the capture. The file has whole packets, and the summary says how many.
func TestKernelFullDiskIsCounted(t *testing.T) {
	for _, redirect := range []bool{false, true} {
		t.Run(map[bool]string{false: "-w FILE", true: "-w - > FILE"}[redirect], func(t *testing.T) {
			out := filepath.Join(smallDisk(t), "out.pcapng")
			args := []string{"capture", "--model", "steady", "-i", "em0", "-w", out}
			what := "can't write, " + out + " ends with the last packet that is complete: "
			if redirect {
				args[len(args)-1] = "-"
				what = "can't write, standard output ends with the last packet that is complete: "
			}
			p := start(t, func(c *exec.Cmd) {
				if redirect {
					f, err := os.Create(out)
					require.NoError(t, err)
					t.Cleanup(func() { f.Close() })
					c.Stdout = f
				}
			}, args...)
			require.Equal(t, exitFail, p.exit(), p.said())
			n, err := packetsIn(out)
			require.NoError(t, err, "the file is whole")
			require.Greater(t, n, 50)
			assert.Contains(t, p.said(), fmt.Sprintf("bpfctl: %d packets captured", n))
			assert.Contains(t, p.said(), what)
			assert.Contains(t, p.said(), "no space left on device\n")
			t.Log(p.said())
		})
	}
}

// A compressed file on a full disk is whole. Other programs decompress it, and it has the packets
// that the summary counts.
func TestKernelFullDiskKeepsCompressedFilesWhole(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in.pcapng")
	f, err := os.Create(in)
	require.NoError(t, err)
	format := capgen.Format{Pcapng: true, Nano: true}
	require.NoError(t, capgen.Write(f, format, capgen.Packets(3000, format, true, 1)))
	require.NoError(t, f.Close())
	for _, end := range []string{".gz", ".zst"} {
		t.Run(end, func(t *testing.T) {
			out := filepath.Join(smallDisk(t), "out.pcapng"+end)
			p := start(t, nil, "capture", "--replay", in, "-w", out)
			require.Equal(t, exitFail, p.exit(), p.said())
			assert.Contains(t, p.said(), "no space left on device\n")
			data, err := os.ReadFile(out)
			require.NoError(t, err)
			whole := filepath.Join(t.TempDir(), "out.pcapng")
			require.NoError(t, os.WriteFile(whole, decompressed(t, end, data), 0o600))
			n, err := packetsIn(whole)
			require.NoError(t, err)
			require.Greater(t, n, 50)
			require.Less(t, n, 3000)
			assert.Contains(t, p.said(), fmt.Sprintf("bpfctl: %d packets captured", n))
		})
	}
}
