package pcapio

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Writer writes pcapng with one section and time stamps in nanoseconds. It buffers; what it passes on
// after a Flush ends with a whole block.
type Writer struct {
	w      *bufio.Writer
	ng     *pcapgo.NgWriter // nil until the first interface
	ifaces int
}

const (
	application = "bpfctl (zbuf)"
	writeBuffer = 1 << 20
)

// NewWriter returns a writer to w. Nothing is written before the first Flush or interface.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, writeBuffer)} }

func ngInterface(i Interface) pcapgo.NgInterface {
	return pcapgo.NgInterface{
		Name: i.Name, Description: i.Description, Comment: i.Comment, Filter: i.Filter, OS: i.OS,
		LinkType: layers.LinkType(i.LinkType), SnapLength: i.SnapLen,
	}
}

var section = pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: application, OS: runtime.GOOS}}

// AddInterface describes an interface and returns its number, which counts from 0.
func (w *Writer) AddInterface(i Interface) (int, error) {
	var err error
	if w.ng == nil {
		w.ng, err = pcapgo.NewNgWriterInterface(w.w, ngInterface(i), section)
	} else {
		_, err = w.ng.AddInterface(ngInterface(i))
	}
	if err != nil {
		return 0, err
	}
	w.ifaces++
	return w.ifaces - 1, nil
}

// WritePacket writes a packet that was captured on the given interface sec seconds and nsec nanoseconds after
// 1970, and had wirelen bytes. It does not keep data and does not allocate.
func (w *Writer) WritePacket(iface int, sec, nsec int64, data []byte, wirelen int) error {
	return w.ng.WritePacket(gopacket.CaptureInfo{
		Timestamp: time.Unix(sec, nsec), CaptureLength: len(data), Length: wirelen, InterfaceIndex: iface,
	}, data)
}

// Statistics are what an interface statistics block says.
type Statistics struct {
	Start, End        time.Time
	Received, Dropped uint64 // packets
}

// WriteStatistics writes an interface statistics block.
func (w *Writer) WriteStatistics(iface int, s Statistics) error {
	if iface < 0 || iface >= w.ifaces {
		return fmt.Errorf("no interface %d to write statistics of", iface)
	}
	return w.ng.WriteInterfaceStats(iface, pcapgo.NgInterfaceStatistics{
		LastUpdate: s.End, StartTime: s.Start, EndTime: s.End, PacketsReceived: s.Received, PacketsDropped: s.Dropped,
	})
}

// Finish completes a file without interfaces, which has a section header nevertheless, and flushes.
func (w *Writer) Finish() error {
	if w.ng == nil {
		// pcapgo writes no header without an interface.
		var b bytes.Buffer
		ng, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{}, section)
		if err != nil {
			return err
		}
		if err := ng.Flush(); err != nil {
			return err
		}
		if _, err := w.w.Write(b.Bytes()[:binary.LittleEndian.Uint32(b.Bytes()[4:])]); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Flush passes on everything written so far.
func (w *Writer) Flush() error { return w.w.Flush() }
