package sink

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// memory is a folder in memory, on a disk with so much room.
type memory struct {
	files map[string]*memoryFile
	room  atomic.Int64
}

type memoryFile struct {
	disk
	in *memory
}

// unlimited is more room than any test needs.
const unlimited = 1 << 30

func newMemory() *memory {
	m := &memory{files: map[string]*memoryFile{}}
	m.room.Store(unlimited)
	return m
}

// used returns the bytes of all files but one.
func (m *memory) used(but *memoryFile) (n int) {
	for _, f := range m.files {
		if f != but {
			n += len(f.data)
		}
	}
	return n
}

func (f *memoryFile) WriteAt(p []byte, at int64) (int, error) {
	f.room = int(f.in.room.Load()) - f.in.used(f)
	return f.disk.WriteAt(p, at)
}

func (m *memory) create(name, shown string, spec Spec) (*Sink, error) {
	if m.files[name] != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EEXIST}
	}
	f := &memoryFile{in: m}
	m.files[name] = f
	return newSink(spec, newOutput(&regular{f: f, owned: true}, shown, spec.Compression)), nil
}

func (m *memory) remove(name string) error {
	if m.files[name] == nil {
		return &fs.PathError{Op: "unlink", Path: name, Err: syscall.ENOENT}
	}
	delete(m.files, name)
	return nil
}

func (m *memory) list() ([]fs.DirEntry, error) {
	all := fstest.MapFS{}
	for name, f := range m.files {
		all[name] = &fstest.MapFile{Data: f.data}
	}
	return fs.ReadDir(all, ".")
}

// names returns the names of all files in the order of the alphabet.
func (m *memory) names() []string { return slices.Sorted(maps.Keys(m.files)) }

// contents returns the numbers of the packets in a file, which must be whole.
func (m *memory) contents(t *testing.T, name string) (all []int) {
	t.Helper()
	require.True(t, m.files[name].closed, name)
	var file io.Reader = bytes.NewReader(m.files[name].data)
	if strings.HasSuffix(name, ".gz") {
		var err error
		file, err = gzip.NewReader(file)
		require.NoError(t, err, name)
	}
	r, err := pcapgo.NewNgReader(file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	require.NoError(t, err, name)
	for {
		data, ci, err := r.ReadPacketData()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err, name)
		require.Less(t, ci.InterfaceIndex, 2)
		i, err := r.Interface(ci.InterfaceIndex)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("em", ci.InterfaceIndex), i.Name, "each file has all interfaces")
		all = append(all, int(binary.BigEndian.Uint32(data)))
	}
}

// numbered is a packet with a number.
func numbered(n, length int) capture.Packet {
	data := make([]byte, max(length, 4))
	binary.BigEndian.PutUint32(data, uint32(n))
	return capture.Packet{Interface: n % 2, Sec: int64(n), WireLen: len(data), Data: data}
}

// rotating is a rotation in memory, with what it said.
type rotating struct {
	*Rotating
	t        *testing.T
	in       *memory
	said     []string
	finished []string
	stats    []pcapio.Statistics
}

func rotate(t *testing.T, in *memory, rules Rotation) *rotating {
	t.Helper()
	return rotateSpec(t, in, Spec{Format: Pcapng}, rules)
}

func rotateSpec(t *testing.T, in *memory, spec Spec, rules Rotation) *rotating {
	t.Helper()
	r := &rotating{t: t, in: in, stats: make([]pcapio.Statistics, 2)}
	if rules.Name == "" {
		rules.Name = "out.pcapng"
	}
	rules.Shown = "cap"
	rules.Statistics = func() []pcapio.Statistics { return slices.Clone(r.stats) }
	rules.Say = func(line string) { r.said = append(r.said, line) }
	rules.Finished = func(name string) { r.finished = append(r.finished, name) }
	var err error
	r.Rotating, err = newRotating(spec, rules, in)
	require.NoError(t, err)
	// The clock of a bubble stands still while another goroutine waits for a lock.
	r.pause = func(time.Duration) {}
	for i := range 2 {
		require.NoError(t, r.AddInterface(pcapio.Interface{LinkType: 1, Name: fmt.Sprint("em", i)}))
	}
	return r
}

// write writes packets with the numbers from first on, in one batch.
func (r *rotating) write(first, n, length int) {
	r.t.Helper()
	b := &capture.Batch{}
	for i := range n {
		b.Packets = append(b.Packets, numbered(first+i, length))
	}
	require.NoError(r.t, r.Write(b))
}

func (r *rotating) finish() {
	r.t.Helper()
	require.NoError(r.t, r.Finish(r.stats))
}

// requireFiles compares the files with the numbers of the packets that they are to have.
func (r *rotating) requireFiles(want map[string][]int) {
	r.t.Helper()
	got := map[string][]int{}
	for _, name := range r.in.names() {
		got[name] = r.in.contents(r.t, name)
	}
	require.Equal(r.t, want, got)
}

// A file ends with so many packets. The next one begins with the next packet.
func TestRotatesByPackets(t *testing.T) {
	in := newMemory()
	r := rotate(t, in, Rotation{Packets: 3})
	r.write(0, 3, 60)
	require.Equal(t, []string{"out-00001.pcapng"}, r.finished, "it ends with its last packet")
	require.Equal(t, []string{"out-00001.pcapng"}, in.names(), "there may be no more packets")
	r.write(3, 4, 60)
	packets, captured := r.Written()
	require.Equal(t, []uint64{6, 360}, []uint64{packets, captured}, "one is kept back")
	r.finish()
	r.requireFiles(map[string][]int{
		"out-00001.pcapng": {0, 1, 2}, "out-00002.pcapng": {3, 4, 5}, "out-00003.pcapng": {6},
	})
	packets, captured = r.Written()
	require.Equal(t, []uint64{7, 420}, []uint64{packets, captured})
	require.Equal(t, 3, r.Files())
	require.Len(t, r.said, 3)
	assert.Equal(t, "cap/out-00003.pcapng: 1 packet, "+strconv.Itoa(len(
		in.files["out-00003.pcapng"].data))+" bytes, in 0s; 0 dropped by the kernel",
		regexp.MustCompile(`in \S+;`).ReplaceAllString(r.said[2], "in 0s;"))
}

// A file ends with the packet that makes it as long as it may be.
func TestRotatesBySize(t *testing.T) {
	in := newMemory()
	const limit, block = 2000, 132 // what a packet of 100 bytes takes
	r := rotate(t, in, Rotation{Size: limit})
	r.write(0, 50, 100)
	r.finish()
	next := 0
	for i, name := range in.names() {
		numbers := in.contents(t, name)
		for _, n := range numbers {
			require.Equal(t, next, n)
			next++
		}
		atLastPacket := int(r.in.headOf(t, name)) + len(numbers)*block
		require.Less(t, atLastPacket, limit+block, "exceeded by a packet at most")
		if i < len(in.names())-1 {
			require.GreaterOrEqual(t, atLastPacket, limit)
		}
	}
	require.Equal(t, 50, next)
	require.Len(t, in.names(), 4)
}

// headOf returns how many bytes a file has before its first packet.
func (m *memory) headOf(t *testing.T, name string) (n uint32) {
	t.Helper()
	for data := m.files[name].data; binary.LittleEndian.Uint32(data[n:]) != 6; {
		n += binary.LittleEndian.Uint32(data[n+4:])
	}
	return n
}

// inZone makes a zone so far east the local one until the test ends.
func inZone(t *testing.T, east time.Duration) {
	was := time.Local
	t.Cleanup(func() { time.Local = was })
	time.Local = time.FixedZone("", int(east/time.Second))
}

// The clock ends a file, also when no packet comes. Each interval has a file.
func TestRotatesOnTheClock(t *testing.T) {
	for east, first := range map[time.Duration]int{0: 0, 5*time.Hour + 30*time.Minute: 5} {
		inZone(t, east)
		synctest.Test(t, func(t *testing.T) { // its clock begins at 2000-01-01 00:00 UTC
			time.Sleep(17 * time.Minute)
			in := newMemory()
			r := rotate(t, in, Rotation{Every: time.Hour, Naming: ByTime})
			half := (east % time.Hour) // a file begins when the local clock shows the hour
			p := &capture.Pipeline{Sink: r.Rotating, Source: &paced{pauses: []time.Duration{
				time.Minute, time.Minute, 42*time.Minute - half, 2 * time.Hour, time.Second}}}
			_, err := p.Run(t.Context())
			require.NoError(t, err)
			name := func(hour, minute int) string {
				return "out-" + time.Date(2000, 1, 1, hour, minute, 0, 0, time.Local).
					Format(timeInName) + ".pcapng"
			}
			r.requireFiles(map[string][]int{name(first, 17+int(half/time.Minute)): {0, 1},
				name(first+1, 0): {2}, name(first+2, 0): nil, name(first+3, 0): {3, 4}})
		})
	}
}

// paced is a source of numbered packets on two interfaces with a pause before each.
type paced struct {
	pauses []time.Duration
	told   bool
	next   int
	before func(n int) // each packet; may be nil
	length func(n int) int
}

func (s *paced) Describe() string                { return "paced" }
func (s *paced) Statistics() []pcapio.Statistics { return make([]pcapio.Statistics, 2) }
func (s *paced) Notes() []string                 { return nil }
func (s *paced) Close() error                    { return nil }

func (s *paced) Next(_ context.Context, b *capture.Batch) error {
	if s.next == len(s.pauses) {
		return io.EOF
	}
	time.Sleep(s.pauses[s.next])
	for s.next < len(s.pauses) && (len(b.Packets) == 0 || s.pauses[s.next] == 0) {
		if s.before != nil {
			s.before(s.next)
		}
		length := 60
		if s.length != nil {
			length = s.length(s.next)
		}
		b.Packets = append(b.Packets, numbered(s.next, length))
		s.next++
	}
	return nil
}

// With the packets' time stamps as the clock, a file has the packets of its interval.
func TestRotatesOnTheClockOfPackets(t *testing.T) {
	inZone(t, 0) // some zones had no whole minutes in 1970
	in := newMemory()
	r := rotate(t, in, Rotation{Every: time.Minute, ByPackets: true, Naming: ByTime})
	require.Empty(t, in.names(), "nobody knows yet when it begins")
	r.write(50, 15, 60) // packet n comes at second n
	r.write(300, 1, 60)
	r.finish()
	name := func(sec int64) string { return "out-" + time.Unix(sec, 0).Format(timeInName) + ".pcapng" }
	r.requireFiles(map[string][]int{
		name(50): {50, 51, 52, 53, 54, 55, 56, 57, 58, 59}, name(60): {60, 61, 62, 63, 64},
		name(300): {300},
	})
	require.Contains(t, r.said[0], "in 9s;")

	in = newMemory()
	r = rotate(t, in, Rotation{Every: time.Minute, ByPackets: true})
	r.finish()
	r.requireFiles(map[string][]int{"out-00001.pcapng": nil})
}

// Each file's counters are those of its time. Together they are those of the capture.
func TestFilesHaveTheirOwnCounters(t *testing.T) {
	in := newMemory()
	r := rotate(t, in, Rotation{Packets: 1})
	begin := time.Unix(1000, 0)
	for n := range 3 {
		at := begin.Add(time.Duration(n+1) * time.Second)
		for i := range r.stats {
			r.stats[i] = pcapio.Statistics{Start: begin, End: at, Received: uint64(10 * (n + 1) * (i + 1)),
				Dropped: uint64(n + 1)}
		}
		r.write(n, 1, 60)
	}
	r.finish()
	require.Len(t, in.names(), 3)
	for n, name := range in.names() {
		ng, err := pcapgo.NewNgReader(bytes.NewReader(in.files[name].data),
			pcapgo.NgReaderOptions{WantMixedLinkType: true})
		require.NoError(t, err)
		for err == nil {
			_, _, err = ng.ReadPacketData()
		}
		for i := range 2 {
			iface, err := ng.Interface(i)
			require.NoError(t, err)
			assert.EqualValues(t, 10*(i+1), iface.Statistics.PacketsReceived)
			assert.EqualValues(t, 1, iface.Statistics.PacketsDropped)
			assert.Equal(t, begin.Add(time.Duration(n)*time.Second).UTC(),
				iface.Statistics.StartTime.UTC())
		}
		assert.Contains(t, r.said[n], "; 2 dropped by the kernel")
	}
}

// The ring keeps so many files, with the one that is written, or so many bytes. It also has the
// files of earlier rotations of the same name, and no others.
func TestRingKeepsSoMuch(t *testing.T) {
	in := newMemory()
	first := rotate(t, in, Rotation{Packets: 1})
	first.write(0, 4, 60)
	first.finish()
	for _, name := range []string{"out-1.pcapng", "out-00001.pcap", "other-00001.pcapng", "out.pcapng",
		"out-00001.pcapng.gz", "xout-00001.pcapng"} {
		in.files[name] = &memoryFile{in: in}
	}
	others := len(in.files) - 4
	second := rotate(t, in, Rotation{Packets: 1, KeepFiles: 3})
	require.Len(t, in.files, others+3)
	second.write(4, 5, 60)
	second.finish()
	require.Len(t, in.files, others+3)
	for i, name := range []string{"out-00007.pcapng", "out-00008.pcapng", "out-00009.pcapng"} {
		require.Equal(t, []int{6 + i}, in.contents(t, name), name)
	}

	clear(in.files)
	third := rotate(t, in, Rotation{Size: 1000, KeepBytes: 5000})
	for n := range 100 {
		third.write(n, 1, 100)
		require.LessOrEqual(t, in.used(nil), 5000+132+2*64, "a packet and the counters at most")
	}
	third.finish()
	require.Len(t, in.files, 4)
	require.Contains(t, in.contents(t, in.names()[3]), 99)
}

// A signal may come before the source has told its interfaces. The counters are there already.
func TestRotatesBeforeTheInterfacesAreKnown(t *testing.T) {
	in := newMemory()
	stats := []pcapio.Statistics{{Received: 3}}
	r, err := newRotating(Spec{Format: Pcapng}, Rotation{Name: "out.pcapng", Packets: 10,
		Statistics: func() []pcapio.Statistics { return stats }, Say: func(string) {}}, in)
	require.NoError(t, err)
	require.NoError(t, r.Rotate(time.Now()))
	require.NoError(t, r.AddInterface(pcapio.Interface{LinkType: 1, Name: "em0"}))
	require.NoError(t, r.Rotate(time.Now()))
	require.NoError(t, r.Write(&capture.Batch{Packets: []capture.Packet{numbered(0, 60)}}))
	require.NoError(t, r.Finish(stats))
	require.Len(t, in.names(), 2, "the first signal found a file that had just begun")
	for i, want := range [][]int{nil, {0}} {
		require.Equal(t, want, in.contents(t, in.names()[i]))
	}
}

// A name that is taken is never overwritten.
func TestRotationOverwritesNothing(t *testing.T) {
	for _, naming := range []Naming{ByNumber, ByTime} {
		in := newMemory()
		for range 3 { // a program that was started three times in a second
			r := rotate(t, in, Rotation{Packets: 2, Naming: naming})
			r.write(len(in.files)*10, 4, 60)
			r.finish()
		}
		require.Len(t, in.names(), 6)
		for _, name := range in.names() {
			require.Len(t, in.contents(t, name), 2)
		}
	}
}

// A full disk ends the rotation, or costs the oldest files. No packet is lost then.
func TestFullDiskOfARotation(t *testing.T) {
	in := newMemory()
	in.room.Store(5000)
	r := rotate(t, in, Rotation{Packets: 5, DropOldest: true})
	for n := range 200 {
		r.write(n, 1, 100)
	}
	r.finish()
	next := -1
	for _, name := range in.names() {
		for _, n := range in.contents(t, name) {
			require.Contains(t, []int{n, -1}, next)
			next = n + 1
		}
	}
	require.Equal(t, 200, next)
	require.Greater(t, len(in.files), 3)
	packets, _ := r.Written()
	require.EqualValues(t, 200, packets)
	require.Contains(t, strings.Join(r.said, "\n"),
		"the disk is full: removed the oldest file, cap/out-00001.pcapng")

	in = newMemory()
	in.room.Store(5000)
	r = rotate(t, in, Rotation{Packets: 5})
	var err error
	for n := 0; err == nil; n++ {
		err = r.Write(&capture.Batch{Packets: []capture.Packet{numbered(n, 100)}})
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, r.Finish(r.stats), "the file has ended with that error")
	next = 0
	for _, name := range in.names() {
		for _, n := range in.contents(t, name) {
			require.Equal(t, next, n)
			next++
		}
	}
	packets, _ = r.Written()
	require.EqualValues(t, next, packets)
	require.Greater(t, next, 15)
}
