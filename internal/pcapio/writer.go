package pcapio

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/internal/version"
)

// Writer writes pcapng with one section and time stamps in nanoseconds. It buffers. After
// [Writer.Flush] the output ends with a whole block. Its methods return the errors of the output,
// and an error for arguments that a file has no room for.
type Writer struct {
	Comment string // of the whole file; it is written with the first interface

	w       *bufio.Writer
	begun   bool // the section header is written
	ifaces  int
	scratch []byte
}

const (
	writeBuffer = 1 << 20

	optSectionOS    = 3 // of a section
	optApplication  = 4
	optStart        = 2 // of statistics
	optStop         = 3
	optReceived     = 4
	optDropped      = 5
	maxOption       = math.MaxUint16
	optionHead      = 4
	maxComments     = maxRecord // bytes, of one packet
	nanoseconds     = 9         // if_tsresol
	enhancedHead    = 28
	sectionUnending = math.MaxUint64 // the length of a section that nobody knows yet
)

// NewWriter returns a writer to w. It writes nothing before the first Flush or interface.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, writeBuffer)} }

// block begins a block in scratch. end completes and writes it.
func (w *Writer) block(kind uint32) []byte {
	b := binary.LittleEndian.AppendUint32(w.scratch[:0], kind)
	return append(b, 0, 0, 0, 0) // its length
}

func (w *Writer) end(b []byte) error {
	length := uint32(len(b) + 4)
	binary.LittleEndian.PutUint32(b[4:], length)
	b = binary.LittleEndian.AppendUint32(b, length)
	w.scratch = b
	_, err := w.w.Write(b)
	return err
}

func appendOption(b []byte, code uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, zeros[:padding(len(value))]...)
}

var zeros [4]byte

// padding returns the number of bytes that follow n bytes up to a multiple of four.
func padding(n int) int { return -n & 3 }

// application returns the name of the program that writes the file, its version, and the system.
func application() string { return "bpfctl (zbuf) " + version.Module() + " on " + version.System() }

func (w *Writer) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	b := binary.LittleEndian.AppendUint32(w.block(blockSection), byteOrderMagic)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint64(b, sectionUnending)
	if n := len(w.Comment); n > maxOption {
		return fmt.Errorf("a comment of %d bytes, and pcapng has room for %d", n, maxOption)
	} else if n > 0 {
		b = appendOption(b, optComment, []byte(w.Comment))
	}
	b = appendOption(b, optApplication, []byte(application()))
	b = appendOption(b, optSectionOS, []byte(runtime.GOOS))
	return w.end(appendOption(b, optEnd, nil))
}

// AddInterface describes an interface and returns its number, which counts from 0.
func (w *Writer) AddInterface(i Interface) (int, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	filter := ""
	if i.Filter != "" {
		filter = string(filterText) + i.Filter
	} else if len(i.Program) > 0 {
		filter = string(filterProgram) + encode(i.Program)
	}
	b := binary.LittleEndian.AppendUint16(w.block(blockInterface), i.LinkType)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, i.SnapLen)
	for _, o := range []struct {
		code  uint16
		value string
	}{
		{optName, i.Name}, {optComment, i.Comment}, {optDescription, i.Description},
		{optFilter, filter}, {optOS, i.OS},
	} {
		if len(o.value) > maxOption {
			return 0, fmt.Errorf("an interface with an option of %d bytes, and pcapng has room for %d",
				len(o.value), maxOption)
		}
		if o.value != "" {
			b = appendOption(b, o.code, []byte(o.value))
		}
	}
	b = appendOption(b, optResolution, []byte{nanoseconds})
	if err := w.end(appendOption(b, optEnd, nil)); err != nil {
		return 0, err
	}
	w.ifaces++
	return w.ifaces - 1, nil
}

// encode encodes a program as instructions of struct bpf_insn.
func encode(prog []bpf.RawInstruction) string {
	var b []byte
	for _, in := range prog {
		b = append(binary.LittleEndian.AppendUint16(b, in.Op), in.Jt, in.Jf)
		b = binary.LittleEndian.AppendUint32(b, in.K)
	}
	return string(b)
}

// WritePacket writes a packet that was captured on the given interface sec seconds and nsec
// nanoseconds after 1970, and had wirelen bytes. It does not keep data and does not allocate.
func (w *Writer) WritePacket(iface int, sec, nsec int64, data []byte, wirelen int) error {
	return w.WriteCommented(iface, sec, nsec, data, wirelen, nil)
}

// WriteCommented writes a packet as [Writer.WritePacket] does, with comments.
func (w *Writer) WriteCommented(
	iface int, sec, nsec int64, data []byte, wirelen int, comments []string,
) error {
	if err := checkPacket(iface, w.ifaces, data, wirelen); err != nil {
		return err
	}
	if sec < 0 || sec > maxSeconds {
		return fmt.Errorf("a packet of %d s after 1970, and pcapng has room for 0 to %d", sec, maxSeconds)
	}
	pad := padding(len(data))
	stamp := uint64(sec)*uint64(time.Second) + uint64(nsec)
	b := binary.LittleEndian.AppendUint32(w.scratch[:0], blockEnhanced)
	options, err := optionsLength(comments)
	if err != nil {
		return err
	}
	length := uint32(enhancedHead + len(data) + pad + options + 4)
	b = binary.LittleEndian.AppendUint32(b, length)
	b = binary.LittleEndian.AppendUint32(b, uint32(iface))
	b = binary.LittleEndian.AppendUint32(b, uint32(stamp>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(stamp))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(wirelen))
	if _, err := w.w.Write(b); err != nil {
		return err
	}
	if _, err := w.w.Write(data); err != nil {
		return err
	}
	b = append(b[:0], zeros[:pad]...)
	for _, c := range comments {
		b = appendOption(b, optComment, []byte(c))
	}
	if options > 0 {
		b = appendOption(b, optEnd, nil)
	}
	b = binary.LittleEndian.AppendUint32(b, length)
	w.scratch = b
	_, err = w.w.Write(b)
	return err
}

// optionsLength returns the number of bytes that comments need in a block.
func optionsLength(comments []string) (n int, err error) {
	for _, c := range comments {
		if len(c) > maxOption {
			return 0, fmt.Errorf("a comment of %d bytes, and pcapng has room for %d", len(c), maxOption)
		}
		n += optionHead + len(c) + padding(len(c))
	}
	if n > maxComments {
		return 0, fmt.Errorf("comments of %d bytes are too long for a file", n)
	}
	if n > 0 {
		n += optionHead // of the end
	}
	return n, nil
}

// checkPacket returns an error for a packet that no file has room for.
func checkPacket(iface, ifaces int, data []byte, wirelen int) error {
	switch {
	case iface < 0 || iface >= ifaces:
		return fmt.Errorf("no interface %d to write a packet of: there are %d", iface, ifaces)
	case len(data) > maxRecord-minBlock-enhancedFixed:
		return fmt.Errorf("a packet of %d bytes is too long for a file", len(data))
	case wirelen < len(data) || int64(wirelen) > math.MaxUint32:
		return fmt.Errorf("a packet of %d bytes, of which %d were captured", wirelen, len(data))
	}
	return nil
}

// Statistics are the contents of an interface statistics block.
type Statistics struct {
	Start, End        time.Time
	Received, Dropped uint64 // packets
}

// WriteStatistics writes an interface statistics block.
func (w *Writer) WriteStatistics(iface int, s Statistics) error {
	if iface < 0 || iface >= w.ifaces {
		return fmt.Errorf("no interface %d to write statistics of", iface)
	}
	b := binary.LittleEndian.AppendUint32(w.block(blockStatistics), uint32(iface))
	b = appendStamp(b, s.End)
	if !s.Start.IsZero() {
		b = appendOption(b, optStart, appendStamp(nil, s.Start))
	}
	if !s.End.IsZero() {
		b = appendOption(b, optStop, appendStamp(nil, s.End))
	}
	b = appendOption(b, optDropped, binary.LittleEndian.AppendUint64(nil, s.Dropped))
	b = appendOption(b, optReceived, binary.LittleEndian.AppendUint64(nil, s.Received))
	return w.end(appendOption(b, optEnd, nil))
}

// appendStamp appends a time in nanoseconds: the upper half comes first, in any byte order.
func appendStamp(b []byte, t time.Time) []byte {
	var stamp uint64
	if !t.IsZero() {
		stamp = uint64(t.UnixNano())
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(stamp>>32))
	return binary.LittleEndian.AppendUint32(b, uint32(stamp))
}

// Finish completes a file without interfaces, which has a section header nevertheless, and flushes.
func (w *Writer) Finish() error {
	if err := w.begin(); err != nil {
		return err
	}
	return w.Flush()
}

// Flush writes out everything that the buffer holds.
func (w *Writer) Flush() error { return w.w.Flush() }
