package pcapio

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// The Reader reads the same packets as tcpdump copies, of pcap files of every version.
func TestTcpdumpAgrees(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("NOT RUN: tcpdump is not installed")
	}
	seeds := uint64(2000)
	if testing.Short() {
		seeds = 200
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	files, packets := 0, 0
	for seed := range seeds {
		f := capgen.Random(seed)
		if len(f.Kinds) > 0 { // pcapng, of which tcpdump takes one link type and one byte order
			continue
		}
		// tcpdump takes link types that it knows, and cuts packets to the snap length.
		ethernet := []byte{0, 0, 4, 0, 1, 0, 0, 0}
		if f.Bytes[0] == 0xa1 {
			ethernet = []byte{0, 4, 0, 0, 0, 0, 0, 1}
		}
		copy(f.Bytes[16:], ethernet)
		require.NoError(t, os.WriteFile(in, f.Bytes, 0o600))
		args := []string{"-r", in, "-w", out}
		if bytes.Contains(f.Bytes[:4], []byte{0x3c, 0xb2}) || bytes.Contains(f.Bytes[:4],
			[]byte{0xb2, 0x3c}) {
			args = append(args, "--nano") // for microseconds it makes the fraction overflow
		}
		said, err := exec.Command("tcpdump", args...).CombinedOutput()
		require.NoError(t, err, "seed %d: %s", seed, said)
		b, err := os.ReadFile(out)
		require.NoError(t, err)
		want, err := capgen.Parse(b)
		require.NoError(t, err)
		got, err := parsed(bytes.NewReader(f.Bytes))
		require.NoError(t, err)
		require.Empty(t, difference(want.Packets, got.Packets), "seed %d", seed)
		files++
		packets += len(want.Packets)
	}
	t.Logf("%d files with %d packets", files, packets)
	assert.NotZero(t, packets)
}
