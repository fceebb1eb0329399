//go:build unix

package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// zoneFile writes the file of a time zone that is always so far east, in the form of tzfile(5).
func zoneFile(t *testing.T, east time.Duration) string {
	t.Helper()
	b := append([]byte("TZif"), make([]byte, 16)...)   // version 1
	for _, count := range []uint32{0, 0, 0, 0, 1, 4} { // one kind of time, four bytes of names
		b = binary.BigEndian.AppendUint32(b, count)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(east/time.Second))
	b = append(b, 0, 0, 'A', 'B', 'C', 0)
	name := filepath.Join(t.TempDir(), "zone")
	require.NoError(t, os.WriteFile(name, b, 0o644))
	return name
}

// The local time is that of the time zone, although a capture in capability mode can't read its
// file.
func TestKernelLocalTimeInTheSandbox(t *testing.T) {
	const east = 5*time.Hour + 45*time.Minute
	zone := zoneFile(t, east)
	bpfctl := func(args ...string) string {
		c := newProgram(t, append([]string{"capture", "--model", "finite", "-i", "em0"}, args...)...)
		c.Env = append(c.Env, "TZ="+zone)
		out, err := c.Output()
		require.NoError(t, err)
		return string(out)
	}
	printed := bpfctl("-c", "1", "-tttt")
	const layout = "2006-01-02 15:04:05"
	abc := time.FixedZone("ABC", int(east/time.Second))
	at, err := time.ParseInLocation(layout, printed[:len(layout)], abc)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), at, patience)

	dir := t.TempDir()
	bpfctl("-c", "4", "--rotate-packets", "2", "--rotate-names", "time", "-w",
		filepath.Join(dir, "out.pcapng"))
	files, err := filepath.Glob(filepath.Join(dir, "out-*+0545*.pcapng"))
	require.NoError(t, err)
	assert.Len(t, files, 2)
}
