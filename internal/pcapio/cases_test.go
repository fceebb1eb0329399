package pcapio

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

// readAll reads a file to its end. The packets are copies.
func readAll(r *Reader) (all []Packet, err error) {
	for {
		p, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		p.Data = bytes.Clone(p.Data)
		all = append(all, p)
	}
}

// Files that were read wrongly once, and their contents.
func TestReaderCases(t *testing.T) {
	at := time.Unix(1_700_000_000, 123_456_000)
	for _, c := range []struct {
		file  string
		times []time.Time
		wire  int
		out   bool
		notes []string
		err   string
	}{
		{file: "min-iface3G.pcapng",
			err: "packet 1, at byte 48: broken capture file: the packet is of interface 2147483648, and " +
				"the section has 1"},
		{file: "min-us.pcap", times: []time.Time{time.Unix(4, 294_968_000)}},
		{file: "min-tsresol0.pcapng", times: []time.Time{time.Unix(1, 0)}},
		{file: "min-bedir.pcapng", times: []time.Time{time.Unix(0, 1000)}, out: true},
		{file: "ng-v1.2.pcapng", times: []time.Time{at}, wire: 42},
		{
			file: "ng-isb-badiface.pcapng", times: []time.Time{at, at.Add(time.Microsecond)}, wire: 42,
			notes: []string{"packet 2, at byte 124: statistics of interface 7, and the section has 1: " +
				"they are left out"},
		},
		{
			file: "ng-caplen-gt-len.pcapng", times: []time.Time{at, at.Add(time.Microsecond)}, wire: 42,
			notes: []string{"packet 1, at byte 48: 42 bytes were captured of a packet of 10: it is read " +
				"as one of 42"},
		},
	} {
		t.Run(c.file, func(t *testing.T) {
			file, err := os.Open(filepath.Join("testdata", "cases", c.file))
			require.NoError(t, err)
			defer file.Close()
			r, err := NewReader(file)
			require.NoError(t, err)
			got, err := readAll(r)
			if c.err != "" {
				assert.EqualError(t, err, c.err)
			} else {
				assert.NoError(t, err)
			}
			require.Len(t, got, len(c.times))
			for i, p := range got {
				assert.Equal(t, c.times[i].UnixNano(), p.Time.UnixNano())
				assert.Equal(t, c.wire, p.WireLen)
				assert.Len(t, p.Data, c.wire)
				assert.Equal(t, c.out, p.Out)
			}
			assert.Equal(t, c.notes, r.Notes())
		})
	}
}

// be is a pcapng file of one big-endian section.
func be(blocks ...[]byte) []byte {
	b := []byte{10, 13, 13, 10, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255,
		255, 255, 255, 255, 0, 0, 0, 28}
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20)
	return append(b, ng(blocks...)...)
}

// The direction is read from the flags of both kinds of packets, in both byte orders.
func TestReaderDirection(t *testing.T) {
	enhanced := make([]byte, 20)
	for name, file := range map[string][]byte{
		"enhanced": ng(shb, idb, blk(6, append(enhanced, 2, 0, 4, 0, 0x12, 0, 0, 0)...)),
		"obsolete": ng(shb, idb, blk(2, append(enhanced, 2, 0, 4, 0, 0x12, 0, 0, 0)...)),
		"enhanced, big-endian": be([]byte{0, 0, 0, 6, 0, 0, 0, 40}, enhanced,
			[]byte{0, 2, 0, 4, 0, 0, 0, 0x12, 0, 0, 0, 40}),
		"obsolete, big-endian": be([]byte{0, 0, 0, 2, 0, 0, 0, 40}, enhanced,
			[]byte{0, 2, 0, 4, 0, 0, 0, 0x12, 0, 0, 0, 40}),
	} {
		t.Run(name, func(t *testing.T) {
			for flags, out := range map[byte]bool{0x12: true, 0x11: false, 0x13: false, 0x10: false} {
				file := bytes.Clone(file)
				file[bytes.IndexByte(file, 0x12)] = flags
				r, err := NewReader(bytes.NewReader(file))
				require.NoError(t, err)
				got, err := readAll(r)
				require.NoError(t, err)
				require.Len(t, got, 1)
				assert.Equal(t, out, got[0].Out, "flags %#x", flags)
			}
		})
	}
}

// Files of other kinds are named.
func TestForeignFiles(t *testing.T) {
	for _, c := range []struct{ start, err string }{
		{"BZh91AY&SY", "compressed by bzip2"},
		{"\xfd7zXZ\x00", "compressed by xz"},
		{"\x04\x22\x4d\x18", "compressed by lz4"},
		{"\x02\x21\x4c\x18", "compressed by lz4"},
		{"\x1f\x9d\x90", "compressed by compress (.Z)"},
		{"LZIP\x01", "compressed by lzip"},
		{"\x89LZO\x00", "compressed by lzop"},
		{"PK\x03\x04", "ZIP archive"},
		{"7z\xbc\xaf\x27\x1c", "7-Zip archive"},
		{"snoop\x00\x00\x00", "file of snoop"},
		{"GMBU", "Network Monitor"},
		{"\xa1\xb2\x34\xcd", "variant of pcap by Mesquita"},
		{"\x4d\x3c\x2b\xa1", "variant of pcap by Navtel"},
		{"\x1c\x00\x01\xac", "variant of pcap by Ixia"},
		{"\xab\x01\x00\x1c", "variant of pcap by Ixia"},
		{"\xa1\xb2\xc3\xd5", "neither pcap nor pcapng"},
	} {
		for _, rest := range []string{"", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"} {
			start := c.start
			if len(start) < 4 { // what is shorter is told by its length
				start += "\x00"
			}
			_, err := NewReader(bytes.NewReader([]byte(start + rest)))
			assert.ErrorIs(t, err, ErrFormat, "%q", c.start)
			assert.ErrorContains(t, err, c.err, "%q", c.start)
		}
	}
}

// The minor versions of pcap differ in the order of the two lengths, and a variant has longer
// headers.
func TestPcapVersions(t *testing.T) {
	head := func(magic string, major uint16, minor byte) []byte {
		return append([]byte(magic), byte(major), byte(major>>8), minor, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
			4, 0, 1, 0, 0, 0)
	}
	const le, modified = "\xd4\xc3\xb2\xa1", "\x34\xcd\xb2\xa1"
	threeOfFive, fiveOfThree := []byte{7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0}, []byte{7, 0, 0,
		0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0}
	data := []byte{0xa, 0xb, 0xc}
	for name, file := range map[string][]byte{
		"2.4":                 ng(head(le, 2, 4), threeOfFive, data),
		"2.3":                 ng(head(le, 2, 3), threeOfFive, data),
		"2.3, lengths as 2.2": ng(head(le, 2, 3), fiveOfThree, data),
		"2.2":                 ng(head(le, 2, 2), fiveOfThree, data),
		"2.0":                 ng(head(le, 2, 0), fiveOfThree, data),
		"543.0":               ng(head(le, 543, 0), fiveOfThree, data),
		"modified": ng(head(modified, 2, 4), threeOfFive, []byte{1, 0, 0, 0, 8, 0, 4, 0},
			data),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(ng(file, file[24:])))
			require.NoError(t, err)
			got, err := readAll(r)
			require.NoError(t, err)
			require.Len(t, got, 2)
			for _, p := range got {
				assert.Equal(t, Packet{Time: time.Unix(7, 0), Data: data, WireLen: 5}, p)
			}
			assert.Empty(t, r.Notes())
		})
	}
}

// Lengths of 2 GB and more are the same numbers on every processor.
func TestHugeLengths(t *testing.T) {
	huge := []byte{0xfe, 0xff, 0xff, 0xff}
	for name, file := range map[string][]byte{
		"pcap": ng(pcapBytes(7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0), huge, []byte{0xaa}),
		"enhanced": ng(shb, idb, blk(6,
			append(append(make([]byte, 12), 1, 0, 0, 0), append(huge, 0xaa)...)...)),
		"simple": ng(shb, blk(1, 1, 0, 0, 0, 1, 0, 0, 0), blk(3, append(huge, 0xaa)...)),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(file))
			require.NoError(t, err)
			got, err := readAll(r)
			require.NoError(t, err)
			require.Len(t, got, 1)
			assert.Equal(t, math.MaxInt32, got[0].WireLen)
			assert.Equal(t, []byte{0xaa}, got[0].Data)
			require.Len(t, r.Notes(), 1)
			assert.Contains(t, r.Notes()[0], "a packet of 4294967294 bytes: it is read as one of 2147483647")
		})
	}
}

// A note names each kind of fault of a file once, with the number of such faults.
func TestNotes(t *testing.T) {
	longer := pcapBytes()
	for range 3 {
		longer = append(longer, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7, 7)
	}
	for _, c := range []struct {
		name  string
		file  []byte
		notes []string
	}{
		{"nothing wrong", ng(shb, idb, epb, blk(5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)), nil},
		{"three longer than themselves", longer,
			[]string{"packet 1, at byte 24: 2 bytes were captured of a packet of 1: it is read as one of " +
				"2 (and so 3 times in all)"}},
		{"option longer than its block", ng(shb, idbWith(2, 0, 9, 0, 'e', 'm', '0', 0), epb),
			[]string{"packet 1, at byte 28: option 2 has a length of 9, and its block 4 more bytes: the " +
				"options from there on are left out"}},
		{"resolution of two bytes", ng(shb, idbWith(9, 0, 2, 0, 3, 3, 0, 0, 2, 0, 3, 0, 'e', 'm', '0'),
			epb),
			[]string{"packet 1, at byte 28: option 9 has a length of 2: it is left out"}},
		{"offset of no bytes, filter of none, flags of one",
			ng(shb, idbWith(14, 0, 0, 0, 11, 0, 0, 0), blk(6, append(make([]byte, 20), 2, 0, 1, 0, 2)...)),
			[]string{"packet 1, at byte 28: option 14 has a length of 0: it is left out (and so 3 times " +
				"in all)"}},
		{"statistics too short", ng(shb, idb, blk(5, 0, 0, 0, 0), epb),
			[]string{"packet 1, at byte 48: statistics in a block of 16 bytes: they are left out"}},
		{"statistics of no interface", ng(shb, blk(5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), idb, epb),
			[]string{"packet 1, at byte 28: statistics of interface 0, and the section has 0: they are " +
				"left out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(c.file))
			require.NoError(t, err)
			_, err = readAll(r)
			require.NoError(t, err)
			assert.Equal(t, c.notes, r.Notes())
		})
	}
}

func TestInterfaceOptions(t *testing.T) {
	r, err := NewReader(bytes.NewReader(ng(shb, idbWith(
		2, 0, 3, 0, 'e', 'm', '0', 0,
		3, 0, 4, 0, 'u', 'p', 'l', 'k',
		1, 0, 1, 0, 'a', 0, 0, 0,
		1, 0, 1, 0, 'b', 0, 0, 0,
		12, 0, 1, 0, 'F', 0, 0, 0,
		11, 0, 4, 0, 0, 't', 'c', 'p',
		11, 0, 1, 0, 1, 0, 0, 0, // a program
		0xac, 0x0b, 4, 0, 1, 2, 3, 4, // custom
		0, 0, 0, 0,
		2, 0, 1, 0, 'x', 0, 0, 0), epb, blk(6, append(make([]byte, 20), 1, 0, 1, 0, 'p', 0, 0, 0, 1, 0, 1,
		0, 'q', 0, 0, 0)...))))
	require.NoError(t, err)
	got, err := readAll(r)
	require.NoError(t, err)
	assert.Equal(t, []Interface{{Name: "em0", Description: "uplk", Comment: "a\nb", OS: "F",
		Filter: "tcp", LinkType: 1}}, r.Interfaces())
	require.Len(t, got, 2)
	assert.Empty(t, got[0].Comments)
	assert.Equal(t, []string{"p", "q"}, got[1].Comments)
}

// The filter of an interface comes back: a byte 0 and text, or 1 and a program.
func TestFiltersOfInterfacesComeBack(t *testing.T) {
	prog := []bpf.RawInstruction{{Op: 0x28, K: 12}, {Op: 0x15, Jf: 1, K: 0x800}, {Op: 6, K: 262144},
		{Op: 6}}
	var file bytes.Buffer
	w := NewWriter(&file)
	for _, i := range []Interface{{Filter: "ip "}, {Program: prog}, {}} {
		_, err := w.AddInterface(i)
		require.NoError(t, err)
	}
	require.NoError(t, w.Finish())
	assert.Contains(t, file.String(), "\x0b\x00\x04\x00\x00ip ")
	assert.Contains(t, file.String(), "\x0b\x00\x21\x00\x01\x28\x00\x00\x00\x0c\x00\x00\x00\x15")
	r, err := NewReader(&file)
	require.NoError(t, err)
	_, err = readAll(r)
	require.NoError(t, err)
	require.Len(t, r.Interfaces(), 3)
	assert.Equal(t, "ip ", r.Interfaces()[0].Filter)
	assert.Equal(t, prog, r.Interfaces()[1].Program)
	assert.Empty(t, r.Interfaces()[2].Filter)
}

// A length that a file claims costs no memory. Only bytes that come do.
func TestLengthsCostNoMemory(t *testing.T) {
	for name, file := range map[string][]byte{
		"pcap": ng(pcapBytes()[:16], []byte{0, 0, 0, 0, 1, 0, 0, 0},
			[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8}),
		"pcapng":  ng(shb, idb, []byte{6, 0, 0, 0, 0, 0, 0, 8}, make([]byte, 1000)),
		"unknown": ng(shb, idb, []byte{99, 0, 0, 0, 252, 255, 255, 255}, make([]byte, 1000)),
		"one section": ng([]byte{10, 13, 13, 10, 252, 255, 255, 255, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0},
			make([]byte, 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := NewReader(bytes.NewReader(file))
			if err == nil {
				_, err = readAll(r)
			}
			runtime.ReadMemStats(&after)
			assert.ErrorIs(t, err, ErrTruncated)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*firstBuffer))
		})
	}
}

// A packet longer than the buffer is read in whole, and the next one after it.
func TestLongPackets(t *testing.T) {
	record := func(n int) []byte {
		b := make([]byte, 16, 16+n)
		binary.LittleEndian.PutUint32(b[8:], uint32(n))
		binary.LittleEndian.PutUint32(b[12:], uint32(n))
		return append(b, bytes.Repeat([]byte{byte(n)}, n)...)
	}
	lengths := []int{1, firstBuffer - 16, firstBuffer, 3*firstBuffer + 1, 5, maxRecord, 7}
	if testing.Short() {
		lengths = append(lengths[:5], 7)
	}
	head := pcapBytes()
	head[16], head[17], head[18], head[19] = 0, 0, 0, 0
	file := []io.Reader{bytes.NewReader(head)}
	for _, n := range lengths {
		file = append(file, bytes.NewReader(record(n)))
	}
	r, err := NewReader(io.MultiReader(file...))
	require.NoError(t, err)
	for _, n := range lengths {
		p, err := r.Next()
		require.NoError(t, err)
		require.Len(t, p.Data, n)
		require.Equal(t, n, bytes.Count(p.Data, []byte{byte(n)}))
	}
	_, err = r.Next()
	assert.Equal(t, io.EOF, err)
}

// A packet is there as soon as its bytes are, and a source that hands out single bytes, or
// nothing at times, makes no difference.
func TestPacketsComeAtOnce(t *testing.T) {
	for name, c := range map[string]struct{ head, record []byte }{
		"pcap":   {pcapBytes(), []byte{1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7}},
		"pcapng": {ng(shb, blk(99, 1, 2, 3), idb), epb},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := io.Pipe()
			written := make(chan struct{})
			go func() {
				to.Write(c.head)
				written <- struct{}{}
				for range 3 {
					to.Write(c.record)
					written <- struct{}{}
				}
				to.Close()
			}()
			r, err := NewReader(from)
			require.NoError(t, err)
			for range 3 {
				<-written // nothing more comes before the packet has been read
				p, err := r.Next()
				require.NoError(t, err)
				assert.Len(t, p.Data, 1)
			}
			<-written
			_, err = r.Next()
			assert.Equal(t, io.EOF, err)

			whole := ng(c.head, c.record, c.record)
			for _, src := range []io.Reader{
				iotest.OneByteReader(bytes.NewReader(whole)), iotest.DataErrReader(bytes.NewReader(whole)),
				&stutter{file: whole},
			} {
				r, err := NewReader(src)
				require.NoError(t, err)
				got, err := readAll(r)
				require.NoError(t, err)
				assert.Len(t, got, 2)
			}
		})
	}
}

// stutter returns a byte at a time, and before each one nothing, or err.
type stutter struct {
	file  []byte
	err   error
	calls int
}

func (s *stutter) Read(p []byte) (int, error) {
	if s.calls++; s.calls%2 == 1 {
		return 0, s.err
	}
	if len(s.file) == 0 {
		return 0, io.EOF
	}
	p[0] = s.file[0]
	s.file = s.file[1:]
	return 1, nil
}

// After an error of the file, wherever it came, Next goes on where it was.
func TestNextGoesOn(t *testing.T) {
	for name, c := range map[string]struct{ head, rest []byte }{
		"pcap":   {pcapBytes(), []byte{1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7}},
		"pcapng": {shb, ng(blk(99, 1, 2, 3), idb, epb, shb, idb, blk(5, make([]byte, 12)...))},
	} {
		t.Run(name, func(t *testing.T) {
			src := &stutter{}
			r, err := NewReader(io.MultiReader(bytes.NewReader(c.head), src))
			require.NoError(t, err)
			src.file, src.err = ng(c.rest, c.rest), os.ErrDeadlineExceeded
			packets, interrupted := 0, 0
			for {
				_, err := r.Next()
				if err == io.EOF {
					break
				}
				if err == nil {
					packets++
					continue
				}
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NotErrorIs(t, err, ErrFormat)
				interrupted++
			}
			assert.Equal(t, 2, packets)
			assert.Equal(t, 2*len(c.rest)+1, interrupted)
		})
	}
}

// After a fault of the contents nothing is read any more.
func TestErrFormatIsFinal(t *testing.T) {
	r, err := NewReader(bytes.NewReader(ng(shb, epb, idb, epb)))
	require.NoError(t, err)
	_, first := r.Next()
	require.ErrorIs(t, first, ErrFormat)
	_, second := r.Next()
	assert.Equal(t, first, second)
}

// A source that returns nothing for ever does not hang the reader.
func TestNoProgress(t *testing.T) {
	_, err := NewReader(&failing{})
	assert.ErrorIs(t, err, io.ErrNoProgress)
}

func TestNextDoesNotAllocate(t *testing.T) {
	const n = 1000
	for name, file := range map[string][]byte{
		"pcap": ng(pcapBytes(), bytes.Repeat([]byte{1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7},
			n+2)),
		"pcapng": ng(shb, idb, bytes.Repeat(blk(6, append(make([]byte, 20), 2, 0, 4, 0, 2, 0, 0, 0)...),
			n+2)),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(file))
			require.NoError(t, err)
			assert.Zero(t, testing.AllocsPerRun(n, func() {
				if _, err := r.Next(); err != nil {
					t.Fail()
				}
			}))
		})
	}
}
