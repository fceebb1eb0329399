package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/pcapio"
	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

// hostile would set a terminal's title and colour.
const hostile = "\x1b]0;owned\a\u009b7mem\r\n\x7f"

// requireHarmless fails if a terminal would obey any of a text.
func requireHarmless(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		require.False(t, r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0, "%q in %q", r, text)
	}
}

// Any process can choose its name. The commands that show it do not pass it to the terminal.
func TestProgramNamesAreEscaped(t *testing.T) {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Mode: bpf.ZeroCopy})
	require.NoError(t, err)
	defer r.Close()
	m := &machine.Machine{
		BPF: k, Stop: func() {}, Interfaces: func() ([]machine.Interface, error) {
			return []machine.Interface{{Name: hostile}}, nil
		},
		Sysctl: sysctl.New(sysctltest.New(append(sysctltest.BPF(k),
			sysctltest.Value("hw.pagesize", sysctl.CTLTYPE_INT, sysctl.CTLFLAG_RD, "I", []byte{0, 16, 0, 0}),
			sysctltest.Processes(func(pid int) (string, bool) { return hostile, pid == os.Getpid() }))...)),
	}
	for _, args := range [][]string{
		{"stats"}, {"stats", "--watch", "10ms", "-c", "1"}, {"stats", "--json"},
		{"stats", "--watch", "10ms", "-c", "1", "--json"}, {"stats", "--prometheus"},
		{"zerocopy"}, {"zerocopy", "--json"},
	} {
		var stdout, stderr bytes.Buffer
		code := runOn(&target{host: func() *machine.Machine { return m }}, args, nil, &stdout, &stderr)
		require.Equal(t, exitOK, code, stderr.String())
		requireHarmless(t, stdout.String())
		if args[len(args)-1] == "--json" {
			assert.True(t, json.Valid(stdout.Bytes()))
			if args[0] == "stats" && len(args) == 2 {
				var all listeners
				require.NoError(t, json.Unmarshal(stdout.Bytes(), &all))
				assert.Equal(t, hostile, all.Listeners[0].Program, "JSON says the same in other words")
			}
		} else {
			said := strings.ReplaceAll(stdout.String(), `\\`, `\`) // labels of metrics double them
			assert.Contains(t, said, `\x1b]0;owned\a`)
		}
	}
}

// A file can have any names in it, and any name itself.
func TestNamesFromFilesAreEscaped(t *testing.T) {
	name := filepath.Join(t.TempDir(), "\x1b[31mfile")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	w := pcapio.NewWriter(f)
	_, err = w.AddInterface(pcapio.Interface{Name: hostile, Description: hostile, Comment: hostile,
		OS: hostile, LinkType: 1})
	require.NoError(t, err)
	require.NoError(t, w.WritePacket(0, 1, 2, make([]byte, 60), 60))
	require.NoError(t, w.Finish())
	require.NoError(t, f.Truncate(sizeOf(t, f)-10))
	code, stdout, stderr := bpfctl(t, "capture", "--replay", name)
	assert.Equal(t, exitFail, code)
	assert.Contains(t, stderr, `\x1b[31mfile: packet`)
	requireHarmless(t, stdout)
	requireHarmless(t, stderr)

	require.NoError(t, w.WritePacket(0, 1, 2, make([]byte, 60), 60))
	require.NoError(t, w.Flush())
	code, _, stderr = bpfctl(t, "send", "--model", "quiet", "-i", hostile, name)
	assert.Equal(t, exitFail, code)
	requireHarmless(t, stderr)
}

// sizeOf returns a file's size.
func sizeOf(t *testing.T, f *os.File) int64 {
	t.Helper()
	fi, err := f.Stat()
	require.NoError(t, err)
	return fi.Size()
}
