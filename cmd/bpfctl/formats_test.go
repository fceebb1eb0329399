//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tool returns the path of another program, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	return path
}

// written has capture write the sample to a file of a name, and returns the file.
func written(t *testing.T, name string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	said, err := newProgram(t, append([]string{"capture", "--replay", "testdata/comments.pcapng",
		"-w", file}, args...)...).CombinedOutput()
	require.NoError(t, err, string(said))
	return file
}

// Each format, compressed or not, opens in tshark. It finds the packets, and their times as exactly
// as the format has them.
func TestTsharkOpensEachFormat(t *testing.T) {
	tshark := tool(t, "tshark")
	fields := func(file string) string {
		c := exec.Command(tshark, "-r", file, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len",
			"-e", "frame.protocols", "-e", "frame.comment")
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		require.NoError(t, err, "%s: %s", file, stderr.String())
		return string(out)
	}
	want := fields("testdata/comments.pcapng")
	require.Equal(t, 3, strings.Count(want, "\n"))
	require.Contains(t, want, "the third, ärgerlich")
	var uncommented, micro []string
	for line := range strings.Lines(want) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		uncommented = append(uncommented, strings.Join(f[:3], "\t")+"\t\n")
		f[0] = f[0][:len(f[0])-3] + "000"
		micro = append(micro, strings.Join(f[:3], "\t")+"\t\n")
	}
	for _, c := range []struct {
		name, format string
		want         []string
		always       bool // tshark needs a second of a processor for each file
	}{
		{"x.pcapng", "pcapng", []string{want}, false},
		{"x.pcapng.gz", "pcapng", []string{want}, false},
		{"x.pcapng.zst", "pcapng", []string{want}, true},
		{"x.pcap", "pcap", micro, false},
		{"x.pcap.gz", "pcap", micro, true},
		{"x.pcap.zst", "pcap", micro, false},
		{"x.pcap", "pcap-ns", uncommented, false},
		{"x.pcap.gz", "pcap-ns", uncommented, false},
		{"x.pcap.zst", "pcap-ns", uncommented, false},
	} {
		if c.always || !testing.Short() {
			got := fields(written(t, c.name, "--format", c.format))
			assert.Equal(t, strings.Join(c.want, ""), got, "%s %s", c.name, c.format)
		}
	}
}

// tcpdump opens each format, after other programs have decompressed it.
func TestTcpdumpOpensEachFormat(t *testing.T) {
	tcpdump := tool(t, "tcpdump")
	for _, end := range []string{"", ".gz", ".zst"} {
		for _, format := range []string{"pcap", "pcap-ns", "pcapng"} {
			data, err := os.ReadFile(written(t, "x"+end, "--format", format))
			require.NoError(t, err)
			c := exec.Command(tcpdump, "-r", "-", "-n", "-tt", "--nano")
			c.Stdin = bytes.NewReader(decompressed(t, end, data))
			out, err := c.Output()
			require.NoError(t, err, format+end)
			assert.Equal(t, 3, bytes.Count(out, []byte("\n1"))+1, "%s%s: %s", format, end, out)
		}
	}
}

func decompressed(t *testing.T, end string, data []byte) []byte {
	t.Helper()
	r := io.Reader(bytes.NewReader(data))
	switch end {
	case ".gz":
		z, err := gzip.NewReader(r)
		require.NoError(t, err)
		r = z
	case ".zst":
		z, err := zstd.NewReader(r)
		require.NoError(t, err)
		defer z.Close()
		r = z
	}
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	return all
}

// gzip and zstd test what capture has written while it goes on: each flush ends a whole file.
func TestOthersDecompressWhileCaptureRuns(t *testing.T) {
	for end, name := range map[string]string{".gz": "gzip", ".zst": "zstd"} {
		t.Run(name, func(t *testing.T) {
			path := tool(t, name)
			out := filepath.Join(t.TempDir(), "out.pcapng"+end)
			p := start(t, nil, "capture", "--model", "steady", "-i", "em0", "-w", out)
			for size := int64(0); size < 2000; {
				p.until("the file grows", func() bool {
					fi, err := os.Stat(out)
					return err == nil && fi.Size() > size
				})
				data, err := os.ReadFile(out)
				require.NoError(t, err)
				size = int64(len(data))
				c := exec.Command(path, "-t")
				c.Stdin = bytes.NewReader(data)
				said, err := c.CombinedOutput()
				require.NoError(t, err, "%d bytes: %s", size, said)
			}
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			require.Equal(t, exitOK, p.exit())
			data, err := os.ReadFile(out)
			require.NoError(t, err)
			whole := strings.TrimSuffix(out, end)
			require.NoError(t, os.WriteFile(whole, decompressed(t, end, data), 0o600))
			n, err := packetsIn(whole)
			require.NoError(t, err)
			require.Contains(t, p.said(), "bpfctl: "+strconv.Itoa(n)+" packets captured")
		})
	}
}
