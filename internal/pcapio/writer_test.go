package pcapio

import (
	"bytes"
	"io"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// disk is a file on a disk with so much room.
type disk struct {
	bytes.Buffer
	room   int
	undoes bool // a write that does not fit leaves nothing
}

func (d *disk) Write(p []byte) (int, error) {
	if fits := d.room - d.Len(); len(p) > fits {
		if d.undoes {
			fits = 0
		}
		d.Buffer.Write(p[:fits])
		return fits, syscall.ENOSPC
	}
	return d.Buffer.Write(p)
}

func (d *disk) Truncate(n int64) error { d.Buffer.Truncate(int(n)); return nil }

// packets counts those of a pcapng file that must be whole.
func packets(t *testing.T, file []byte) (n int) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	require.NoError(t, err)
	for {
		if _, _, err := r.ReadPacketData(); err == io.EOF {
			return n
		} else {
			require.NoError(t, err)
		}
		n++
	}
}

func TestFullDiskKeepsWholeBlocks(t *testing.T) {
	const length, block = 100, 132
	for _, undoes := range []bool{false, true} {
		for room := 200; room < 20_000; room += 37 {
			d := &disk{room: room, undoes: undoes}
			w := NewWriter(NewWholeBlocks(d))
			_, err := w.AddInterface(Interface{LinkType: 1})
			require.NoError(t, err)
			require.NoError(t, w.Flush())
			head := d.Len()
			for i := 0; i < 200 && err == nil; i++ {
				if err = w.WritePacket(0, 1, int64(i), make([]byte, length), length); err == nil && i%50 == 49 {
					err = w.Flush()
				}
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
			n := packets(t, d.Bytes())
			assert.Equal(t, head+n*block, d.Len())
			most := (room - head) / block
			require.LessOrEqual(t, n, most)
			require.GreaterOrEqual(t, n, most-smallestPiece*2/block-1, "room for %d bytes", room)
		}
	}
}

func TestFileWithoutInterfaces(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, NewWriter(&b).Finish())
	assert.Zero(t, packets(t, b.Bytes()))
}

func TestWritePacketDoesNotAllocate(t *testing.T) {
	w := NewWriter(io.Discard)
	_, err := w.AddInterface(Interface{})
	require.NoError(t, err)
	data := make([]byte, 99)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if w.WritePacket(0, 1, 2, data, 100) != nil {
			t.Fail()
		}
	}))
}
