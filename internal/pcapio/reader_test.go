package pcapio

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ng builds pcapng blocks for samples.
func ng(blocks ...[]byte) (b []byte) {
	for _, x := range blocks {
		b = append(b, x...)
	}
	return b
}

func blk(kind byte, body ...byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	n := byte(12 + len(body))
	return append(append([]byte{kind, 0, 0, 0, n, 0, 0, 0}, body...), n, 0, 0, 0)
}

var (
	shb = append([]byte{10, 13, 13, 10},
		blk(0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255)[4:]...)
	idb = blk(1, 1, 0, 0, 0, 0, 0, 0, 0)
	// one byte on interface 0, 1000001 µs after 1970
	epb = blk(6, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x42, 0x0f, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0xaa)
)

func pcapBytes(records ...byte) []byte {
	return append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0,
		0, 0}, records...)
}

func idbWith(option ...byte) []byte {
	return blk(1, append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, option...)...)
}

// samples are files with their fault, or "" and the number of their packets.
var samples = []struct {
	name    string
	file    []byte
	packets int
	err     string
}{
	{"nothing", nil, 0, "it is empty"},
	{"two bytes", []byte{1, 2}, 0, "it has 2 bytes"},
	{"text", []byte("Hello, here are no packets at all"), 0, "neither pcap nor pcapng"},
	{"pcap without packets", pcapBytes(), 0, ""},
	{"pcap header cut", pcapBytes()[:20], 0, "ends in the middle"},
	{"pcap of another version",
		append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 9}, pcapBytes()[5:]...), 0,
		"it is of pcap version 9.4, and 2.0 to 2.4 are known"},
	{"pcap, empty packet", pcapBytes(1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0), 1, ""},
	{"pcap record header cut", pcapBytes(1, 0, 0, 0, 2, 0, 0), 0, "ends in the middle"},
	{"pcap cut behind a record header",
		pcapBytes(1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0), 0,
		"ends in the middle"},
	{"pcap packet longer than itself",
		pcapBytes(1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7, 7), 1,
		""},
	{"pcap packet of 4 GB",
		pcapBytes(1, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 7, 7), 0,
		"packet 1, at byte 24: broken capture file: 4294967295 bytes were captured, it says, and the " +
			"file has packets of up to 262144"},
	{"pcapng without interfaces", shb, 0, ""},
	{"pcapng", ng(shb, idb, epb), 1, ""},
	{"two sections", ng(shb, idb, epb, shb, idb, idb, epb), 2, ""},
	{"section without an interface",
		ng(shb, idb, epb, shb, epb), 1,
		"packet 2, at byte 112: broken capture file: the packet is of interface 0, and the section " +
			"has 0"},
	{"unknown blocks",
		ng(shb, blk(99, 1, 2, 3, 4), idb, blk(5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), epb), 1,
		""},
	{"packet before an interface",
		ng(shb, epb), 0,
		"packet 1, at byte 28: broken capture file: the packet is of interface 0, and the section has 0"},
	{"no byte order",
		ng([]byte{10, 13, 13, 10, 28, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 16)), 0,
		"no byte order"},
	{"block length of 3",
		ng(shb, idb, []byte{6, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}), 0,
		"packet 1, at byte 48: broken capture file: the block has a length of 3"},
	{"block length of 14",
		ng(shb, idb, []byte{99, 0, 0, 0, 14, 0, 0, 0, 0, 0, 14, 0, 0, 0}), 0,
		"packet 1, at byte 48: broken capture file: the block has a length of 14"},
	{"block length of 2 GB",
		ng(shb, idb, []byte{6, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0}), 0,
		"packet 1, at byte 48: broken capture file: the block has a length of 2147483648"},
	{"lengths differ",
		ng(shb, idb, epb[:len(epb)-4], []byte{40, 0, 0, 0}), 0,
		"packet 1, at byte 48: broken capture file: the block has a length of 36 in front and 40 behind"},
	{"packet longer than its block",
		ng(shb, idb, blk(6, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 80, 0, 0, 0, 80, 0, 0, 0, 0xaa), epb), 0,
		"packet 1, at byte 48: broken capture file: 80 bytes were captured, it says, and its block " +
			"has 4"},
	{"pcapng packet longer than itself",
		ng(shb, idb, blk(6, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0xaa, 0xbb)), 1,
		""},
	{"unknown block's lengths differ",
		ng(shb, []byte{99, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0}), 0,
		"packet 1, at byte 28: broken capture file: the block has a length of 16 in front and 20 behind"},
	{"unknown block of 4 GB",
		ng(shb, []byte{99, 0, 0, 0, 252, 255, 255, 255}, make([]byte, 100)), 0,
		"packet 1, at byte 28: broken capture file: it ends in the middle"},
	{"section header cut", shb[:20], 0, "ends in the middle"},
	{"section of 16 bytes",
		ng([]byte{10, 13, 13, 10, 16, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 16, 0, 0, 0}), 0,
		"the block has a length of 16, too short for its type"},
	{"section of another version",
		ng(shb[:12], []byte{1, 0, 1, 0}, shb[16:]), 0,
		"it is of pcapng version 1.1, and 1.0 and 1.2 are known"},
	{"interface too short",
		ng(shb, blk(1, 1, 0, 0, 0)), 0,
		"packet 1, at byte 28: broken capture file: the block has a length of 16, too short for its " +
			"type"},
	{"packet too short", ng(shb, idb, blk(6, 0, 0, 0, 0)), 0, "too short for its type"},
	{"simple packet longer than its block",
		ng(shb, idb, blk(3, 9, 0, 0, 0, 0xaa)), 0,
		"9 bytes were captured, it says, and its block has 4"},
	{"cut in a block", ng(shb, idb, epb)[:len(shb)+len(idb)+30], 0, "ends in the middle"},
	{"cut in a block's head", ng(shb, idb, epb)[:len(shb)+len(idb)+5], 0, "ends in the middle"},
	{"time before 1970",
		ng(shb, idbWith(14, 0, 8, 0, 0, 0, 0, 0, 255, 255, 255, 255), epb), 0,
		"its time is not in the 292 years after 1970"},
	{"packet without time", ng(shb, idb, blk(3, 1, 0, 0, 0, 0xaa)), 1, ""},
	{"packet block of old",
		ng(shb, idb, blk(2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0xaa)), 1,
		""},
}

func TestReaderSamples(t *testing.T) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			n := 0
			r, err := NewReader(bytes.NewReader(s.file))
			for err == nil {
				if _, err = r.Next(); err == nil {
					n++
				}
			}
			assert.Equal(t, s.packets, n)
			if s.err == "" {
				assert.Equal(t, io.EOF, err)
				return
			}
			assert.ErrorIs(t, err, ErrFormat)
			assert.ErrorContains(t, err, s.err)
		})
	}
}

// A file's time stamps are taken over to the nanosecond, with the interface's offset.
func TestReaderTime(t *testing.T) {
	for _, c := range []struct {
		name string
		idb  []byte
		want time.Time
	}{
		{"µs unless told", idb, time.Unix(1, 1000)},
		{"10^-9 s", idbWith(9, 0, 1, 0, 9), time.Unix(0, 1000001)},
		{"10^-3 s", idbWith(9, 0, 1, 0, 3), time.Unix(1000, 1000000)},
		{"1 s", idbWith(9, 0, 1, 0, 0), time.Unix(1000001, 0)},
		{"10^-19 s", idbWith(9, 0, 1, 0, 19), time.Unix(0, 0)},
		{"10^-30 s", idbWith(9, 0, 1, 0, 30), time.Unix(0, 0)},
		{"1 s in powers of 2", idbWith(9, 0, 1, 0, 0x80), time.Unix(1000001, 0)},
		{"2^-10 s", idbWith(9, 0, 1, 0, 0x8a), time.Unix(976, 563476562)},
		{"2^-32 s", idbWith(9, 0, 1, 0, 0x80|32), time.Unix(0, 232830)},
		{"2^-64 s", idbWith(9, 0, 1, 0, 0x80|64), time.Unix(0, 0)},
		{"resolution of two bytes, left out", idbWith(9, 0, 2, 0, 3, 3), time.Unix(1, 1000)},
		{"negative offset", idbWith(14, 0, 8, 0, 255, 255, 255, 255, 255, 255, 255, 255),
			time.Unix(0, 1000)},
		{"10^-12 s, cut", idbWith(9, 0, 1, 0, 12), time.Unix(0, 1000)},
		{"offset", idbWith(14, 0, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0), time.Unix(6, 1000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(ng(shb, c.idb, epb)))
			require.NoError(t, err)
			p, err := r.Next()
			require.NoError(t, err)
			assert.Equal(t, c.want.UnixNano(), p.Time.UnixNano())
			assert.Equal(t, []byte{0xaa}, p.Data)
			assert.Equal(t, 9, p.WireLen)
		})
	}
}

// An error of reading is that, and not a broken file.
func TestReaderPassesErrorsOn(t *testing.T) {
	boom := errors.New("boom")
	for _, file := range [][]byte{nil, pcapBytes(1, 0, 0, 0), ng(shb, idb, epb[:20])} {
		r, err := NewReader(io.MultiReader(bytes.NewReader(file), &failing{boom}))
		if err == nil {
			_, err = r.Next()
		}
		assert.ErrorIs(t, err, boom)
		assert.NotErrorIs(t, err, ErrFormat)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
