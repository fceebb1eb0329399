package packet

import (
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// SetBPF replaces the filter by a program that frames must pass besides the protocol, as
// [Config].Filter does. nil passes every frame of the protocol. Frames that the old filter has
// passed are still read.
//
// Errors are a net.OpError. In it are:
//   - [bpf.ErrConfig]: the program is wrong, or uses all 16 words of scratch memory and the length
//     of the frame, with Datagram.
//   - EINVAL: the program is too long for the kernel.
//   - net.ErrClosed after Close.
func (c *Conn) SetBPF(filter []xbpf.RawInstruction) error {
	prog, err := c.program(filter)
	if err == nil {
		err = c.r.SetFilter(prog, false)
	}
	return c.opError(opSetsockopt, err)
}

// SetPromiscuous makes the interface enter or leave promiscuous mode. In it the Conn also reads
// frames that are not for this host. The interface stays in promiscuous mode as long as anybody
// wants it.
//
// Errors are a net.OpError. In it are:
//   - net.ErrClosed after Close.
//   - ENXIO: the interface has gone, or has another name now.
//   - Those of [zbuf.Open] and [zbuf.Device.SetPromiscuous].
func (c *Conn) SetPromiscuous(enable bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed.Load():
		return c.opError(opSetsockopt, errClosed)
	case !enable:
		return c.opError(opSetsockopt, c.leavePromiscuous())
	case c.promisc != nil:
		return nil
	}
	return c.opError(opSetsockopt, c.enterPromiscuous())
}

// enterPromiscuous makes a second descriptor hold the interface in promiscuous mode. The kernel has
// no request that takes one out of it again, except closing it. mu is held.
func (c *Conn) enterPromiscuous() error {
	dev, err := c.second()
	if err != nil {
		return err
	}
	if err := dev.SetPromiscuous(); err != nil {
		dev.Close()
		return err
	}
	c.promisc = dev
	return nil
}

// second opens another descriptor on the interface, which gets no packets.
func (c *Conn) second() (*zbuf.Device, error) {
	dev, err := zbuf.OpenOn(c.sys)
	if err != nil {
		return nil, err
	}
	if err = dev.SetFilter(nothing); err == nil {
		err = dev.SetInterface(c.r.Interface())
	}
	if err != nil {
		dev.Close()
		return nil, err
	}
	return dev, nil
}

func (c *Conn) leavePromiscuous() error {
	dev := c.promisc
	c.promisc = nil
	if dev == nil {
		return nil
	}
	return dev.Close()
}

// Stats counts frames since the last call of [Conn.Stats], or since [Listen].
type Stats struct {
	// Packets is the number of frames that ReadFrom has returned, plus Drops.
	Packets uint32

	// Drops is the number of frames that passed the filter and were lost because the buffer was full.
	// It is a lower bound: see [bpf.Stats].
	Drops uint32

	// FreezeQueueCount is 0. bpf(4) has no such counter.
	FreezeQueueCount uint32
}

// Stats returns the counters, and begins to count from 0.
//
// Errors:
//   - net.ErrClosed after Close.
func (c *Conn) Stats() (*Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.r.Stats()
	if err != nil {
		return nil, c.opError(opStats, err)
	}
	drops := uint32(s.Dropped - c.counted.Dropped)
	read := uint32(s.Packets - c.counted.Packets)
	c.counted = s
	return &Stats{Packets: read + drops, Drops: drops}, nil
}
