package sink

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	stdgzip "compress/gzip"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/compression"
	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

var kinds = []compression.Kind{compression.None, compression.Gzip, compression.Zstd}

// unpacked decompresses a file, which must be whole.
func unpacked(t *testing.T, kind compression.Kind, file []byte) []byte {
	t.Helper()
	r := io.Reader(bytes.NewReader(file))
	if len(file) == 0 {
		return nil
	}
	switch kind {
	case compression.Gzip:
		z, err := stdgzip.NewReader(r)
		require.NoError(t, err)
		r = z
	case compression.Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		require.NoError(t, err)
		defer z.Close()
		r = z
	}
	all, err := io.ReadAll(r)
	require.NoError(t, err, "%v of %d bytes", kind, len(file))
	return all
}

// noisy returns packets that compress to about the half.
func noisy(t testing.TB, n, length int) []capture.Packet {
	rnd := rand.New(rand.NewPCG(1, 2))
	all := fixture.Packets(t, n, length)
	for i := range all {
		all[i].Data = bytes.Clone(all[i].Data)
		for j := range length / 2 {
			all[i].Data[j] = byte(rnd.Uint32())
		}
	}
	return all
}

// A compressed file on a full disk is a whole compressed file. It has whole packets only, and as
// many as the sink says.
func TestFullDiskKeepsWholeBlocks(t *testing.T) {
	packets := noisy(t, 60, 100)
	for i, each := range []int{5, 5, 1, 1, len(packets), len(packets)} { // packets between flushes
		kind := kinds[1+i%2]
		for _, fails := range []failure{fillsUp, undoes, movesAlong} {
			for room := 400; room < 3000; room += 171 {
				base := int64(room%2) * 1000
				d := &disk{data: make([]byte, base), offset: base, room: int(base) + room, fails: fails}
				s := newSink(Spec{Format: Pcapng},
					newOutput(&regular{f: d, base: base, end: base, owned: true}, "file", kind))
				require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
				var err error
				for i := 0; i < len(packets) && err == nil; i += each {
					if err = s.Write(&capture.Batch{Packets: packets[i : i+each]}); err == nil {
						err = s.Flush()
					}
				}
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.ErrorContains(t, err, "file ends with the last packet that is complete")
				require.ErrorIs(t, s.Finish(nil), syscall.ENOSPC)
				require.True(t, d.closed)
				require.EqualValues(t, len(d.data), base+s.Size())

				n, bytes := 0, 0
				if file := unpacked(t, kind, d.data[base:]); len(file) > 0 {
					n, bytes = packetsIn(t, file)
				}
				gotPackets, gotBytes := s.Written()
				require.EqualValues(t, n, gotPackets)
				require.EqualValues(t, bytes, gotBytes)
				if each > 1 { // a single packet hardly compresses
					require.Greater(t, n, room/120-6, "%d bytes, %d at once", room, each)
				}
			}
		}
	}
}

// If somebody makes room on a full disk, the sink goes on, and no packet is lost or doubled.
func TestRoomOnAFullDiskGoesOn(t *testing.T) {
	packets := noisy(t, 60, 100)
	for _, kind := range kinds {
		for _, fails := range []failure{fillsUp, undoes, movesAlong} {
			d := &disk{room: 700, fails: fails}
			s := newSink(Spec{Format: Pcapng}, newOutput(&regular{f: d, owned: true}, "file", kind))
			made := 0
			s.OnFull(func(bool) bool { made++; d.room += 800; return true })
			require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
			for i := 0; i < len(packets); i += 6 {
				require.NoError(t, s.Write(&capture.Batch{Packets: packets[i : i+6]}))
				require.NoError(t, s.Flush())
			}
			require.NoError(t, s.Finish(nil))
			require.Greater(t, made, 3)
			n, _ := packetsIn(t, unpacked(t, kind, d.data))
			require.Equal(t, len(packets), n)
			written, _ := s.Written()
			require.EqualValues(t, len(packets), written)
		}
	}
}

// After each Flush, the file is whole up to there, and everything that came before is in it.
func TestFlushedFileIsWhole(t *testing.T) {
	packets := noisy(t, 20, 1000)
	for _, kind := range kinds {
		name := filepath.Join(t.TempDir(), "out")
		f, err := os.Create(name)
		require.NoError(t, err)
		s := To(Spec{Format: Pcapng, Compression: kind}, f, name)
		require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
		for i := range packets {
			require.NoError(t, s.WritePacket(packets[i]))
			require.NoError(t, s.Flush())
			file, err := os.ReadFile(name)
			require.NoError(t, err)
			require.EqualValues(t, len(file), s.Size())
			n, _ := packetsIn(t, unpacked(t, kind, file))
			require.Equal(t, i+1, n)
			written, _ := s.Written()
			require.EqualValues(t, i+1, written)
		}
		require.NoError(t, s.Finish(nil))
	}
}

// Between two flushes, Size moves by one block at a time, and no block is larger than what it
// compresses. So who looks after each packet exceeds a limit by at most one block.
func TestSizeMovesByOneBlock(t *testing.T) {
	packets := noisy(t, 100, 5000)
	for _, kind := range kinds {
		var b bytes.Buffer
		s := New(Spec{Format: Pcap, Compression: kind}, &b)
		require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
		moves := 0
		for _, p := range packets {
			before := s.Size()
			require.NoError(t, s.WritePacket(p))
			if step := s.Size() - before; step > 0 {
				require.Less(t, step, int64(blockSize))
				moves++
			}
			if kind == compression.None {
				require.EqualValues(t, 24+moves*(16+len(p.Data)), s.Size())
			}
		}
		before := s.Size()
		require.NoError(t, s.Finish(nil))
		require.Less(t, s.Size()-before, int64(blockSize))
		require.EqualValues(t, b.Len(), s.Size())
		if kind != compression.None {
			require.Equal(t, 100*5016/blockSize, moves)
		}
	}
}

// A sink counts the packets of the blocks that went into a pipe before it broke.
func TestBrokenPipeCountsWholeBlocks(t *testing.T) {
	packets := noisy(t, 40, 100)
	for _, kind := range kinds[1:] {
		for room := 100; room < 2000; room += 97 {
			p := &brokenPipe{room: room}
			s := New(Spec{Format: Pcapng, Compression: kind}, p)
			require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
			var err error
			ends := []int{0}
			for i := 0; i < len(packets) && err == nil; i += 4 {
				require.NoError(t, s.Write(&capture.Batch{Packets: packets[i : i+4]}))
				if err = s.Flush(); err == nil {
					ends = append(ends, p.Len())
				}
			}
			require.ErrorIs(t, err, syscall.EPIPE)
			n := 0
			if file := unpacked(t, kind, p.Bytes()[:ends[len(ends)-1]]); len(file) > 0 {
				n, _ = packetsIn(t, file)
			}
			got, _ := s.Written()
			require.EqualValues(t, n, got)
			require.EqualValues(t, 4*(len(ends)-1), got)
		}
	}
}
