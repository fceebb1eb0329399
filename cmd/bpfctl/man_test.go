package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pages writes all manual pages, and returns them by name.
func pages(t *testing.T) (dir string, all map[string]string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "man8")
	require.Equal(t, exitOK, run([]string{"man", dir}, nil, os.Stdout, os.Stderr))
	all = map[string]string{}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		all[f.Name()] = string(b)
	}
	return dir, all
}

func TestManualPages(t *testing.T) {
	_, all := pages(t)
	root := newRoot(&target{})
	commands := append(manualCommands(root), root)
	require.Len(t, all, len(commands))
	for _, c := range commands {
		page := all[pageName(c)+".8"]
		sections := regexp.MustCompile(`(?m)^\.SH (.*)$`).FindAllStringSubmatch(page, -1)
		want := "NAME SYNOPSIS DESCRIPTION OPTIONS EXIT STATUS EXAMPLES SEE ALSO"
		if c == root {
			want = "NAME SYNOPSIS DESCRIPTION COMMANDS OPTIONS FILES EXIT STATUS EXAMPLES SEE ALSO"
		}
		var got []string
		for _, s := range sections {
			if c == root || s[1] != "FILES" && s[1] != "SIGNALS" {
				got = append(got, s[1])
			}
		}
		assert.Equal(t, want, strings.Join(got, " "), c.Name())
		for _, other := range []string{"bpf(4)", "tcpdump(1)", `pcap\-filter(7)`} {
			assert.Contains(t, page[strings.LastIndex(page, ".SH"):], other)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				assert.Contains(t, page, `\fB`+roff("--"+f.Name)+`\fR`, c.Name())
			}
		})
		assert.NotContains(t, page, `=""`)
		assert.NotContains(t, page, "(default )")
		assert.NotContains(t, page, "``")
	}
	capture := all["bpfctl-capture.8"]
	assert.Contains(t, capture, "\\fB\\-w\\fR, \\fB\\-\\-write\\fR \\fIFILE\\fR\nWrite the packets")
	assert.Regexp(t,
		`(?s)\.SH FILES\n\.TP\n/dev/bpf\n.*\.SH SIGNALS\n\.TP\nSIGINT, SIGTERM\n`,
		capture)
	assert.Contains(t, all["bpfctl-zerocopy.8"], "\n/etc/sysctl.conf\n")
	assert.Contains(t, all["bpfctl-exporter.8"], ".SH SIGNALS\n")
}

func TestManualEscapesWhatRoffObeys(t *testing.T) {
	var b strings.Builder
	paragraphs(&b, ".so /etc/passwd\n'x\na\\b -w\n\n  .kept\n  two\nlast")
	assert.Equal(t, "\\&.so /etc/passwd\n\\&'x\na\\eb \\-w\n.PP\n.nf\n  .kept\n  two\n.fi\nlast\n",
		b.String())
}

func TestManualIsWhatGroffUnderstands(t *testing.T) {
	tool, err := exec.LookPath("groff")
	if err != nil {
		t.Skipf("groff checks the manual pages: %v", err)
	}
	dir, all := pages(t)
	args := []string{"-man", "-ww", "-Tascii", "-P-c"}
	for name := range all {
		args = append(args, filepath.Join(dir, name))
	}
	c := exec.Command(tool, args...)
	var said strings.Builder
	c.Stderr = &said
	out, err := c.Output()
	require.NoError(t, err)
	assert.Empty(t, said.String())
	assert.Contains(t, string(out), "bpfctl-send - write the packets of capture files")
}

// FreeBSD's man(1) reads pages with mandoc(1).
func TestManualIsWhatMandocUnderstands(t *testing.T) {
	tool, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skipf("mandoc checks the manual pages: %v", err)
	}
	dir, all := pages(t)
	for name := range all {
		page := filepath.Join(dir, name)
		said, _ := exec.Command(tool, "-Tlint", "-Wwarning", page).CombinedOutput() // fails for any line
		// The pages have no date: the program that writes them does not know when it was released.
		for line := range strings.Lines(string(said)) {
			assert.Contains(t, line, "missing date", name)
		}
		out, err := exec.Command(tool, "-Tascii", page).Output()
		require.NoError(t, err)
		plain := regexp.MustCompile(".\x08").ReplaceAllString(string(out), "") // bold letters
		sections := regexp.MustCompile(`(?m)^\.SH (.*)$`)
		for _, section := range sections.FindAllStringSubmatch(all[name], -1) {
			assert.Contains(t, plain, "\n"+section[1]+"\n", name)
		}
	}
}

// The port lists each manual page.
func TestPortListsThePages(t *testing.T) {
	list, err := os.ReadFile("../../packaging/port/net/bpfctl/pkg-plist")
	if os.IsNotExist(err) {
		t.Skipf("the port is where the source is, not here: %v", err)
	}
	require.NoError(t, err)
	listed := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		if page, ok := strings.CutPrefix(strings.TrimSpace(line), "share/man/man8/"); ok {
			listed[strings.TrimSuffix(page, ".gz")] = true
		}
	}
	_, all := pages(t)
	for name := range all {
		assert.True(t, listed[name], name)
	}
	assert.Len(t, listed, len(all))
}

// The services use flags that there are, with values that are right.
func TestServicesUseTheFlags(t *testing.T) {
	for _, command := range []string{"capture", "exporter"} {
		script, err := os.ReadFile("../../packaging/rc.d/bpfctl_" + command)
		if os.IsNotExist(err) {
			t.Skipf("the services are where the source is, not here: %v", err)
		}
		require.NoError(t, err)
		c, _, err := newRoot(&target{}).Find([]string{command})
		require.NoError(t, err)
		used := regexp.MustCompile(`[^-\w]--([a-z-]+)`).FindAllStringSubmatch(string(script), -1)
		require.NotEmpty(t, used)
		for _, m := range used {
			assert.NotNil(t, c.Flags().Lookup(m[1]), "bpfctl %s %s", command, m[0])
		}
		if command != "capture" {
			assert.Contains(t, string(script), defaultListen)
			continue
		}
		m := regexp.MustCompile(`bpfctl_capture_rotation=(--.*)}"`).FindStringSubmatch(string(script))
		require.NotNil(t, m)
		dir := t.TempDir()
		args := append([]string{"capture", "--model", "steady", "-i", "em0", "-c", "3", "-w",
			filepath.Join(dir, "capture.pcapng")}, strings.Fields(m[1])...)
		require.Equal(t, exitOK, run(args, nil, os.Stdout, os.Stderr))
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, files, 1)
		assert.Regexp(t, `^capture.+\.pcapng$`, files[0].Name(), "the name has the time")
	}
}
