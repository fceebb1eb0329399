package pcapio

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

// PcapWriter writes pcap. It buffers. After [PcapWriter.Flush] the output ends with a whole packet.
// The format has one link type for all packets, and no place for names, comments or statistics. Its
// methods return the errors of the output, and an error for arguments that a file has no room for.
type PcapWriter struct {
	w       *bufio.Writer
	tick    int64 // ns
	begun   bool  // the header is written
	ifaces  int
	first   Interface
	longest int // bytes that a packet may have
	scratch []byte
}

// NewPcapWriter returns a writer to w. Its time stamps are in nanoseconds if nano is true.
// Otherwise they are in microseconds, which older programs read too. It writes nothing before the
// first Flush or interface.
func NewPcapWriter(w io.Writer, nano bool) *PcapWriter {
	p := &PcapWriter{w: bufio.NewWriterSize(w, writeBuffer), tick: int64(time.Microsecond)}
	if nano {
		p.tick = 1
	}
	return p
}

// begin writes the header, for packets like those of an interface.
func (w *PcapWriter) begin(i Interface) error {
	if w.begun {
		return nil
	}
	w.begun, w.first = true, i
	// Readers cut or refuse packets that are longer than this. Later interfaces can have longer
	// packets. So it is no less than the length that readers take anyway.
	snapLen := min(max(i.SnapLen, sparedSnapLen), math.MaxInt32)
	w.longest = int(min(snapLen, maxRecord))
	magic := uint32(magicMicro)
	if w.tick == 1 {
		magic = magicNano
	}
	b := binary.LittleEndian.AppendUint32(w.scratch[:0], magic)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = binary.LittleEndian.AppendUint64(b, 0) // the time zone and the accuracy, always 0
	b = binary.LittleEndian.AppendUint32(b, snapLen)
	b = binary.LittleEndian.AppendUint32(b, uint32(i.LinkType))
	w.scratch = b
	_, err := w.w.Write(b)
	return err
}

// AddInterface adds an interface and returns its number, which counts from 0. All interfaces must
// have the link type of the first. Otherwise AddInterface returns an error.
func (w *PcapWriter) AddInterface(i Interface) (int, error) {
	if err := w.begin(i); err != nil {
		return 0, err
	}
	if i.LinkType != w.first.LinkType {
		return 0, fmt.Errorf("interfaces of the link types (LINKTYPE_) %d and %d: "+
			"pcap has one link type for all packets, pcapng has one for each interface",
			w.first.LinkType, i.LinkType)
	}
	w.ifaces++
	return w.ifaces - 1, nil
}

// WritePacket writes a packet that was captured on the given interface sec seconds and nsec
// nanoseconds after 1970, and had wirelen bytes. It does not keep data and does not allocate.
func (w *PcapWriter) WritePacket(iface int, sec, nsec int64, data []byte, wirelen int) error {
	if err := checkPacket(iface, w.ifaces, data, wirelen); err != nil {
		return err
	}
	if sec < 0 || sec > math.MaxUint32 {
		return fmt.Errorf("a packet of %d s after 1970, and pcap has room for 0 to %d",
			sec, uint32(math.MaxUint32))
	}
	if len(data) > w.longest {
		return fmt.Errorf("a packet of %d bytes, and this pcap file takes up to %d: pcapng has room "+
			"for it",
			len(data), w.longest)
	}
	b := binary.LittleEndian.AppendUint32(w.scratch[:0], uint32(sec))
	b = binary.LittleEndian.AppendUint32(b, uint32(nsec/w.tick))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(wirelen))
	w.scratch = b
	if _, err := w.w.Write(b); err != nil {
		return err
	}
	_, err := w.w.Write(data)
	return err
}

// WriteStatistics writes nothing, because pcap has no place for statistics.
func (w *PcapWriter) WriteStatistics(iface int, _ Statistics) error {
	if iface < 0 || iface >= w.ifaces {
		return fmt.Errorf("no interface %d to write statistics of", iface)
	}
	return nil
}

// Finish completes a file without interfaces, and flushes. Such a file has the header of a file
// for Ethernet.
func (w *PcapWriter) Finish() error {
	if err := w.begin(Interface{LinkType: linkTypeEthernet}); err != nil {
		return err
	}
	return w.Flush()
}

const linkTypeEthernet = 1

// Flush writes out everything that the buffer holds.
func (w *PcapWriter) Flush() error { return w.w.Flush() }
