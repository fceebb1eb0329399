//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const someSysctl = "net.bpf.zerocopy_enable"

func TestSetConf(t *testing.T) {
	for _, c := range []struct{ name, was, want string }{
		{"no file", "", someSysctl + "=1\n"},
		{"appended", "a=1\n", "a=1\n" + someSysctl + "=1\n"},
		{"behind a line without an end", "a=1", "a=1\n" + someSysctl + "=1\n"},
		{"changed in its place", "a=1\n" + someSysctl + "=0\nb=2\n", "a=1\n" + someSysctl + "=1\nb=2\n"},
		{"there already, as its author wrote it", " " + someSysctl + " : '1'  # why\n", " " + someSysctl + " : '1'  # why\n"},
		{"its comment stays", someSysctl + "=0 # why\n", someSysctl + "=1 # why\n"},
		{"the last line has no end", "a=1\n" + someSysctl + "=0", "a=1\n" + someSysctl + "=1"},
		{"lines that end as on Windows", "a=1\r\n" + someSysctl + "=0\r\n", "a=1\r\n" + someSysctl + "=1\r\n"},
		{"a comment is no setting", "#" + someSysctl + "=0\n", "#" + someSysctl + "=0\n" + someSysctl + "=1\n"},
		{"nor is a comment behind one", "a=1 # " + someSysctl + "=0\n", "a=1 # " + someSysctl + "=0\n" + someSysctl + "=1\n"},
		{"a # in quotes is no comment", "a=\"#\" # x\n" + someSysctl + "=\"#\"\n", "a=\"#\" # x\n" + someSysctl + "=1\n"},
		{"another with the same start", someSysctl + "d=0\n", someSysctl + "d=0\n" + someSysctl + "=1\n"},
		{"twice", someSysctl + "=1\n" + someSysctl + "=0\n", someSysctl + "=1\n"},
		{"twice, and why", someSysctl + "=0\n" + someSysctl + "=0 # why\n", someSysctl + "=1\n# why\n"},
		{"lines that are nothing", "=\n:\nfoo\n\n", "=\n:\nfoo\n\n" + someSysctl + "=1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := string(setConf([]byte(c.was), someSysctl, "1"))
			assert.Equal(t, c.want, now)
			assert.Equal(t, now, string(setConf([]byte(now), someSysctl, "1")),
				"a second time changes nothing")
		})
	}
}

func FuzzSetConf(f *testing.F) {
	f.Add("a=1\n"+someSysctl+"=0 # x\n", true)
	f.Add("'\"#=:\r\n", false)
	f.Fuzz(func(t *testing.T, was string, on bool) {
		value := map[bool]string{true: "1", false: "0"}[on]
		now := setConf([]byte(was), someSysctl, value)
		v, ok := confValue(now, someSysctl)
		require.True(t, ok)
		require.Equal(t, value, v)
		require.Equal(t, string(now), string(setConf(now, someSysctl, value)))
		var others, left []string
		for line := range strings.Lines(was) {
			if a, ok := parseAssignment(line); !ok || a.name != someSysctl {
				others = append(others, strings.TrimRight(line, "\n"))
			}
		}
		for line := range strings.Lines(string(now)) {
			left = append(left, strings.TrimRight(line, "\n"))
		}
		for _, line := range left { // all others are there, in their order
			if len(others) > 0 && line == others[0] {
				others = others[1:]
			}
		}
		require.Empty(t, others)
	})
}

// onlyFile checks that there is nothing else beside a file.
func onlyFile(t *testing.T, file string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 1, "%v", entries)
	require.Equal(t, filepath.Base(file), entries[0].Name())
}

const (
	confBefore = "# by hand\na=1\n"
	confAfter  = confBefore + someSysctl + "=1\n"
)

func confFile(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "sysctl.conf")
	require.NoError(t, os.WriteFile(file, []byte(confBefore), 0o644))
	return file
}

func requireConf(t *testing.T, file, want string) {
	t.Helper()
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func TestPersist(t *testing.T) {
	t.Run("ten runs write once", func(t *testing.T) {
		file := confFile(t)
		var first os.FileInfo
		for i := range 10 {
			changed, err := persist(file, someSysctl, "1")
			require.NoError(t, err)
			require.Equal(t, i == 0, changed)
			fi, err := os.Stat(file)
			require.NoError(t, err)
			if first == nil {
				first = fi
			}
			require.True(t, os.SameFile(first, fi), "the file was not replaced again")
			require.Equal(t, first.ModTime(), fi.ModTime())
		}
		requireConf(t, file, confAfter)
		onlyFile(t, file)
	})
	t.Run("permissions and owner stay", func(t *testing.T) {
		for _, mode := range []os.FileMode{0o600, 0o640, 0o666, 0o444} {
			file := confFile(t)
			require.NoError(t, os.Chmod(file, mode))
			uid, gid := os.Getuid(), os.Getgid()
			if uid == 0 {
				uid, gid = 12, 34
				require.NoError(t, os.Chown(file, uid, gid))
			}
			_, err := persist(file, someSysctl, "1")
			require.NoError(t, err)
			fi, err := os.Stat(file)
			require.NoError(t, err)
			require.Equal(t, mode, fi.Mode())
			st := fi.Sys().(*syscall.Stat_t)
			require.EqualValues(t, []int{uid, gid}, []int{int(st.Uid), int(st.Gid)})
			requireConf(t, file, confAfter)
		}
	})
	t.Run("a symbolic link stays one", func(t *testing.T) {
		file := confFile(t)
		link := filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(file, link))
		_, err := persist(link, someSysctl, "1")
		require.NoError(t, err)
		fi, err := os.Lstat(link)
		require.NoError(t, err)
		require.NotZero(t, fi.Mode()&os.ModeSymlink)
		requireConf(t, file, confAfter)
		onlyFile(t, file)
		onlyFile(t, link)
	})
	t.Run("a new file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "sysctl.conf")
		changed, err := persist(file, someSysctl, "1")
		require.NoError(t, err)
		require.True(t, changed)
		requireConf(t, file, someSysctl+"=1\n")
		fi, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o644), fi.Mode())
	})
	t.Run("what an interrupted run left is not in the way", func(t *testing.T) {
		for _, left := range []string{"", "# by ha", confAfter, strings.Repeat("longer than all of it\n",
			100)} {
			file := confFile(t)
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(file), ".sysctl.conf.bpfctl"),
				[]byte(left), 0o600))
			changed, err := persist(file, someSysctl, "1")
			require.NoError(t, err)
			require.True(t, changed)
			requireConf(t, file, confAfter)
			onlyFile(t, file)
		}
	})
	t.Run("a link in place of the new file is not followed", func(t *testing.T) {
		file := confFile(t)
		victim := filepath.Join(t.TempDir(), "victim")
		require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o644))
		require.NoError(t, os.Symlink(victim, filepath.Join(filepath.Dir(file), ".sysctl.conf.bpfctl")))
		_, err := persist(file, someSysctl, "1")
		require.Error(t, err)
		requireConf(t, file, confBefore)
		requireConf(t, victim, "precious")
	})
}

// persistRun starts `bpfctl zerocopy on --persist` on a file.
func persistRun(t *testing.T, file string) *exec.Cmd {
	t.Helper()
	c := newProgram(t, "zerocopy", "on", "--model", "refused", "--persist", "--file", file)
	require.NoError(t, c.Start())
	return c
}

func TestPersistInterrupted(t *testing.T) {
	t.Run("while it has the new file open", func(t *testing.T) {
		file := confFile(t)
		next := filepath.Join(filepath.Dir(file), ".sysctl.conf.bpfctl")
		lock, err := openNext(next)
		require.NoError(t, err)
		c := persistRun(t, file)
		time.AfterFunc(time.Second, func() { c.Process.Kill() }) // it cannot get further than the lock
		require.Error(t, c.Wait())
		requireConf(t, file, confBefore)
		_, err = lock.WriteString("half a li")
		require.NoError(t, err)
		require.NoError(t, lock.Close())
		require.FileExists(t, next)
		require.NoError(t, persistRun(t, file).Wait())
		requireConf(t, file, confAfter)
		onlyFile(t, file)
	})
	t.Run("at any moment", func(t *testing.T) {
		began := time.Now()
		require.NoError(t, persistRun(t, confFile(t)).Wait())
		// follows how long a run takes: the first one may be the slowest by far
		window := time.Since(began)
		const wanted, most = 8, 100
		killed, runs := 0, 0
		for ; killed < wanted && runs < most; runs++ {
			file := confFile(t)
			c := persistRun(t, file)
			time.Sleep(rand.N(window)) // the moment is what is varied, nothing is waited for
			c.Process.Kill()
			if c.Wait() != nil {
				killed++
				window += window / 4
			} else {
				window -= window / 4
			}
			got, err := os.ReadFile(file)
			require.NoError(t, err, "the file is never missing")
			require.Contains(t, []string{confBefore, confAfter}, string(got),
				"the file is the old one or the new one")
			_, err = persist(file, someSysctl, "1")
			require.NoError(t, err)
			requireConf(t, file, confAfter)
			if string(got) == confBefore {
				onlyFile(t, file)
			}
		}
		require.Equal(t, wanted, killed, "interrupted, of %d", runs)
		t.Logf("%d of %d runs were interrupted", killed, runs)
	})
	t.Run("ten at once", func(t *testing.T) {
		file := confFile(t)
		var all []*exec.Cmd
		for range 10 {
			all = append(all, persistRun(t, file))
		}
		for _, c := range all {
			require.NoError(t, c.Wait())
		}
		requireConf(t, file, confAfter)
		onlyFile(t, file)
	})
}

// A reader of the file always sees either the old one or the new one.
func TestPersistIsAtomic(t *testing.T) {
	file := confFile(t)
	const enough = 100
	var looks atomic.Int64
	done := make(chan error, 1)
	go func() {
		defer close(done)
		began := time.Now()
		for i := 0; i < 200 || looks.Load() < enough && time.Since(began) < patience; i++ {
			if _, err := persist(file, someSysctl, fmt.Sprint(i%2)); err != nil {
				done <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-done:
			require.NoError(t, err)
			require.GreaterOrEqual(t, looks.Load(), int64(enough), "looks meanwhile")
			return
		default:
		}
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, []string{confBefore, confBefore + someSysctl + "=0\n", confAfter},
			string(got))
		looks.Add(1)
	}
}
