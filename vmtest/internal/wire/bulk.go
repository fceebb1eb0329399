package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A guest's network card moves 1500 bytes at a time, and emulating each packet costs much. Large
// bodies therefore take another way. The sender puts them into a slot of a small disk that both
// ends can read and write. Only the slot's number goes over the stream, in its place among the
// other frames.
const (
	slotSize  = 128 << 10
	slotCount = 32 // per direction
	sector    = 512
	// bulkMin is the length of the shortest body that goes through a slot.
	bulkMin = 8 << 10
	// BulkSize is the size of the shared disk.
	BulkSize = 2 * slotCount * slotSize

	// bulkBit marks the type of a frame whose body is a slot and a length.
	bulkBit = 0x80
	// freeBatch is the number of slots that the receiver gives back at once.
	freeBatch = slotCount / 4
	// slotFree says that the receiver has read freeBatch more slots.
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
	next   int64         // slot to write next: they become free in order
	out    []byte
	read   int // slots read and not yet given back
}

// ShareDisk makes c send and accept large bodies through disk. The host's end writes the first
// half, and the guest's the second. Call it before the first frame that may be large, and read c
// all the time.
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
	// Disks take whole sectors. Nobody reads the bytes behind the body.
	n = (n + sector - 1) / sector * sector
	if _, err := b.disk.WriteAt(b.out[:n], b.tx+slot*slotSize); err != nil {
		return nil, fmt.Errorf("shared disk: %w", err)
	}
	ref := binary.BigEndian.AppendUint32(nil, uint32(slot))
	return binary.BigEndian.AppendUint32(ref, uint32(len(body))), nil
}

// get reads the body that ref refers to into buf.
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

// release takes back the slots that a slotFree frame frees.
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
