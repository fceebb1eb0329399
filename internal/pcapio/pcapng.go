package pcapio

import (
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"time"

	"golang.org/x/net/bpf"
)

// ngFile is the state of a reader of a pcapng file.
type ngFile struct {
	base   int     // index of the section's first interface
	clocks []clock // of the section's interfaces

	// The block that is skipped: the number of bytes before the length at its end, and that length. It
	// is 0 when none is skipped.
	skip   int64
	length uint32
}

// Types of the blocks that the reader reads.
const (
	blockSection    = 0x0a0d0d0a // in any byte order
	blockInterface  = 1
	blockPacket     = 2 // obsolete
	blockSimple     = 3
	blockStatistics = 5
	blockEnhanced   = 6
)

const (
	byteOrderMagic = 0x1a2b3c4d
	minBlock       = 12 // type, length, length
	minSection     = 28

	// Numbers of bytes in a block's body that are not options or data.
	enhancedFixed   = 20
	simpleFixed     = 4
	interfaceFixed  = 8
	statisticsFixed = 12
)

// Options, by the block they are in.
const (
	optEnd     = 0
	optComment = 1

	optPacketFlags = 2

	optName        = 2
	optDescription = 3
	optResolution  = 9
	optFilter      = 11
	optOS          = 12
	optOffset      = 14
)

const (
	flagsDirection = 3
	flagsOutbound  = 2

	// The first byte of a filter tells its kind.
	filterText    = '\x00'
	filterProgram = '\x01'
	instruction   = 8 // bytes
)

func (r *Reader) openPcapng() error {
	r.next = r.nextPcapng
	if _, _, err := r.block(); err != nil {
		return err
	}
	return r.settle()
}

func (r *Reader) nextPcapng() (Packet, error) {
	for {
		if p, ok, err := r.block(); ok || err != nil {
			return p, err
		}
		r.consume(r.used)
		r.used = 0
	}
}

// block reads one block. ok is true if it is a packet. After an error of the file the caller may
// call block again.
func (r *Reader) block() (p Packet, ok bool, err error) {
	if err := r.settle(); err != nil {
		return p, false, err
	}
	r.start = r.off
	head, err := r.peek(minBlock)
	if err != nil {
		return p, false, err
	}
	kind := r.order.u32(head)
	if binary.BigEndian.Uint32(head) == blockSection {
		if kind, err = blockSection, r.readOrder(head[8:]); err != nil {
			return p, false, err
		}
	}
	length := r.order.u32(head[4:])
	if length < minBlock || length%4 != 0 {
		return p, false, broken("the block has a length of %d", length)
	}
	switch kind {
	case blockSection:
		return p, false, r.readSection(length)
	case blockInterface:
		return p, false, r.readInterface(length)
	case blockEnhanced, blockPacket, blockSimple:
		p, err = r.readPacket(kind, length)
		return p, err == nil, err
	case blockStatistics:
		if length < minBlock+statisticsFixed {
			r.note(noteStatistics, "%s: statistics in a block of %d bytes: they are left out",
				r.place(), length)
		} else if id := r.order.u32(head[8:]); uint64(id) >= uint64(len(r.ng.clocks)) {
			r.note(noteStatistics,
				"%s: statistics of interface %d, and the section has %d: they are left out",
				r.place(), id, len(r.ng.clocks))
		}
	}
	r.skipBlock(length)
	return p, false, nil
}

// skipBlock makes settle skip the block. The block may have any length.
func (r *Reader) skipBlock(length uint32) {
	r.ng.skip, r.ng.length = int64(length)-4, length
}

// settle skips the rest of the block that skipBlock has noted, and checks the length at its end.
func (r *Reader) settle() error {
	for r.ng.length > 0 {
		if r.ng.skip == 0 {
			end, err := r.peek(4)
			if err != nil {
				return inRecord(err)
			}
			if err := r.trailer(r.ng.length, end); err != nil {
				return err
			}
			r.consume(4)
			r.ng.length = 0
			break
		}
		if _, err := r.peek(1); err != nil {
			return inRecord(err)
		}
		n := int(min(r.ng.skip, int64(r.to-r.from)))
		r.consume(n)
		r.ng.skip -= int64(n)
	}
	return nil
}

// trailer compares the length at the end of a block with the one in front.
func (r *Reader) trailer(length uint32, end []byte) error {
	if got := r.order.u32(end); got != length {
		return broken("the block has a length of %d in front and %d behind", length, got)
	}
	return nil
}

// whole reads the whole of a block and returns its body. fixed is the number of bytes that every
// body has.
func (r *Reader) whole(length uint32, fixed int) ([]byte, error) {
	if length < minBlock+uint32(fixed) {
		return nil, broken("the block has a length of %d, too short for its type", length)
	}
	if length > maxRecord {
		return nil, broken("the block has a length of %d, and %d is the most that is read",
			length, maxRecord)
	}
	b, err := r.peek(int(length))
	if err != nil {
		return nil, err
	}
	if err := r.trailer(length, b[length-4:]); err != nil {
		return nil, err
	}
	r.used = int(length)
	return b[8 : length-4 : length-4], nil
}

// readOrder finds out the byte order of a section.
func (r *Reader) readOrder(b []byte) error {
	for _, r.order.big = range []bool{false, true} {
		if r.order.u32(b) == byteOrderMagic {
			return nil
		}
	}
	return broken("no byte order in the section header")
}

func (r *Reader) readSection(length uint32) error {
	if length < minSection {
		return broken("the block has a length of %d, too short for its type", length)
	}
	b, err := r.peek(16)
	if err != nil {
		return err
	}
	// Some programs write 1.2 by mistake. It is the same.
	major, minor := r.order.u16(b[12:]), r.order.u16(b[14:])
	if major != 1 || minor != 0 && minor != 2 {
		return broken("it is of pcapng version %d.%d, and 1.0 and 1.2 are known", major, minor)
	}
	r.ng.base, r.ng.clocks = len(r.ifaces), r.ng.clocks[:0]
	r.skipBlock(length)
	return nil
}

func (r *Reader) readInterface(length uint32) error {
	b, err := r.whole(length, interfaceFixed)
	if err != nil {
		return err
	}
	i := Interface{
		LinkType: r.order.u16(b), SnapLen: r.order.u32(b[4:]), BigEndian: r.order.big,
	}
	c := clock{resolution: 6}
	r.options(b[interfaceFixed:], func(code uint16, value []byte) (good bool) {
		switch code {
		case optComment:
			i.Comment = join(i.Comment, string(value))
		case optName:
			i.Name = string(value)
		case optDescription:
			i.Description = string(value)
		case optOS:
			i.OS = string(value)
		case optFilter:
			if len(value) == 0 {
				return false
			}
			switch value[0] {
			case filterText:
				i.Filter = string(value[1:])
			case filterProgram:
				if len(value)%instruction == 1 {
					i.Program = r.program(value[1:])
				}
			}
		case optResolution:
			if len(value) != 1 {
				return false
			}
			c.resolution = value[0]
		case optOffset:
			if len(value) != 8 {
				return false
			}
			c.offset = int64(r.order.u64(value))
		}
		return true
	})
	r.ifaces = append(r.ifaces, i)
	r.ng.clocks = append(r.ng.clocks, c)
	return nil
}

// program decodes instructions of struct bpf_insn.
func (r *Reader) program(b []byte) (prog []bpf.RawInstruction) {
	for ; len(b) >= instruction; b = b[instruction:] {
		prog = append(prog, bpf.RawInstruction{
			Op: r.order.u16(b), Jt: b[2], Jf: b[3], K: r.order.u32(b[4:]),
		})
	}
	return prog
}

// join joins two comments to one that still fits into an option.
func join(a, b string) string {
	if a == "" {
		return b
	}
	if len(a)+1+len(b) > math.MaxUint16 {
		return a
	}
	return a + "\n" + b
}

func (r *Reader) readPacket(kind, length uint32) (p Packet, err error) {
	fixed := enhancedFixed
	if kind == blockSimple {
		fixed = simpleFixed
	}
	b, err := r.whole(length, fixed)
	if err != nil {
		return p, err
	}
	var id, captured, wire uint32
	switch kind {
	case blockEnhanced:
		id = r.order.u32(b)
	case blockPacket:
		id = uint32(r.order.u16(b))
	}
	if uint64(id) >= uint64(len(r.ng.clocks)) {
		return p, broken("the packet is of interface %d, and the section has %d", id, len(r.ng.clocks))
	}
	p.Interface = r.ng.base + int(id)
	if kind == blockSimple {
		wire = r.order.u32(b)
		captured = wire
		if snap := r.ifaces[p.Interface].SnapLen; snap > 0 {
			captured = min(captured, snap)
		}
		p.Time = time.Unix(0, 0)
	} else {
		captured, wire = r.order.u32(b[12:]), r.order.u32(b[16:])
		var ok bool
		stamp := uint64(r.order.u32(b[4:]))<<32 | uint64(r.order.u32(b[8:]))
		if p.Time, ok = r.ng.clocks[id].time(stamp); !ok {
			return p, broken("its time is not in the 292 years after 1970")
		}
	}
	if b = b[fixed:]; uint64(captured) > uint64(len(b)) {
		return p, broken("%d bytes were captured, it says, and its block has %d", captured, len(b))
	}
	p.Data = b[:captured:captured]
	r.lengths(&p, wire)
	if kind != blockSimple {
		r.packetOptions(b[(captured+3)&^3:], &p)
	}
	return p, nil
}

func (r *Reader) packetOptions(b []byte, p *Packet) {
	r.options(b, func(code uint16, value []byte) (good bool) {
		switch code {
		case optComment:
			p.Comments = append(p.Comments, string(value))
		case optPacketFlags:
			if len(value) != 4 {
				return false
			}
			p.Out = r.order.u32(value)&flagsDirection == flagsOutbound
		}
		return true
	})
}

// options calls f for each option. It notes an option that is not good. It leaves out an option
// that is longer than the block, and all after it.
func (r *Reader) options(b []byte, f func(code uint16, value []byte) (good bool)) {
	for len(b) >= 4 {
		code, n := r.order.u16(b), int(r.order.u16(b[2:]))
		if code == optEnd {
			return
		}
		if b = b[4:]; n > len(b) {
			r.note(noteOption, "%s: option %d has a length of %d, and its block %d more bytes: "+
				"the options from there on are left out", r.place(), code, n, len(b))
			return
		}
		if !f(code, b[:n]) {
			r.note(noteOption, "%s: option %d has a length of %d: it is left out", r.place(), code, n)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
}

// A clock has the unit and the offset of the time stamps of an interface.
type clock struct {
	resolution uint8 // if_tsresol
	offset     int64 // s
}

const (
	resolutionBinary = 0x80
	maxSeconds       = math.MaxInt64/int64(time.Second) - 1 // the limit of time.Time.UnixNano
)

// powers has the powers of 10 that fit into 64 bits.
var powers = func() (p [20]uint64) {
	p[0] = 1
	for i := range p[1:] {
		p[i+1] = 10 * p[i]
	}
	return p
}()

// time converts a time stamp. It rounds down to nanoseconds.
func (c clock) time(stamp uint64) (t time.Time, ok bool) {
	const second = uint64(time.Second)
	n := c.resolution &^ resolutionBinary
	var sec, nsec uint64
	switch {
	case c.resolution&resolutionBinary == 0 && n < 20:
		unit := powers[n]
		hi, lo := bits.Mul64(stamp%unit, second)
		nsec, _ = bits.Div64(hi, lo, unit)
		sec = stamp / unit
	case c.resolution&resolutionBinary == 0 && n < 29:
		nsec = stamp / powers[n-9]
	case c.resolution&resolutionBinary == 0: // less than a nanosecond, whatever the stamp is
	case n < 64:
		hi, lo := bits.Mul64(stamp&(1<<n-1), second)
		nsec = hi<<(64-n) | lo>>n
		sec = stamp >> n
	default:
		hi, _ := bits.Mul64(stamp, second)
		nsec = hi >> (n - 64)
	}
	if c.offset < 0 {
		if back := -uint64(c.offset); sec < back {
			return t, false
		} else {
			sec -= back
		}
	} else if sec > uint64(maxSeconds) {
		return t, false
	} else {
		sec += uint64(c.offset)
	}
	if sec > uint64(maxSeconds) {
		return t, false
	}
	return time.Unix(int64(sec), int64(nsec)), true
}

// inRecord replaces io.EOF by ErrTruncated, where the file must go on.
func inRecord(err error) error {
	if err == io.EOF {
		return ErrTruncated
	}
	return err
}
