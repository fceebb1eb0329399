package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// A rotating capture on the kernel writes each format, compressed or not. Its files have each
// numbered packet once. With formatsFolder the files stay there.
func TestKernelFormats(t *testing.T) {
	keep := os.Getenv(formatsFolder)
	for i, f := range eachFormat {
		mode := []string{"zerocopy", "buffered"}[i%2]
		t.Run(f.format+f.name+" "+mode, func(t *testing.T) {
			_, pair := kernel(t, 1)
			dir := t.TempDir()
			p := start(t, nil, "capture", "-i", pair.A, "--mode", mode, "-c", fmt.Sprint(formatPackets),
				"-w", filepath.Join(dir, f.format+f.name), "--format", f.format,
				"--rotate-packets", fmt.Sprint(formatPackets/formatFiles))
			p.capturing()
			pair.Inject(t, frames(0, formatPackets)...)
			require.Equal(t, exitOK, p.exit(), p.said())

			next := 0
			for _, name := range formatNames(dir, f) {
				file, err := os.Open(name)
				require.NoError(t, err)
				defer file.Close()
				r, err := pcapio.NewReader(file)
				require.NoError(t, err)
				for q, err := range packetsOf(r) {
					require.NoError(t, err)
					require.Equal(t, frames(next, 1)[0], q.Data, "packet %d, in %s", next, name)
					if f.format == "pcap" {
						require.Zero(t, q.Time.Nanosecond()%1000, "packet %d has microseconds", next)
					}
					next++
				}
				if keep != "" {
					require.NoError(t, os.MkdirAll(keep, 0o755))
					data, err := os.ReadFile(name)
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(keep, filepath.Base(name)), data, 0o644))
				}
			}
			assert.Equal(t, formatPackets, next)
			assert.Contains(t, p.said(), fmt.Sprintf("bpfctl: %d files: ", formatFiles))
			assert.Equal(t, formatFiles, strings.Count(p.said(), f.name+": "))
		})
	}
}

// packetsOf returns the packets of a file, and the error that is not its end.
func packetsOf(r *pcapio.Reader) func(yield func(pcapio.Packet, error) bool) {
	return func(yield func(pcapio.Packet, error) bool) {
		for {
			p, err := r.Next()
			if err == io.EOF || !yield(p, err) || err != nil {
				return
			}
		}
	}
}
