package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// oddFile is one of the files that were read wrongly once.
func oddFile(name string) string {
	return filepath.Join("..", "..", "internal", "pcapio", "testdata", "cases", name)
}

// The replay reads the files that other tools read, and reports each of their faults once.
func TestReplayOfOddFiles(t *testing.T) {
	for _, c := range []struct {
		file    string
		args    string
		packets int
		says    string // in standard error, once
	}{
		{"min-us.pcap", "", 1, ""},
		{"min-tsresol0.pcapng", "", 1, ""},
		{"min-bedir.pcapng", "--direction out", 1, ""},
		{"min-bedir.pcapng", "--direction in", 0, ""},
		{"ng-v1.2.pcapng", "", 1, ""},
		{"ng-isb-badiface.pcapng", "", 2, ": packet 2, at byte 124: statistics of interface 7"},
		{"ng-caplen-gt-len.pcapng", "", 2,
			": packet 1, at byte 48: 42 bytes were captured of a packet of 10"},
	} {
		t.Run(c.file+c.args, func(t *testing.T) {
			in, out := oddFile(c.file), filepath.Join(t.TempDir(), "out")
			code, _, stderr := bpfctl(t, append([]string{"capture", "--replay", in, "-w", out},
				strings.Fields(c.args)...)...)
			require.Zero(t, code, stderr)
			assert.Len(t, readPcapng(t, out).packets, c.packets)
			if c.says == "" {
				assert.NotContains(t, stderr, in+": packet")
			} else {
				assert.Equal(t, 1, strings.Count(stderr, "bpfctl: "+in+c.says), stderr)
				code, _, stderr = bpfctl(t, "send", "--model", "quiet", "-i", "em0", in, "--topspeed")
				assert.Zero(t, code, stderr)
				assert.Equal(t, 1, strings.Count(stderr, "bpfctl: "+in+c.says), stderr)
			}
		})
	}
}

// An error of a file says its name, the packet and the place, whether it is replayed or sent.
func TestErrorsNameFileAndPacket(t *testing.T) {
	in := oddFile("min-iface3G.pcapng")
	want := "bpfctl: " + in + ": packet 1, at byte 48: broken capture file: the packet is of " +
		"interface 2147483648, and the section has 1\n"
	for _, args := range [][]string{
		{"capture", "--replay", in, "-w", filepath.Join(t.TempDir(), "out")},
		{"send", "--model", "quiet", "-i", "em0", in},
	} {
		code, _, stderr := bpfctl(t, args...)
		assert.Equal(t, exitFail, code)
		assert.Contains(t, stderr, want)
	}
	code, _, stderr := bpfctl(t, "capture", "--replay", oddFile("."))
	assert.Equal(t, exitFail, code)
	assert.Contains(t, stderr, "is a directory")
}

// A time stamp in ns is the same in ns after it was one in units of 2^-64 s.
func TestReplayWithBintimeKeepsNanoseconds(t *testing.T) {
	f := capgen.Format{Pcapng: true, Nano: true}
	want := capgen.Packets(1000, f, true, 8)
	for i := range want {
		want[i].Time = time.Unix(1_700_000_000, int64(i)*1_001_001)
	}
	in := writeFile(t, f, want)
	for _, mode := range []string{"zerocopy", "buffered"} {
		requireSame(t, want, readPcapng(t,
			replayed(t, in, "--timestamp", "bintime", "--mode", mode)).packets)
	}
}
