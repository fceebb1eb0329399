package main

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be a process that leaves an orphan behind.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "orphan" {
		c := exec.Command(os.Args[0], "sleep")
		if err := c.Start(); err != nil {
			panic(err)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "sleep" {
		time.Sleep(time.Hour) // the runtime ends a process in which nobody can go on
	}
	os.Exit(m.Run())
}

// reaper makes the process a reaper, which it can become once.
var reaper = sync.OnceValue(becomeReaper)

// TestKillAllReachesOrphans: the agent of a whole system is not pid 1.
func TestKillAllReachesOrphans(t *testing.T) {
	require.False(t, isInit())
	require.NoError(t, reaper())
	c := exec.Command(os.Args[0], "orphan")
	require.NoError(t, c.Run())
	pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	require.NoError(t, err, "the orphan is our child now")
	require.Zero(t, pid, "and it lives")
	require.NoError(t, killAll())
	_, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD)
}
