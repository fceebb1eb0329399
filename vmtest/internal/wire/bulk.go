package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A guest's network card moves 1500 bytes at a time, which is dear where every
// packet is emulated. Large bodies therefore take another way: the sender puts
// them into a slot of a small disk that both ends can read and write, and only
// the slot's number goes over the stream, in its place among the other frames.
const (
	slotSize  = 128 << 10
	slotCount = 32 // per direction
	sector    = 512
	// bulkMin is the shortest body worth a slot.
	bulkMin = 8 << 10
	// BulkSize is the size of the shared disk.
	BulkSize = 2 * slotCount * slotSize

	// bulkBit marks the type of a frame whose body is a slot and a length.
	bulkBit = 0x80
	// freeBatch is how many slots are given back at once.
	freeBatch = slotCount / 4
	// slotFree says that the receiver is through with freeBatch more slots.
	slotFree Type = 's'
)

// Disk is the shared disk.
type Disk interface {
	io.ReaderAt
	io.WriterAt
}

// bulk is one end's view of the disk.
type bulk struct {
	disk   Disk
	tx, rx int64         // offsets of the two halves
	free   chan struct{} // a token for each slot that may be written
	next   int64         // slot to write next: they come free in order
	out    []byte
	read   int // slots read and not yet given back
}

// ShareDisk makes c send and accept large bodies through disk. The host's end
// writes the first half, the guest's the second. It must be called before the
// first frame that may be large, and c must be read all the time.
func (c *Conn) ShareDisk(disk Disk, host bool) {
	const half = slotCount * slotSize
	b := &bulk{disk: disk, tx: 0, rx: half, free: make(chan struct{}, slotCount),
		out: make([]byte, slotSize)}
	if !host {
		b.tx, b.rx = half, 0
	}
	for range slotCount {
		b.free <- struct{}{}
	}
	c.bulk.Store(b)
}

// put writes body into the next free slot and returns the frame's body. The
// caller holds a token.
func (b *bulk) put(body []byte) ([]byte, error) {
	slot := b.next % slotCount
	b.next++
	n := copy(b.out, body)
	// Disks take whole sectors; what is behind the body is not looked at.
	n = (n + sector - 1) / sector * sector
	if _, err := b.disk.WriteAt(b.out[:n], b.tx+slot*slotSize); err != nil {
		return nil, fmt.Errorf("shared disk: %w", err)
	}
	ref := binary.BigEndian.AppendUint32(nil, uint32(slot))
	return binary.BigEndian.AppendUint32(ref, uint32(len(body))), nil
}

// get reads the body that ref stands for into buf.
func (b *bulk) get(ref, buf []byte) ([]byte, error) {
	if b == nil || len(ref) != 8 {
		return nil, fmt.Errorf("%w: no shared disk", ErrFrame)
	}
	slot, length := int64(binary.BigEndian.Uint32(ref)), binary.BigEndian.Uint32(ref[4:])
	// compared before it becomes an int, which may have 32 bits
	if slot >= slotCount || length > slotSize {
		return nil, fmt.Errorf("%w: slot %d, %d bytes", ErrFrame, slot, length)
	}
	n := int(length)
	if cap(buf) < slotSize {
		buf = make([]byte, slotSize)
	}
	if _, err := b.disk.ReadAt(buf[:(n+sector-1)/sector*sector], b.rx+slot*slotSize); err != nil {
		return nil, fmt.Errorf("shared disk: %w", err)
	}
	return buf[:n], nil
}

// release takes back what slotFree gives.
func (b *bulk) release() error {
	if b == nil {
		return fmt.Errorf("%w: no shared disk", ErrFrame)
	}
	for range freeBatch {
		select {
		case b.free <- struct{}{}:
		default:
			return fmt.Errorf("%w: a slot that was not in use came free", ErrFrame)
		}
	}
	return nil
}
