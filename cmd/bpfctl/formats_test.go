//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
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

	"github.com/zbuf-go/zbuf/internal/lab"
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

// eachFormat has the ends of names and the formats that a capture can write.
var eachFormat = []struct{ name, format string }{
	{".pcapng", "pcapng"}, {".pcapng.gz", "pcapng"}, {".pcapng.zst", "pcapng"},
	{".pcap", "pcap"}, {".pcap.gz", "pcap"}, {".pcap.zst", "pcap"},
	{".pcap", "pcap-ns"}, {".pcap.gz", "pcap-ns"}, {".pcap.zst", "pcap-ns"},
}

// formatsFolder is a variable of the environment. It names a folder for the files of each format
// that a capture on a kernel has written:
//
//	export ZBUF_FORMATS=/tmp/formats
//	GOOS=freebsd go test -run KernelFormats -outputdir $ZBUF_FORMATS -exec vmtest ./cmd/bpfctl
//	go test -run TsharkOpensFilesOfAKernel ./cmd/bpfctl
const formatsFolder = "ZBUF_FORMATS"

// Each format has so many packets, in so many files.
const formatPackets, formatFiles = 300, 3

// formatNames returns the names of the files of a format in a folder.
func formatNames(dir string, f struct{ name, format string }) (all []string) {
	for i := range formatFiles {
		all = append(all, filepath.Join(dir, fmt.Sprintf("%s-%05d%s", f.format, i+1, f.name)))
	}
	return all
}

// frames is n frames of all lengths, beginning with the given number.
func frames(first, n int) (all [][]byte) {
	for i := first; i < first+n; i++ {
		all = append(all, lab.Frame(60+i*131%1455, uint32(i)))
	}
	return all
}

// tshark opens each file that TestKernelFormats has written, and finds each packet.
func TestTsharkOpensFilesOfAKernel(t *testing.T) {
	dir := os.Getenv(formatsFolder)
	if dir == "" {
		t.Skipf("NOT RUN: %s names no files of a kernel", formatsFolder)
	}
	needTshark(t)
	for _, f := range eachFormat {
		t.Run(f.format+f.name, func(t *testing.T) {
			next := 0
			for _, name := range formatNames(dir, f) {
				finer := false
				for line := range strings.Lines(tsharkFields(t, name)) {
					data := frames(next, 1)[0]
					seconds, fields, _ := strings.Cut(strings.TrimSpace(line), "\t")
					assert.Equal(t, fmt.Sprintf("%d\t%[1]d\t%x", len(data), md5.Sum(data)), fields,
						"packet %d, in %s", next, name)
					finer = finer || !strings.HasSuffix(seconds, "000")
					next++
				}
				assert.Equal(t, f.format != "pcap", finer, "%s has nanoseconds", name)
			}
			assert.Equal(t, formatPackets, next)
		})
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
