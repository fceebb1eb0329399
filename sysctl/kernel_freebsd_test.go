package sysctl_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/sysctl"
)

// asNobody marks a test process that gives its rights away: the name of the test that it was started for.
const asNobody = "SYSCTL_TEST_AS_NOBODY"

func kernel(t *testing.T) world {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv(asNobody) == "" {
		t.Skip("setting sysctls needs root")
	}
	return world{name: "kernel", tree: sysctl.Host(), bpf: zbuf.Host(), unprivileged: nobody}
}

// nobody runs the same test in a new process, and in that one f with the rights of the user nobody.
func nobody(t *testing.T, f func(*testing.T, sysctl.Tree)) {
	if os.Getenv(asNobody) == t.Name() {
		require.NoError(t, syscall.Setgroups(nil))
		require.NoError(t, syscall.Setgid(65534))
		require.NoError(t, syscall.Setuid(65534))
		require.Equal(t, 65534, os.Geteuid())
		f(t, sysctl.Host())
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^"+exactly(t.Name())+"$", "-test.v")
	c.Env = append(os.Environ(), asNobody+"="+t.Name())
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name(), "%s", out)
	t.Logf("%s", out)
}
