package pcapio

import (
	"bytes"
	"time"
)

// pcapFile has the contents of the header of a pcap file.
type pcapFile struct {
	recordHeader int
	tick         int64 // nanoseconds
	longest      uint32
	lengths      lengthOrder
}

// lengthOrder is the order of the two lengths in a packet's header.
type lengthOrder int

const (
	capturedFirst lengthOrder = iota
	wireFirst
	smallerIsCaptured
)

const (
	pcapHeader = 24

	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34 // by Alexey Kuznetzov: packet headers are longer

	recordHeader         = 16
	modifiedRecordHeader = 24

	// sparedSnapLen is the number of bytes that a packet may have although the header promises shorter
	// ones. Programs are careless about that header. A longer packet is damage.
	sparedSnapLen = 256 << 10
)

// foreign has the beginnings of files that this package does not read, with their names.
var foreign = []struct{ magic, name string }{
	// What NewReader has decompressed can be compressed once more.
	{"\x1f\x8b", "it is compressed by gzip: decompress it first"},
	{"\x28\xb5\x2f\xfd", "it is compressed by zstd: decompress it first"},
	{"BZh", "it is compressed by bzip2: decompress it first"},
	{"\xfd7zXZ", "it is compressed by xz: decompress it first"},
	{"\x04\x22\x4d\x18", "it is compressed by lz4: decompress it first"},
	{"\x02\x21\x4c\x18", "it is compressed by lz4: decompress it first"}, // the format of old
	{"\x1f\x9d", "it is compressed by compress (.Z): decompress it first"},
	{"LZIP", "it is compressed by lzip: decompress it first"},
	{"\x89LZO", "it is compressed by lzop: decompress it first"},
	{"PK\x03\x04", "it is a ZIP archive: unpack it first"},
	{"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive: unpack it first"},
	{"snoop\x00\x00\x00", "it is a file of snoop, not pcap or pcapng"},
	{"GMBU", "it is a file of Microsoft Network Monitor, not pcap or pcapng"},
	{"\xa1\xb2\x34\xcd", "it is the variant of pcap by Mesquita, which is not known"},
	{"\xcd\x34\xb2\xa1", "it is the variant of pcap by Mesquita, which is not known"},
	{"\xa1\x2b\x3c\x4d", "it is the variant of pcap by Navtel, which is not known"},
	{"\x4d\x3c\x2b\xa1", "it is the variant of pcap by Navtel, which is not known"},
	{"\x1c\x00\x01\xac", "it is the variant of pcap by Ixia (lcap), which is not known"},
	{"\xac\x01\x00\x1c", "it is the variant of pcap by Ixia (lcap), which is not known"},
	{"\x1c\x00\x01\xab", "it is the variant of pcap by Ixia (lcap), which is not known"},
	{"\xab\x01\x00\x1c", "it is the variant of pcap by Ixia (lcap), which is not known"},
}

func (r *Reader) openPcap() error {
	head, err := r.peek(4)
	if err != nil {
		return err
	}
	f := pcapFile{recordHeader: recordHeader, tick: 1000}
	for _, r.order.big = range []bool{false, true} {
		switch r.order.u32(head) {
		case magicModified:
			f.recordHeader = modifiedRecordHeader
			return r.readPcapHeader(f)
		case magicNano:
			f.tick = 1
			return r.readPcapHeader(f)
		case magicMicro:
			return r.readPcapHeader(f)
		}
	}
	r.peek(8) // or fewer, if the file ends
	start := r.buf[r.from:r.to]
	for _, x := range foreign {
		if bytes.HasPrefix(start, []byte(x.magic)) {
			return broken("%s", x.name)
		}
	}
	return broken("it is neither pcap nor pcapng")
}

func (r *Reader) readPcapHeader(f pcapFile) error {
	head, err := r.peek(pcapHeader)
	if err != nil {
		return err
	}
	major, minor := r.order.u16(head[4:]), r.order.u16(head[6:])
	snapLen, linkType := r.order.u32(head[16:]), r.order.u32(head[20:])
	// The two lengths changed places with 2.3. Some programs wrote 2.3 with the old places. DG/UX
	// wrote 543.0, in the old order.
	switch {
	case major == 2 && minor < 3 || major == 543 && minor == 0:
		f.lengths = wireFirst
	case major == 2 && minor == 3:
		f.lengths = smallerIsCaptured
	case major == 2 && minor == 4:
	default:
		return broken("it is of pcap version %d.%d, and 2.0 to 2.4 are known", major, minor)
	}
	f.longest = maxRecord
	if snapLen > 0 {
		f.longest = min(max(snapLen, sparedSnapLen), maxRecord)
	}
	r.pcap = f
	// The upper half of the link type describes checksums.
	r.ifaces = []Interface{{LinkType: uint16(linkType), SnapLen: snapLen, BigEndian: r.order.big}}
	r.consume(pcapHeader)
	r.next = r.nextPcap
	return nil
}

func (r *Reader) nextPcap() (Packet, error) {
	f := &r.pcap
	r.start = r.off
	head, err := r.peek(f.recordHeader)
	if err != nil {
		return Packet{}, err
	}
	sec, fraction := int64(r.order.u32(head)), int64(r.order.u32(head[4:]))
	captured, wire := r.order.u32(head[8:]), r.order.u32(head[12:])
	if f.lengths == wireFirst || f.lengths == smallerIsCaptured && captured > wire {
		captured, wire = wire, captured
	}
	if captured > f.longest {
		return Packet{}, broken("%d bytes were captured, it says, and the file has packets of up to %d",
			captured, f.longest)
	}
	all, err := r.peek(f.recordHeader + int(captured))
	if err != nil {
		return Packet{}, err
	}
	// A fraction can be more than a second. The reader adds it nevertheless.
	p := Packet{Time: time.Unix(sec, fraction*f.tick), Data: all[f.recordHeader:]}
	r.lengths(&p, wire)
	r.used = len(all)
	return p, nil
}
