package packet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
)

// network is the name of the network in a net.OpError and in an Addr.
const network = "packet"

// Operations in a net.OpError.
const (
	opClose      = "close"
	opListen     = "listen"
	opRead       = "read"
	opSet        = "set"
	opSetsockopt = "setsockopt"
	opStats      = "getsockopt"
	opWrite      = "write"
)

// All as the protocol of [Listen] is every frame. It is ETH_P_ALL of Linux.
const All = 3

// minEtherType is the lowest EtherType. Lower numbers in its place are lengths.
const minEtherType = 0x600

// Type says whether a Conn's frames have their Ethernet header. There is no default.
type Type int

const (
	_ Type = iota
	// Raw frames have their Ethernet header.
	Raw
	// Datagram frames are what follows the Ethernet header.
	Datagram
)

// Config has what may differ from the default. A nil *Config is the default.
type Config struct {
	// Filter is a program that frames must pass besides the protocol. It is in force before the first
	// frame. It looks at what [Conn.ReadFrom] returns: with Datagram, offset 0 is the first byte after
	// the Ethernet header. The kernel captures as many bytes as the program returns. nil passes every
	// frame of the protocol.
	Filter []xbpf.RawInstruction

	// OwnFrames makes the Conn also read the frames that this host sends, and so its own.
	OwnFrames bool

	// Mode says how frames come out of the kernel. The default is Auto: zero-copy where the kernel
	// grants it, and read(2) otherwise. A question and its answer take about as long in both. In the
	// top folder of the module make roundtrip measures that.
	Mode bpf.Mode

	// System is the system that has the interface. nil is the running kernel.
	System zbuf.System
}

// An Addr is a hardware address. It is a net.Addr.
type Addr struct {
	HardwareAddr net.HardwareAddr
}

// Network returns "packet".
func (a *Addr) Network() string { return network }

// String returns the hardware address in hexadecimal digits with colons.
func (a *Addr) String() string {
	if a == nil {
		return "<nil>"
	}
	return a.HardwareAddr.String()
}

// hardwareAddr returns the Ethernet address that addr names.
func hardwareAddr(addr net.Addr) (net.HardwareAddr, error) {
	if a, ok := addr.(*Addr); ok && a != nil && len(a.HardwareAddr) == addressLength {
		return a.HardwareAddr, nil
	}
	if addr == nil {
		return nil, fmt.Errorf("%w: no address: want an Addr", syscall.EINVAL)
	}
	hw, err := net.ParseMAC(addr.String())
	if err != nil || len(hw) != addressLength {
		return nil, fmt.Errorf("%w: %T %s is no Ethernet address: want an Addr with %d bytes",
			syscall.EINVAL, addr, addr, addressLength)
	}
	return hw, nil
}

// errClosed is both net.ErrClosed and os.ErrClosed for errors.Is. Programs look for either.
var errClosed = fmt.Errorf("%w: %w", net.ErrClosed, os.ErrClosed)

// opError gives err the form of errors of the net package, or returns nil if err is.
func opError(op string, err error, local *Addr) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrClosed):
		err = errClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = os.ErrDeadlineExceeded // net.OpError asks this very error whether it is a timeout
	}
	return &net.OpError{Op: op, Net: network, Addr: local, Err: err}
}
