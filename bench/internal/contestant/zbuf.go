package contestant

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/gopacketbpf"
	"github.com/zbuf-go/zbuf/packet"
)

func init() {
	openers["zbuf-lease"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).leases)
	}
	openers["zbuf-packet"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).packets)
	}
	openers["zbuf-copy"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).copies)
	}
	openers["zbuf-packetreader"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).alone)
	}
	openers["zbuf-gopacket"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.ZeroCopy, (*reader).handle)
	}
	openers["zbuf-packetconn"] = openConn
	openers["zbuf-buffered"] = func(c Config) (Contestant, error) {
		return openReader(c, bpf.Buffered, (*reader).leases)
	}
}

// reader is the reader of this module.
type reader struct {
	stop
	*bpf.Reader
	run func(*reader, *Tally) error
	buf []byte
}

func openReader(c Config, mode bpf.Mode, run func(*reader, *Tally) error) (Contestant, error) {
	pieces := 2
	if mode == bpf.Buffered {
		pieces = 3
	}
	r, err := bpf.Open(c.Interface, bpf.Config{
		Mode: mode, BufferSize: c.Memory / pieces, Filter: c.Filter, ReadTimeout: c.Timeout,
		Immediate:  c.Immediate,
		Resolution: bpf.Microseconds, // as all the others have it
	})
	if err != nil {
		return nil, err
	}
	return &reader{Reader: r, run: run, buf: make([]byte, 64<<10)}, nil
}

func (r *reader) Run(t *Tally) error {
	err := r.run(r, t)
	if errors.Is(err, os.ErrDeadlineExceeded) && r.Load() {
		return nil
	}
	return err
}

func (r *reader) leases(t *Tally) error {
	ctx := context.Background()
	for !r.Load() {
		l, err := r.Lease(ctx)
		if err != nil {
			return err
		}
		for p := range l.Packets() {
			t.Packet(p.Data())
		}
		err = l.Err()
		l.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) packets(t *Tally) error {
	for !r.Load() {
		data, _, err := r.ZeroCopyReadPacketData()
		if err != nil {
			return err
		}
		t.Packet(data)
	}
	return nil
}

func (r *reader) copies(t *Tally) error {
	ctx := context.Background()
	for !r.Load() {
		n, _, err := r.ReadInto(ctx, r.buf)
		if err != nil {
			return err
		}
		t.Packet(r.buf[:n])
	}
	return nil
}

func (r *reader) alone(t *Tally) error {
	p := r.PacketReader()
	defer p.Release()
	for !r.Load() {
		data, _, err := p.ZeroCopyReadPacketData()
		if err != nil {
			return err
		}
		t.Packet(data)
	}
	return nil
}

func (r *reader) handle(t *Tally) error {
	h := gopacketbpf.New(context.Background(), r.Reader)
	for !r.Load() {
		data, _, err := h.ZeroCopyReadPacketData()
		if err != nil {
			return err
		}
		t.Packet(data)
	}
	return nil
}

func (r *reader) Stop() {
	r.stop.Stop()
	r.SetReadDeadline(time.Now())
}

func (r *reader) Start() {
	r.SetReadDeadline(time.Time{})
	r.stop.Start()
}

func (r *reader) Syscalls() (uint64, bool) {
	s, err := r.Stats()
	return s.Syscalls, err == nil
}

// conn is a net.PacketConn of this module.
type conn struct {
	stop
	*packet.Conn
	buf []byte
}

func openConn(c Config) (Contestant, error) {
	ifi, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return nil, err
	}
	p, err := packet.Listen(ifi, packet.Raw, packet.All, &packet.Config{Filter: c.Filter})
	if err != nil {
		return nil, err
	}
	return &conn{Conn: p, buf: make([]byte, 64<<10)}, nil
}

func (c *conn) Run(t *Tally) error {
	for !c.Load() {
		n, _, err := c.ReadFrom(c.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && c.Load() {
			return nil
		}
		if err != nil {
			return err
		}
		t.Packet(c.buf[:n])
	}
	return nil
}

func (c *conn) Stop() {
	c.stop.Stop()
	c.SetReadDeadline(time.Now())
}

func (c *conn) Start() {
	c.SetReadDeadline(time.Time{})
	c.stop.Start()
}

func (c *conn) Syscalls() (uint64, bool) { return 0, false }
