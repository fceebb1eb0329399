package pcapio

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
)

var (
	// ErrFormat is in the error of NewReader and Next when the file is not a capture file,
	// or not a good one.
	ErrFormat = errors.New("broken capture file")

	// ErrTruncated is in the error of Next when the file ends within a packet. It is ErrFormat.
	ErrTruncated = fmt.Errorf("%w: it ends in the middle of a record", ErrFormat)
)

// Interface is what a capture file tells about where packets were captured.
type Interface struct {
	Name        string
	Description string
	Comment     string
	Filter      string // as its author typed it
	OS          string
	LinkType    uint16 // LINKTYPE_ number
	SnapLen     uint32 // bytes; 0 is not limited
}

// Packet is one packet of a capture file.
type Packet struct {
	Interface int       // index into Reader.Interfaces
	Time      time.Time // 1970 where the file does not tell
	Data      []byte    // valid until the next call of Next
	WireLen   int       // bytes on the wire, at least len(Data)
	Out       bool      // sent by the host that captured it, as far as the file tells
}

// Reader reads packets in the file's order.
type Reader struct {
	src    *source
	next   func() (Packet, error)
	ifaces []Interface
	count  int // packets read
}

// source remembers what the file failed with, which parsers blame on its contents.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

const (
	magicSection = 0x0a0d0d0a // the first block of pcapng, in any byte order
	magicGzip    = 0x1f8b
	pcapHeader   = 24
)

// NewReader reads the head of a capture file. Errors: ErrFormat, those of r.
func NewReader(r io.Reader) (*Reader, error) {
	src := &source{r: r}
	br := bufio.NewReaderSize(src, 256<<10)
	head, err := br.Peek(4)
	switch {
	case err == io.EOF && len(head) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	case err == io.EOF:
		return nil, fmt.Errorf("%w: %d bytes are none", ErrFormat, len(head))
	case err != nil:
		return nil, err
	case binary.BigEndian.Uint16(head) == magicGzip:
		return nil, fmt.Errorf("%w: it is compressed: gunzip it first", ErrFormat)
	}
	parser := newPcapReader
	if binary.BigEndian.Uint32(head) == magicSection {
		parser = newNgReader
	}
	rd, err := parser(br)
	if err != nil {
		return nil, src.blame(err)
	}
	rd.src = src
	return rd, nil
}

// Interfaces returns the interfaces that the file has described up to the packet read last. An interface
// keeps its index; later sections' interfaces follow.
func (r *Reader) Interfaces() []Interface { return r.ifaces }

// Next returns the next packet, or io.EOF at the end. Errors: ErrFormat, with the number of the
// packet; those of the file. None of them can be gone on from.
func (r *Reader) Next() (Packet, error) {
	p, err := r.next()
	if err != nil {
		if err == io.EOF {
			return Packet{}, err
		}
		return Packet{}, fmt.Errorf("packet %d: %w", r.count+1, r.src.blame(err))
	}
	if len(p.Data) > p.WireLen {
		return Packet{}, fmt.Errorf("packet %d: %w: %d bytes were captured of %d", r.count+1, ErrFormat, len(p.Data), p.WireLen)
	}
	if sec := p.Time.Unix(); sec < 0 || sec > math.MaxInt64/int64(time.Second)-1 {
		return Packet{}, fmt.Errorf("packet %d: %w: its time stamp is %d s after 1970", r.count+1, ErrFormat, sec)
	}
	r.count++
	return p, nil
}

// blame makes ErrFormat of what is wrong with the contents, and leaves errors of reading alone.
func (s *source) blame(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, ErrFormat):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

func newPcapReader(br *bufio.Reader) (*Reader, error) {
	if head, err := br.Peek(pcapHeader); err == io.EOF && isPcap(head) {
		return nil, ErrTruncated
	} else if err == nil && !isPcap(head) || err == io.EOF {
		return nil, fmt.Errorf("%w: it is neither pcap nor pcapng", ErrFormat)
	}
	pr, err := pcapgo.NewReader(br)
	if err != nil {
		return nil, err
	}
	r := &Reader{ifaces: []Interface{{LinkType: uint16(pr.LinkType()), SnapLen: pr.Snaplen()}}}
	r.next = func() (Packet, error) {
		data, ci, err := pr.ZeroCopyReadPacketData()
		if err == io.EOF && ci.CaptureLength > 0 {
			err = io.ErrUnexpectedEOF // after a record's header
		}
		if err != nil {
			return Packet{}, err
		}
		return Packet{Time: ci.Timestamp, Data: data, WireLen: ci.Length}, nil
	}
	return r, nil
}

func isPcap(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	switch binary.BigEndian.Uint32(head) {
	case 0xa1b2c3d4, 0xd4c3b2a1, 0xa1b23c4d, 0x4d3cb2a1:
		return true
	}
	return false
}

func newNgReader(br *bufio.Reader) (*Reader, error) {
	r := &Reader{}
	base := 0 // interfaces of earlier sections
	add := func(ifaces []pcapgo.NgInterface) error {
		for _, i := range ifaces[len(r.ifaces)-base:] {
			if res := i.TimestampResolution; res.Binary() || res.Exponent() > 19 {
				return fmt.Errorf("%w: interface %d counts time in units that nanoseconds can't express (if_tsresol %#x)",
					ErrFormat, len(r.ifaces), uint8(res))
			}
			r.ifaces = append(r.ifaces, Interface{
				Name: i.Name, Description: i.Description, Comment: i.Comment, Filter: i.Filter, OS: i.OS,
				LinkType: uint16(i.LinkType), SnapLen: i.SnapLength,
			})
		}
		return nil
	}
	var sectionErr error
	blocks := newFraming(br)
	nr, err := pcapgo.NewNgReader(blocks, pcapgo.NgReaderOptions{
		WantMixedLinkType: true,
		SectionEndCallback: func(ifaces []pcapgo.NgInterface, _ pcapgo.NgSectionInfo) {
			if err := add(ifaces); err != nil && sectionErr == nil {
				sectionErr = err
			}
			base = len(r.ifaces)
		},
	})
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, blocks.cause(err)
	}
	latest := func() error {
		if sectionErr != nil {
			return sectionErr
		}
		for base+nr.NInterfaces() > len(r.ifaces) {
			i, err := nr.Interface(len(r.ifaces) - base)
			if err != nil {
				return err
			}
			if err := add(append(make([]pcapgo.NgInterface, len(r.ifaces)-base), i)); err != nil {
				return err
			}
		}
		return nil
	}
	r.next = func() (Packet, error) {
		data, ci, opts, err := nr.ZeroCopyReadPacketDataWithOptions()
		if lerr := latest(); lerr != nil && (err == nil || err == io.EOF) {
			err = lerr
		}
		if err != nil {
			return Packet{}, blocks.cause(err)
		}
		p := Packet{Interface: base + ci.InterfaceIndex, Time: ci.Timestamp, Data: data, WireLen: ci.Length}
		if ci.Timestamp.IsZero() { // a simple packet block has none
			p.Time = time.Unix(0, 0)
		}
		if opts.Flags != nil {
			p.Out = opts.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound
		}
		return p, nil
	}
	return r, nil
}
