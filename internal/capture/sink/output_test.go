package sink

import (
	"bytes"
	"io"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/compression"
	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// disk is a regular file on a disk with so much room. A write that fails does to the file what
// file systems have been seen to do.
type disk struct {
	data   []byte
	offset int64
	room   int
	fails  failure
	closed bool
}

type failure int

const (
	fillsUp    failure = iota // what fits is written
	undoes                    // nothing is written
	movesAlong                // nothing is written, but the offset moves (tmpfs of FreeBSD 14)
)

// Write is a write at the offset.
func (d *disk) Write(p []byte) (int, error) {
	n, err := d.WriteAt(p, d.offset)
	d.offset += int64(n)
	if err != nil && d.fails == movesAlong {
		d.offset += int64(len(p))
	}
	return n, err
}

func (d *disk) WriteAt(p []byte, at int64) (n int, err error) {
	if at+int64(len(p)) > int64(d.room) {
		err = syscall.ENOSPC
		if d.fails != fillsUp {
			return 0, err
		}
		p = p[:max(0, int64(d.room)-at)]
	}
	if hole := at + int64(len(p)) - int64(len(d.data)); hole > 0 {
		d.data = append(d.data, make([]byte, hole)...)
	}
	return copy(d.data[at:], p), err
}

func (d *disk) Truncate(n int64) error { d.data = d.data[:n]; return nil }
func (d *disk) Close() error           { d.closed = true; return nil }

func (d *disk) Seek(at int64, whence int) (int64, error) {
	d.offset = at
	return at, nil
}

// packetsIn counts the packets of a pcapng file, which must be whole.
func packetsIn(t *testing.T, file []byte) (n, bytesCaptured int) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file),
		pcapgo.NgReaderOptions{WantMixedLinkType: true})
	require.NoError(t, err)
	for {
		data, _, err := r.ReadPacketData()
		if err == io.EOF {
			return n, bytesCaptured
		}
		require.NoError(t, err)
		n++
		bytesCaptured += len(data)
	}
}

// A file on a full disk ends with a whole packet. Everything that fits is there, and the sink says
// how much that is. A failed write may do anything to the file's offset.
func TestFullDiskKeepsWholePackets(t *testing.T) {
	const length, block = 100, 132
	packets := fixture.Packets(t, 200, length)
	step := 7
	if testing.Short() {
		step = 53
	}
	for _, fails := range []failure{fillsUp, undoes, movesAlong} {
		for room := 200; room < 20_000; room += step {
			base := int64(room%2) * 1000 // standard output can have something in it
			d := &disk{data: make([]byte, base), offset: base, room: int(base) + room, fails: fails}
			s := newSink(Spec{Format: Pcapng},
				newOutput(&regular{f: d, base: base, end: base, owned: true}, "file", compression.None))
			require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
			require.NoError(t, s.Flush())
			head := len(d.data)
			var err error
			for i := 0; i < len(packets) && err == nil; i += 50 {
				if err = s.Write(&capture.Batch{Packets: packets[i : i+50]}); err == nil {
					err = s.Flush()
				}
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.ErrorContains(t, err, "file ends with the last packet that is complete")
			require.ErrorIs(t, s.Finish(nil), syscall.ENOSPC)
			require.True(t, d.closed)

			n, bytes := packetsIn(t, d.data[base:])
			require.Equal(t, head+n*block, len(d.data))
			most := (int(base) + room - head) / block
			require.LessOrEqual(t, n, most)
			require.GreaterOrEqual(t, n, most-smallestPiece*2/block-1, "room for %d bytes", room)
			gotPackets, gotBytes := s.Written()
			require.EqualValues(t, n, gotPackets)
			require.EqualValues(t, bytes, gotBytes)
		}
	}
}

// brokenPipe takes so many bytes.
type brokenPipe struct {
	bytes.Buffer
	room int
}

func (b *brokenPipe) Write(p []byte) (int, error) {
	if n := b.room - b.Len(); n < len(p) {
		b.Buffer.Write(p[:n])
		return n, syscall.EPIPE
	}
	return b.Buffer.Write(p)
}

// The sink counts the whole packets that went into a pipe before it broke.
func TestBrokenPipeCountsWholePackets(t *testing.T) {
	packets := fixture.Packets(t, 100, 100)
	for _, format := range []string{Pcapng, Text} {
		for room := 0; room < 2000; room += 7 {
			p := &brokenPipe{room: room}
			s := New(Spec{Format: format}, p)
			err := s.AddInterface(pcapio.Interface{LinkType: 1, Name: "em0"})
			if err == nil {
				err = s.Write(&capture.Batch{Packets: packets})
			}
			require.NoError(t, err, "all of it fits the buffer")
			require.ErrorIs(t, s.Flush(), syscall.EPIPE)
			want := bytes.Count(p.Bytes(), []byte("\n"))
			if format == Pcapng {
				want = max(0, (room-headOf(t))/132)
			}
			got, n := s.Written()
			require.EqualValues(t, want, got, "%d bytes of %s", room, format)
			require.EqualValues(t, want*100, n)
		}
	}
}

// headOf returns how long a file is before its first packet.
func headOf(t *testing.T) int {
	t.Helper()
	var b bytes.Buffer
	s := New(Spec{Format: Pcapng}, &b)
	require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1, Name: "em0"}))
	require.NoError(t, s.Flush())
	return b.Len()
}

// A sink that never failed has written everything that it was given.
func TestWrittenIsAllOfIt(t *testing.T) {
	packets := fixture.Packets(t, 200, 1000)
	for _, format := range []string{Pcapng, Text} {
		var b bytes.Buffer
		s := New(Spec{Format: format}, &b)
		require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
		n := 0
		for range 20 { // more than the buffer holds
			require.NoError(t, s.Write(&capture.Batch{Packets: packets}))
			n += len(packets)
		}
		early, _ := s.Written()
		require.Less(t, early, uint64(n), "some are in the buffer")
		require.NoError(t, s.Finish([]pcapio.Statistics{{Received: uint64(n)}}))
		got, captured := s.Written()
		require.EqualValues(t, n, got)
		require.EqualValues(t, n*1000, captured)
	}
}
