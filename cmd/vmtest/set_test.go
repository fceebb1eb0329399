//go:build unix

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// releaseSet is a release's kernel.txz, with its MANIFEST beside it.
type releaseSet struct{ arch, release string }

// releaseSets lists the sets that VMTEST_SET leads to. It skips t if there are none.
func releaseSets(t *testing.T) (sets []releaseSet) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN: guest tests take minutes and -short is set")
	}
	top := os.Getenv("VMTEST_SET")
	if top == "" {
		t.Skip("NOT RUN: there is no set of a release: name a folder by VMTEST_SET that is laid out " +
			"as https://download.freebsd.org/releases, with amd64/15.1-RELEASE/kernel.txz and " +
			"MANIFEST in it")
	}
	folders := map[string]string{"amd64": "amd64", "arm64": "arm64", "riscv64": "riscv/riscv64"}
	for arch, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(top, folder, "*-RELEASE", "kernel.txz"))
		require.NoError(t, err)
		for _, p := range paths {
			release := strings.TrimSuffix(filepath.Base(filepath.Dir(p)), "-RELEASE")
			sets = append(sets, releaseSet{arch, release})
		}
	}
	require.NotEmpty(t, sets, "VMTEST_SET leads to no kernel.txz")
	return sets
}

// faultyMirror serves a folder of releases, and kernel.txz from it with a fault.
type faultyMirror struct {
	top string

	mu     sync.Mutex
	fault  string   // "corrupt", "cut" for the next answer alone, or empty
	ranges []string // that kernel.txz was asked for
}

func (m *faultyMirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := filepath.Join(m.top, filepath.FromSlash(r.URL.Path))
	if filepath.Base(path) != "kernel.txz" {
		http.ServeFile(w, r, path)
		return
	}
	m.ranges = append(m.ranges, r.Header.Get("Range"))
	b, err := os.ReadFile(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	half := len(b) / 2
	switch m.fault {
	case "cut":
		m.fault = ""
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b[:half]) // a client that has gone asks for nothing more
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "corrupt":
		b[half] ^= 1
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (m *faultyMirror) next(fault string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault, m.ranges = fault, nil
}

// TestReleaseSet takes the sets of releases all the way: from a server with faults, past the
// checksum, to the modules that the kernel loads and to this project's tests on it.
func TestReleaseSet(t *testing.T) {
	mem := 1050
	for _, set := range releaseSets(t) {
		mem++
		s := newSessionFor(t, mem, set.arch)
		t.Run(set.arch+" "+set.release, func(t *testing.T) { testSet(t, s, set) })
	}
}

func testSet(t *testing.T, s *session, set releaseSet) {
	mirror := &faultyMirror{top: os.Getenv("VMTEST_SET")}
	server := httptest.NewServer(mirror)
	defer server.Close()
	goCache, err := exec.Command("go", "env", "GOCACHE").Output()
	require.NoError(t, err)
	cache := t.TempDir()
	t.Setenv("GOCACHE", strings.TrimSpace(string(goCache)))
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("VMTEST_MIRROR", server.URL)
	t.Setenv("VMTEST_IMAGE", "")
	defer s.gone(t) // before the folder goes
	run := func(flags ...string) (stdout, stderr string, code int) {
		cmd := s.command(flags, "modules")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		require.NoError(t, cmd.Start())
		code = exitOf(t, cmd)
		return out.String(), errs.String(), code
	}
	release := []string{"--release", set.release, "--kld", "if_bridge", "--kld", "if_epair"}

	t.Run("other bytes than the MANIFEST says are refused", func(t *testing.T) {
		mirror.next("corrupt")
		_, stderr, code := run(release...)
		assert.Equal(t, exitFault, code)
		assert.Contains(t, stderr, "is corrupt")
		left, err := filepath.Glob(filepath.Join(cache, "vmtest", "release-*.*"))
		require.NoError(t, err)
		for _, path := range left {
			assert.True(t, strings.HasSuffix(path, ".lock"), path)
		}
	})
	t.Run("what breaks off is taken up again, and modules load in order", func(t *testing.T) {
		mirror.next("cut")
		stdout, stderr, code := run(release...)
		require.Zero(t, code, "%s", stderr)
		assert.Contains(t, stderr, "going on from there")
		require.Len(t, mirror.ranges, 2)
		assert.Regexp(t, `^bytes=[1-9]\d*-$`, mirror.ranges[1])
		loaded := strings.Fields(stdout)
		t.Logf("loaded: %s", stdout)
		bridge, stp := slices.Index(loaded, "if_bridge.ko"), slices.Index(loaded, "bridgestp.ko")
		require.Positive(t, bridge, stdout)
		assert.Less(t, stp, bridge, "a module comes behind what it needs")
		assert.Contains(t, loaded, "if_epair.ko")
		distinct := slices.Compact(slices.Sorted(slices.Values(loaded)))
		assert.Len(t, distinct, len(loaded), "each once: %s", stdout)
	})
	t.Run("a module whose need is missing", func(t *testing.T) {
		dir := t.TempDir()
		kept := "release-" + set.release + "-RELEASE-" + set.arch
		from := filepath.Join(cache, "vmtest", kept)
		for _, name := range []string{"kernel", "tmpfs.ko", "if_bridge.ko"} {
			b, err := os.ReadFile(filepath.Join(from, name))
			if name == "tmpfs.ko" && os.IsNotExist(err) {
				continue // built in
			}
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
		}
		_, stderr, code := run("--kernel", dir+"/kernel", "--kld", "if_bridge")
		assert.Equal(t, exitFault, code)
		assert.Contains(t, stderr, "vmtest: the kernel does not load the module if_bridge.ko: ")
		assert.Contains(t, stderr, "depends on bridgestp", "what the kernel said")
	})
	server.Close()
	t.Run("this project's tests, without the server", func(t *testing.T) {
		flags := append(slices.Clone(release), "--mem", strconv.Itoa(s.mem), "--sysctl",
			"net.bpf.zerocopy_enable=1")
		runner := s.runner + " " + strings.Join(flags, " ")
		for _, args := range [][]string{{"../../conformance"}, {"-run", "Kernel", "../../bpf"}} {
			start := time.Now()
			args := append([]string{"test", "-count=1", "-short", "-timeout", "20m", "-exec", runner},
				args...)
			cmd := exec.Command("go", args...)
			cmd.Env = append(os.Environ(), "GOOS=freebsd", "GOARCH="+set.arch, "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.NotContains(t, string(out), "no tests to run")
			t.Logf("go %s: %.0f s", strings.Join(args, " "), time.Since(start).Seconds())
		}
	})
}

// TestImage boots a whole system: firmware, loader, kernel, login on the serial port, modules of
// its own, and programs one after another.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN: guest tests take minutes and -short is set")
	}
	images := filepath.SplitList(os.Getenv("VMTEST_TEST_IMAGES"))
	if len(images) == 0 {
		t.Skip("NOT RUN: there is no image of a system: name some by VMTEST_TEST_IMAGES, with " +
			"colons between, and UEFI firmware for one by a file beside it whose name ends in .fd " +
			"instead of .raw")
	}
	for i, image := range images {
		arch := "amd64"
		if strings.Contains(filepath.Base(image), "arm64") {
			arch = "arm64"
		}
		t.Run(filepath.Base(image), func(t *testing.T) {
			s := newSessionFor(t, 1060+i, arch)
			defer s.gone(t)
			before, err := os.ReadFile(image)
			require.NoError(t, err)
			flags := []string{"--image", image, "--kld", "if_bridge", "--kld", "if_epair"}
			if firmware := strings.TrimSuffix(image, filepath.Ext(image)) + ".fd"; fileExists(firmware) {
				flags = append(flags, "--firmware", firmware)
			}
			out, err := s.command(flags, "modules").CombinedOutput()
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
			out, err = s.command(flags, "alone", "again").CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Contains(t, string(out), "alone again")
			assert.Len(t, s.qemus(t), 1, "the two share a guest")
			after, err := os.ReadFile(image)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(before, after), "the image was written to")
		})
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
