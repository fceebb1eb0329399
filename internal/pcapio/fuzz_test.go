package pcapio

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

func seeds(add func([]byte)) {
	for i := range 8 {
		f := capgen.Format{Pcapng: i&4 != 0, Nano: i&2 != 0, BigEndian: i&1 != 0}
		var b bytes.Buffer
		packets := capgen.Packets(3, f, f.Pcapng, uint64(i))
		for i := range packets {
			packets[i].Data = packets[i].Data[:min(len(packets[i].Data), 20)]
		}
		if capgen.Write(&b, f, packets) != nil {
			panic("a buffer is never full")
		}
		add(b.Bytes())
	}
	for _, s := range samples {
		add(s.file)
	}
}

// FuzzReader: whatever the bytes are, there are packets that make sense, then io.EOF or ErrFormat.
func FuzzReader(f *testing.F) {
	seeds(func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
			return
		}
		total := 0
		for {
			p, err := r.Next()
			if err != nil {
				if err != io.EOF {
					require.ErrorIs(t, err, ErrFormat)
				}
				require.Zero(t, p)
				return
			}
			require.Less(t, p.Interface, len(r.Interfaces()))
			require.LessOrEqual(t, len(p.Data), p.WireLen)
			require.GreaterOrEqual(t, p.Time.UnixNano(), int64(0))
			total += len(p.Data)
			require.LessOrEqual(t, total, len(file))
		}
	})
}

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
	shb = append([]byte{10, 13, 13, 10}, blk(0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255)[4:]...)
	idb = blk(1, 1, 0, 0, 0, 0, 0, 0, 0)
	// one byte on interface 0, 1000001 µs after 1970
	epb = blk(6, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x42, 0x0f, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0xaa)
)

func pcapFile(records ...byte) []byte {
	return append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}, records...)
}

func idbWith(option ...byte) []byte {
	return blk(1, append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, option...)...)
}

// samples are files with what is wrong with them, or "" and how many packets they have.
var samples = []struct {
	name    string
	file    []byte
	packets int
	err     string
}{
	{"nothing", nil, 0, "it is empty"},
	{"two bytes", []byte{1, 2}, 0, "2 bytes are none"},
	{"text", []byte("Hello, here are no packets at all"), 0, "neither pcap nor pcapng"},
	{"gzip", []byte{0x1f, 0x8b, 8, 0, 0, 0}, 0, "gunzip it first"},
	{"pcap without packets", pcapFile(), 0, ""},
	{"pcap header cut", pcapFile()[:20], 0, "ends in the middle"},
	{"pcap of another version", append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 9}, pcapFile()[5:]...), 0, "Unknown major version 9"},
	{"pcap, empty packet", pcapFile(1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0), 1, ""},
	{"pcap record header cut", pcapFile(1, 0, 0, 0, 2, 0, 0), 0, "ends in the middle"},
	{"pcap cut behind a record header", pcapFile(1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0), 0, "ends in the middle"},
	{"pcap packet longer than itself", pcapFile(1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7, 7), 0, "capture length exceeds original packet length"},
	{"pcap packet of 4 GB", pcapFile(1, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 7, 7), 0, "capture length exceeds snap length"},
	{"pcapng without interfaces", shb, 0, ""},
	{"pcapng", ng(shb, idb, epb), 1, ""},
	{"two sections", ng(shb, idb, epb, shb, idb, idb, epb), 2, ""},
	{"section without an interface", ng(shb, idb, epb, shb, epb), 1, "Interface id 0 not present"},
	{"unknown blocks", ng(shb, blk(99, 1, 2, 3, 4), idb, blk(5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), epb), 1, ""},
	{"packet before an interface", ng(shb, epb), 0, "Interface id 0 not present"},
	{"no byte order", ng([]byte{10, 13, 13, 10, 28, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 16)), 0, "no byte order"},
	{"block length of 3", ng(shb, idb, []byte{6, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}), 0, "has a length of 3"},
	{"block length of 2 GB", ng(shb, idb, []byte{6, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0}), 0, "has a length of 2147483648"},
	{"lengths differ", ng(shb, idb, epb[:len(epb)-4], []byte{40, 0, 0, 0}), 0, "in front and 40 behind"},
	{"packet longer than its block", ng(shb, idb, blk(6, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 80, 0, 0, 0, 80, 0, 0, 0, 0xaa), epb), 0, "broken capture file"},
	{"pcapng packet longer than itself", ng(shb, idb, blk(6, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0xaa, 0xbb)), 0, "2 bytes were captured of 1"},
	{"cut in a block", ng(shb, idb, epb)[:len(shb)+len(idb)+30], 0, "ends in the middle"},
	{"cut in a block's head", ng(shb, idb, epb)[:len(shb)+len(idb)+5], 0, "ends in the middle"},
	{"time in 2^-10 s", ng(shb, idbWith(9, 0, 1, 0, 0x8a), epb), 0, "nanoseconds can't express"},
	{"time in 10^-30 s", ng(shb, idbWith(9, 0, 1, 0, 30), epb), 0, "nanoseconds can't express"},
	{"time before 1970", ng(shb, idbWith(14, 0, 8, 0, 0, 0, 0, 0, 255, 255, 255, 255), epb), 0, "after 1970"},
	{"packet without time", ng(shb, idb, blk(3, 1, 0, 0, 0, 0xaa)), 1, ""},
	{"packet block of old", ng(shb, idb, blk(2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0xaa)), 1, ""},
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
	for _, file := range [][]byte{nil, pcapFile(1, 0, 0, 0), ng(shb, idb, epb[:20])} {
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
