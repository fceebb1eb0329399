//go:build unix

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/vmtest"
)

// emulators are the QEMUs of the guests' architectures.
var emulators = map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64",
	"riscv64": "qemu-system-riscv64"}

// cachedKernel is a kernel in the cache folder, and the architectures whose programs it runs.
type cachedKernel struct {
	name, arch string
	programs   []string
}

// cachedKernels lists the kernels that there is a QEMU for. It skips t if there are none.
func cachedKernels(t testing.TB) (kernels []cachedKernel) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN: guest tests take minutes and -short is set")
	}
	paths, err := filepath.Glob(filepath.Join(vmtest.CacheDir(), "kernel-*"))
	require.NoError(t, err)
	for _, p := range paths {
		k := cachedKernel{name: filepath.Base(p)}
		k.arch = strings.Split(k.name, "-")[1]
		if _, err := exec.LookPath(emulators[k.arch]); err != nil {
			t.Logf("NOT RUN on %s: %v", k.name, err)
			continue
		}
		k.programs = map[string][]string{"amd64": {"amd64", "386"}, "arm64": {"arm64", "arm"},
			"riscv64": {"riscv64"}}[k.arch]
		kernels = append(kernels, k)
	}
	if len(kernels) == 0 {
		t.Skipf(skipText, "a kernel file and its QEMU", vmtest.KernelPath("", "amd64"))
	}
	return kernels
}

func TestEveryKernelRunsItsPrograms(t *testing.T) {
	mem := 1030
	for _, k := range cachedKernels(t) {
		t.Run(k.name, func(t *testing.T) {
			for _, arch := range k.programs {
				mem++
				s := newSessionFor(t, mem, arch)
				out, err := s.command([]string{"--kernel", k.name}, "hello").CombinedOutput()
				if strings.Contains(string(out), "without COMPAT_FREEBSD32") && arch != k.arch {
					t.Logf("NOT RUN: %s runs no programs for %s", k.name, arch)
					continue
				}
				require.NoError(t, err, "%s: %s", arch, out)
				assert.Contains(t, string(out), "hello\n", arch)
				// The network card and the shared disk work there too.
				out, err = s.command([]string{"--kernel", k.name}, "bytes", "3").Output()
				require.NoError(t, err, arch)
				assert.Len(t, out, 3<<20, arch)
				s.gone(t)
			}
		})
	}
}

// BenchmarkFirst is the time from the start of the command to the first byte of
// output, boot included, on every kernel.
func BenchmarkFirst(b *testing.B) { benchmark(b, 1019, []string{"--no-reuse"}, "hello") }

// BenchmarkNext is the same for a program that finds a guest.
func BenchmarkNext(b *testing.B) { benchmark(b, 1020, nil, "hello") }

// BenchmarkOutput is 100 MiB through standard output.
func BenchmarkOutput(b *testing.B) { benchmark(b, 1021, nil, "bytes", "100") }

func benchmark(b *testing.B, mem int, flags []string, args ...string) {
	for _, k := range cachedKernels(b) {
		b.Run(k.name, func(b *testing.B) {
			s := newSessionFor(b, mem, k.arch)
			flags := append([]string{"--kernel", k.name}, flags...)
			measure(b, s, flags, "hello")
			var first time.Duration
			for b.Loop() {
				m := measure(b, s, flags, args...)
				first += m.first
				b.SetBytes(m.bytes)
			}
			b.ReportMetric(first.Seconds()/float64(b.N), "s-to-first-byte")
		})
	}
}

// times of one run, from the start of the command.
type times struct {
	first, total time.Duration
	bytes        int64
}

func measure(t testing.TB, s *session, flags []string, args ...string) (m times) {
	t.Helper()
	cmd := s.command(flags, args...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	start := time.Now()
	require.NoError(t, cmd.Start())
	var c [1]byte
	_, err = io.ReadFull(out, c[:])
	require.NoError(t, err)
	m.first = time.Since(start)
	n, err := io.Copy(io.Discard, out)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	m.total, m.bytes = time.Since(start), n+1
	return m
}

// TestProbeAgreesWithTheFiles boots the kernels of each architecture and compares what they say
// with what their files tell. Nothing that a file does not tell is called absent.
func TestProbeAgreesWithTheFiles(t *testing.T) {
	kernels := cachedKernels(t)
	cache := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(cache, "vmtest"), 0o700))
	for _, k := range kernels {
		if k.name == "kernel-"+k.arch {
			require.NoError(t, os.Symlink(filepath.Join(vmtest.CacheDir(), k.name),
				filepath.Join(cache, "vmtest", k.name)))
		}
	}
	s := newSessionFor(t, 1031, "amd64")
	cmd := exec.Command(s.runner, "kernels", "--probe")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	said := regexp.MustCompile(`(?m)^(kernel-\S+) +\S+ +(\S+) +(\S+) +(\S+) +(\S+) +(\S.*)\n +says: ` +
		`release (\S+) \(\d+\), INVARIANTS (\w+), VIMAGE (\w+), ` +
		`COMPAT_FREEBSD32 (\w+), epair (\w+), kern.hz \d+$`)
	lines := said.FindAllStringSubmatch(string(out), -1)
	require.NotEmpty(t, lines, "%s", out)
	for _, l := range lines {
		file, guest := l[2:7], l[7:]
		file[4] = strings.ReplaceAll(file[4], "built in", "yes")
		for i, tells := range file {
			if tells != "unknown" && tells != "module" {
				require.Equal(t, tells, guest[i], "%s: field %d\n%s", l[1], i, out)
			}
		}
	}
}
