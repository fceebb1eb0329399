package bpf

import "context"

// A PacketReader reads the packets of a Reader one at a time. It has the Reader's methods for that,
// and they cost less: only one goroutine may use a PacketReader, so a call need not find out
// whether another one reads. Several goroutines may each have one of the same Reader, and then only
// one of them can read at a time.
//
// The PacketReader has a lease out from its first packet of a buffer to the call that finds the
// buffer's end. So the other reading methods of the Reader return ErrLeaseOut, and so do those of
// another PacketReader. The lease keeps its memory mapped, and the kernel has only the other buffer
// to fill. A program that stops reading calls [PacketReader.Release].
//
// Any goroutine may call the methods of the Reader that do not read. A call that begins after
// Close, Flush, or SetFilter with flush has returned delivers no packet from before. Stats counts a
// packet when the call that delivers it returns.
type PacketReader struct {
	r      *Reader
	lease  Lease  // the zero Lease if none is out
	buf    []byte // of the lease
	at     uint   // where the next record begins
	epoch  uint64 // under which the lease was taken
	origin uint64 // of each Info
}

// PacketReader returns a PacketReader that has read nothing yet.
func (r *Reader) PacketReader() *PacketReader { return &PacketReader{r: r, origin: r.origin()} }

// ZeroCopyReadPacketData is [PacketReader.ReadSlice] without a context. It waits as long as it
// takes: see [Reader.SetReadDeadline] and [Reader.Close].
func (p *PacketReader) ZeroCopyReadPacketData() (data []byte, info Info, err error) {
	return p.ReadSlice(context.Background())
}

// ReadSlice waits for the next packet and returns it without copying. data is valid until the next
// call of a method of p, also after Close of the Reader.
//
// Errors: those of [Reader.ReadSlice].
func (p *PacketReader) ReadSlice(ctx context.Context) (data []byte, info Info, err error) {
	// docs/design.md, "One packet at a time", has what each step is for. Each step is an if of its
	// own, because for && the compiler makes a value of the conditions before.
	for r := p.r; ; {
		if at := p.at; at+minHdrlen <= uint(len(p.buf)) {
			if caplen, hdrlen, ok := record(p.buf, at); ok {
				if !r.sig.closed.Load() {
					if r.gate.epoch.Load() == p.epoch {
						p.at = align(at + (hdrlen + caplen))
						next := packetAt(p.buf, at, caplen, hdrlen, 0)
						r.passed.live.add(caplen)
						return next.Data(), next.info(p.origin), nil
					}
				}
			}
		}
		if err := p.refill(ctx); err != nil {
			return nil, Info{}, err
		}
	}
}

// ReadPacket waits for the next packet and returns a copy of it. Copies of short packets share
// allocations of 1 KiB, so a copy that is kept keeps up to 1 KiB.
//
// Errors: those of [Reader.ReadSlice].
func (p *PacketReader) ReadPacket(ctx context.Context) ([]byte, Info, error) {
	data, info, err := p.ReadSlice(ctx)
	if err != nil {
		return nil, Info{}, err
	}
	return p.r.chunk.clone(data), info, nil
}

// ReadInto waits for the next packet and copies it into buf. If buf is shorter than the packet,
// ReadInto drops the rest. Then n is len(buf), and info.CapLen is the length of the packet.
//
// Errors: those of [Reader.ReadSlice].
func (p *PacketReader) ReadInto(ctx context.Context, buf []byte) (n int, info Info, err error) {
	data, info, err := p.ReadSlice(ctx)
	return copy(buf, data), info, err
}

// Release gives the packets that were not read back to the Reader, whose next reading method goes
// on with them. p can be used again.
func (p *PacketReader) Release() { p.giveBack(false) }

// refill has p have a packet, as far as can be told. Its lease may be at the end, discarded or
// corrupt.
func (p *PacketReader) refill(ctx context.Context) error {
	if p.lease.r != nil {
		var err error
		if !p.r.sig.closed.Load() && p.r.gate.valid(&p.r.current) {
			if good(p.buf, p.at) {
				return nil // a reset has failed in between
			}
			whole := p.r.current.buf // of which the lease is the end
			if e := bad(whole, uint(len(whole)-len(p.buf))+p.at); e != nil {
				err = e
			}
		}
		p.giveBack(true)
		if err != nil {
			return err
		}
	}
	l, err := p.r.Lease(ctx)
	if err != nil {
		return err
	}
	p.lease, p.buf, p.epoch = l, l.buf, p.r.current.epoch
	return nil
}

// giveBack ends the lease. What p has not passed becomes the stream's batch, unless it is to be
// dropped.
func (p *PacketReader) giveBack(drop bool) {
	if p.lease.r == nil {
		return
	}
	p.r.passed.foldLive()
	l, at := p.lease, p.at
	p.lease, p.buf, p.at = Lease{}, nil, 0
	p.r.keep(l, at, drop)
}
