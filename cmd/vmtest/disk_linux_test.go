package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFullDisk runs where the temporary folder has room for a megabyte.
func TestFullDisk(t *testing.T) {
	needGo(t)
	dir, err := os.MkdirTemp("", "v") // short: a socket's path must fit
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	small := filepath.Join(dir, "small")
	require.NoError(t, os.Mkdir(small, 0o755))
	mount := []string{"-rm", "sh", "-c",
		`mount -t tmpfs -o size=1m none "$0" && TMPDIR="$0" exec "$@"`, small}
	if out, err := exec.Command("unshare", append(mount, "true")...).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: needs unshare(1) and the right to mount in a namespace: %v %s", err, out)
	}
	bin := buildRunner(t)
	program := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-o", program, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=freebsd", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	kernel := filepath.Join(dir, "kernel")
	require.NoError(t, os.WriteFile(kernel, elfBytes(t, elf.EM_X86_64), 0o644))

	cmd := exec.Command("unshare", append(mount, filepath.Join(bin, "vmtest"), "--no-reuse", "--accel",
		"tcg", "--qemu", filepath.Join(bin, "qemu-standin"), "--kernel", kernel, program, "hello")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	assert.Equal(t, exitFault, exitOf(t, cmd))
	assert.Regexp(t, `^vmtest: .*no space left on device\n$`, stderr.String())
}
