//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// speed has the results of TestSpeed on one kernel.
type speed struct {
	kernel, arch, release string
	first                 time.Duration // to the first byte, with a boot
	next, slowest         time.Duration // a further program in all: the median, and the slowest
	rate                  float64       // of output, in MB/s
}

// limits are the longest times of first and next.
func (s speed) limits() (first, next time.Duration) {
	if s.arch == "amd64" {
		return 8 * time.Second, time.Second
	}
	return 15 * time.Second, 1500 * time.Millisecond
}

const leastRate = 10.0

// TestSpeed holds the runner to its limits on every kernel. They are for a machine that has two
// processors to spare, so it runs only where somebody says that it has.
func TestSpeed(t *testing.T) {
	if os.Getenv("VMTEST_SPEED") == "" {
		t.Skip("NOT RUN: times mean something on an idle machine only; run " +
			"`VMTEST_SPEED=1 go test -run TestSpeed -v ./cmd/vmtest` on one")
	}
	load := hostLoad()
	var all []speed
	for _, k := range cachedKernels(t) {
		t.Run(k.name, func(t *testing.T) {
			s := newSessionFor(t, 1018, k.arch)
			got := speed{kernel: k.name, arch: k.arch, release: releaseOf(t, s, k.name)}
			kernel := []string{"--kernel", k.name}
			fresh := append(kernel, "--no-reuse")
			measure(t, s, fresh, "hello") // the agent is compiled, acceleration was tried
			got.first = measure(t, s, fresh, "hello").first
			measure(t, s, kernel, "hello") // boots the guest that stays
			// The emulator translates what the guest runs for the first time, so the first are slower.
			var further []time.Duration
			for range 7 {
				further = append(further, measure(t, s, kernel, "hello").total)
			}
			slices.Sort(further)
			got.next, got.slowest = further[len(further)/2], further[len(further)-1]
			out := measure(t, s, kernel, "bytes", "100")
			got.rate = float64(out.bytes) / 1e6 / out.total.Seconds()
			t.Logf("%+v", got)
			all = append(all, got)

			first, next := got.limits()
			assert.LessOrEqual(t, got.first, first)
			assert.LessOrEqual(t, got.next, next)
			assert.GreaterOrEqual(t, got.rate, leastRate)
		})
	}
	table := speedTable(all, load)
	t.Logf("\n%s", table)
	if page := os.Getenv("VMTEST_SPEED_PAGE"); page != "" {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		text, err = intoPage(text, table)
		require.NoError(t, err, page)
		require.NoError(t, os.WriteFile(page, text, 0o644))
	}
}

// releaseOf asks the runner which release a kernel is of.
func releaseOf(t *testing.T, s *session, kernel string) string {
	t.Helper()
	out, err := exec.Command(s.runner, "kernels").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == kernel {
			return f[2]
		}
	}
	require.Fail(t, "not in the list", "%s: %s", kernel, out)
	return ""
}

// hostLoad is the average number of processes that wanted to run in the last minute, where the
// system tells.
func hostLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

// speedTable is the part of the page that TestSpeed writes.
func speedTable(all []speed, load string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured in software emulation on %s/%s with %d processors. The load of the\n"+
		"last minute was %s at the start.\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), load)
	b.WriteString("| kernel | architecture | release | first byte, with a boot |" +
		" further program, median | slowest of 7 | output |\n|---|---|---|---|---|---|---|\n")
	seconds := func(d, limit time.Duration) string {
		text := fmt.Sprintf("%.2f s (limit %v)", d.Seconds(), limit)
		if d > limit {
			text += " **missed**"
		}
		return text
	}
	for _, s := range all {
		first, next := s.limits()
		rate := strconv.FormatFloat(s.rate, 'f', 1, 64) + " MB/s"
		if s.rate < leastRate {
			rate += " **missed**"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %.2f s | %s |\n", s.kernel, s.arch,
			s.release, seconds(s.first, first), seconds(s.next, next), s.slowest.Seconds(), rate)
	}
	return b.String()
}

var speedPart = regexp.MustCompile(`(?s)(<!-- speed: .*? -->\n).*(<!-- end of speed -->)`)

// intoPage puts table between the marks of a page.
func intoPage(page []byte, table string) ([]byte, error) {
	if !speedPart.Match(page) {
		return nil, fmt.Errorf("the page has no marks for the times")
	}
	text := "${1}\n" + strings.ReplaceAll(table, "$", "$$") + "\n${2}"
	return speedPart.ReplaceAll(page, []byte(text)), nil
}

// The page names each kernel with its architecture, its times and the limits that it missed.
func TestSpeedPage(t *testing.T) {
	table := speedTable([]speed{
		{"kernel-amd64", "amd64", "12.1-RELEASE", 7 * time.Second, 1100 * time.Millisecond,
			2 * time.Second, 20},
		{"kernel-riscv64", "riscv64", "14.0-STABLE", 16 * time.Second, time.Second,
			time.Second, 9.94},
	}, "0.50")
	assert.Contains(t, table, "was 0.50 at the start")
	assert.Contains(t, table, "| `kernel-amd64` | amd64 | 12.1-RELEASE | 7.00 s (limit 8s) | "+
		"1.10 s (limit 1s) **missed** | 2.00 s | 20.0 MB/s |\n")
	assert.Contains(t, table, "| `kernel-riscv64` | riscv64 | 14.0-STABLE | 16.00 s (limit 15s) "+
		"**missed** | 1.00 s (limit 1.5s) | 1.00 s | 9.9 MB/s **missed** |\n")

	page := "a\n<!-- speed: made by x -->\nold\n<!-- end of speed -->\nb\n"
	for range 2 {
		got, err := intoPage([]byte(page), table)
		require.NoError(t, err)
		page = string(got)
		assert.Equal(t, "a\n<!-- speed: made by x -->\n\n"+table+"\n<!-- end of speed -->\nb\n", page)
	}
	_, err := intoPage([]byte("a\nb\n"), table)
	require.ErrorContains(t, err, "no marks")
	real, err := os.ReadFile("../../docs/vmtest.md")
	require.NoError(t, err)
	_, err = intoPage(real, table)
	require.NoError(t, err, "docs/vmtest.md")
}
