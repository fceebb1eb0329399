package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
)

const (
	addressLength = 6
	headerLength  = 14 // destination, source, EtherType
)

var (
	_ net.PacketConn = (*Conn)(nil)
	_ xbpf.Setter    = (*Conn)(nil)
)

// A Conn is a net.PacketConn on an Ethernet interface. Any goroutine may call any method at any
// time. Each frame goes to one of the goroutines that read.
type Conn struct {
	r        *bpf.Reader
	sys      zbuf.System
	addr     *Addr
	typ      Type
	protocol uint16

	closed          atomic.Bool
	readBy, writeBy deadline
	setting         sync.Mutex // makes readBy and the deadline of r change together

	// reading has room for one goroutine, which uses r and scratch. It is no Mutex, because a test in
	// a bubble of testing/synctest waits for a channel.
	reading chan struct{}
	scratch []byte

	mu      sync.Mutex
	promisc *zbuf.Device // keeps the interface in promiscuous mode
	groups  *grouping
	counted bpf.Stats // as of the last call of Stats
}

// Listen opens a Conn on the interface. The Conn reads frames of that protocol, which is an
// EtherType such as 0x0800, or [All], or 0 for no frames at all.
//
// Errors are a net.OpError. In it are:
//   - EINVAL: the type or the protocol is none, or ifi is nil.
//   - [bpf.ErrLinkType]: the interface is no Ethernet interface.
//   - [bpf.ErrConfig]: the filter or the mode is wrong.
//   - Those of [bpf.Open], such as fs.ErrPermission or ENXIO.
func Listen(ifi *net.Interface, socketType Type, protocol int, cfg *Config) (*Conn, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	if ifi == nil {
		return nil, opError(opListen, fmt.Errorf("%w: no interface", syscall.EINVAL), nil)
	}
	addr := &Addr{HardwareAddr: slices.Clone(ifi.HardwareAddr)}
	c, err := listen(ifi.Name, addr, socketType, protocol, cfg)
	if err != nil {
		return nil, opError(opListen, err, addr)
	}
	return c, nil
}

func listen(iface string, addr *Addr, typ Type, protocol int, cfg *Config) (*Conn, error) {
	if typ != Raw && typ != Datagram {
		return nil, fmt.Errorf("%w: type %d is neither Raw nor Datagram", syscall.EINVAL, typ)
	}
	if protocol != 0 && protocol != All && (protocol < minEtherType || protocol > 0xffff) {
		return nil, fmt.Errorf("%w: protocol %#x is no EtherType: want %#x to 0xffff, All or 0",
			syscall.EINVAL, protocol, minEtherType)
	}
	c := &Conn{sys: cfg.System, addr: addr, typ: typ, protocol: uint16(protocol),
		reading: make(chan struct{}, 1)}
	if c.sys == nil {
		c.sys = zbuf.Host()
	}
	prog, err := c.program(cfg.Filter)
	if err != nil {
		return nil, err
	}
	dir := bpf.In
	if cfg.OwnFrames {
		dir = bpf.InOut
	}
	c.r, err = bpf.Open(iface, bpf.Config{
		Mode: cfg.Mode, System: cfg.System, Filter: prog, Direction: dir, Immediate: true,
		LinkTypes: []uint32{zbuf.DLT_EN10MB},
		// The kernel fills in the source address of a Datagram, so it is right after a change.
		HeaderComplete: typ == Raw,
	})
	return c, err
}

func (c *Conn) opError(op string, err error) error { return opError(op, err, c.addr) }

// ReadFrom waits for the next frame, copies it into b, and returns the number of bytes that it has
// copied. If b is too short, the rest of the frame is lost. The address is an [Addr] with the
// source address of the frame.
//
// Errors are a net.OpError. In it are:
//   - os.ErrDeadlineExceeded: the deadline has passed. The net.OpError is a timeout.
//   - net.ErrClosed, and os.ErrClosed: the Conn is closed.
//   - [bpf.ErrInterfaceGone]: the interface was destroyed or moved to another vnet. Close the Conn.
//   - [bpf.ErrCorrupt]: the kernel's buffer was not valid. The next call goes on with the next one.
func (c *Conn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	n, source, err := c.read(b)
	if err != nil {
		return 0, nil, c.opError(opRead, err)
	}
	return n, source, nil
}

func (c *Conn) read(b []byte) (n int, source *Addr, err error) {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	if err := c.over(&c.readBy); err != nil {
		return 0, nil, err
	}
	if c.typ == Raw && len(b) >= headerLength {
		n, _, err := c.r.ReadInto(context.Background(), b)
		return n, sourceOf(b[:n]), err
	}
	// No frame is longer than the kernel's buffer.
	if room := headerLength + min(len(b), c.r.BufferSize()); len(c.scratch) < room {
		c.scratch = make([]byte, room)
	}
	n, _, err = c.r.ReadInto(context.Background(), c.scratch)
	frame := c.scratch[:n]
	source = sourceOf(frame)
	if c.typ == Datagram {
		frame = frame[min(headerLength, n):]
	}
	return copy(b, frame), source, err
}

// sourceOf returns the source address of a frame, as far as a filter has let the kernel capture it.
func sourceOf(frame []byte) *Addr {
	if len(frame) < 2*addressLength {
		return &Addr{}
	}
	return &Addr{HardwareAddr: slices.Clone(net.HardwareAddr(frame[addressLength : 2*addressLength]))}
}

var frames = sync.Pool{New: func() any { return new([]byte) }}

// WriteTo sends a frame, and returns the number of bytes of b.
//   - A Raw Conn sends b as it is. The frame begins with the Ethernet header, which has the
//     addresses. addr must be an Ethernet address and is not used.
//   - A Datagram Conn sends b to addr. The source is the address of the interface.
//
// addr is an [Addr], or any net.Addr whose String returns an Ethernet address, such as the Addr of
// github.com/mdlayher/packet.
//
// Errors are a net.OpError. In it are:
//   - EINVAL: addr is no Ethernet address, or the Conn is a Datagram and has no EtherType.
//   - EMSGSIZE: the frame is too long for the interface, or a Raw frame has no header.
//   - ENETDOWN: the interface is down.
//   - ENOBUFS: the queue of the interface is full.
//   - os.ErrDeadlineExceeded: the deadline has passed.
//   - net.ErrClosed, and os.ErrClosed: the Conn is closed.
//   - Those of [zbuf.Device.Write].
func (c *Conn) WriteTo(b []byte, addr net.Addr) (int, error) {
	if err := c.write(b, addr); err != nil {
		return 0, c.opError(opWrite, err)
	}
	return len(b), nil
}

func (c *Conn) write(b []byte, addr net.Addr) error {
	if err := c.over(&c.writeBy); err != nil {
		return err
	}
	to, err := hardwareAddr(addr)
	if err != nil {
		return err
	}
	if c.typ == Datagram {
		if c.protocol < minEtherType {
			return fmt.Errorf("%w: the Conn has no EtherType to send: Listen with one", syscall.EINVAL)
		}
		frame := frames.Get().(*[]byte)
		defer frames.Put(frame)
		// Without BIOCSHDRCMPLT the kernel replaces the source address.
		*frame = append((*frame)[:0], to...)
		*frame = append(*frame, make([]byte, addressLength)...)
		*frame = binary.BigEndian.AppendUint16(*frame, c.protocol)
		*frame = append(*frame, b...)
		b = *frame
	}
	_, err = c.r.Write(b)
	return err
}

// LocalAddr returns an [Addr] with the hardware address that the interface had at [Listen]. All
// calls share it, so do not change it.
func (c *Conn) LocalAddr() net.Addr { return c.addr }

// Close closes the Conn. Calls that are reading or writing end, and return net.ErrClosed. So does
// the second Close. The interface leaves promiscuous mode if the Conn has made it enter. The Conn
// leaves its groups.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return c.opError(opClose, errClosed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opError(opClose, errors.Join(c.r.Close(), c.leavePromiscuous(), c.leaveGroups()))
}

// A deadline may be changed while calls look at it.
type deadline struct{ t atomic.Pointer[time.Time] }

func (d *deadline) set(t time.Time) {
	if t.IsZero() {
		d.t.Store(nil)
		return
	}
	d.t.Store(&t)
}

// over returns why no call may begin, or nil. A read or a write that begins after its deadline does
// nothing, even if it would not have to wait.
func (c *Conn) over(d *deadline) error {
	if c.closed.Load() {
		return errClosed
	}
	if t := d.t.Load(); t != nil && time.Until(*t) <= 0 {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// SetDeadline sets both deadlines, as SetReadDeadline and SetWriteDeadline do.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline makes ReadFrom fail from t on, also calls that are waiting. The zero Time is no
// deadline.
//
// Errors:
//   - net.ErrClosed after Close.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.setting.Lock()
	defer c.setting.Unlock()
	c.readBy.set(t)
	return c.opError(opSet, c.r.SetReadDeadline(t))
}

// SetWriteDeadline makes WriteTo fail from t on. The zero Time is no deadline. WriteTo never waits,
// so the deadline counts when it begins.
//
// Errors:
//   - net.ErrClosed after Close.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.closed.Load() {
		return c.opError(opSet, errClosed)
	}
	c.writeBy.set(t)
	return nil
}
