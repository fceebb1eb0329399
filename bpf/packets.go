package bpf

import "context"

// ZeroCopyReadPacketData is [Reader.ReadSlice] without a context. It waits as long as it takes: see
// SetReadDeadline and Close.
func (r *Reader) ZeroCopyReadPacketData() (data []byte, info Info, err error) {
	return r.ReadSlice(context.Background())
}

// ReadSlice waits for the next packet and returns it without copying.
//
// data is valid until the next call of a reading method. That call gives the memory back, also
// after Close, when it returns os.ErrClosed. Without it the memory stays mapped.
//
// Errors:
//   - the errors of [Reader.Lease], such as context.Cause(ctx) when ctx is done;
//   - ErrCorrupt if a buffer has no valid record where one begins. The next call goes on with the
//     next buffer.
func (r *Reader) ReadSlice(ctx context.Context) (data []byte, info Info, err error) {
	p, s, err := r.nextPacket(ctx)
	if err != nil {
		return nil, Info{}, err
	}
	data, info = p.Data(), p.info(r.origin())
	r.handOut()
	r.state.store(s.in(statePacket))
	return data, info, nil
}

// ReadPacket waits for the next packet and returns a copy of it. Copies of short packets share
// allocations of 1 KiB, so a copy that is kept keeps up to 1 KiB.
//
// Errors: those of [Reader.ReadSlice].
func (r *Reader) ReadPacket(ctx context.Context) ([]byte, Info, error) {
	p, s, err := r.nextPacket(ctx)
	if err != nil {
		return nil, Info{}, err
	}
	data, info := r.chunk.clone(p.Data()), p.info(r.origin())
	r.state.store(s.in(stateCopied))
	r.copied()
	return data, info, nil
}

// ReadInto waits for the next packet and copies it into buf. If buf is shorter than the packet,
// ReadInto drops the rest. Then n is len(buf), and info.CapLen is the length of the packet.
//
// Errors: those of [Reader.ReadSlice].
func (r *Reader) ReadInto(ctx context.Context, buf []byte) (n int, info Info, err error) {
	p, s, err := r.nextPacket(ctx)
	if err != nil {
		return 0, Info{}, err
	}
	n, info = copy(buf, p.Data()), p.info(r.origin())
	r.state.store(s.in(stateCopied))
	r.copied()
	return n, info, nil
}

// copied is for a reading method that has copied its packet and stored stateCopied. From then on a
// reset, or Close, may release the batch. If Close came before, it has left that to the caller.
func (r *Reader) copied() {
	if r.sig.closed.Load() {
		r.releaseCopied()
	}
}

// nextPacket returns the stream's next packet, and the state that counts it. The caller stores that
// state in another phase. With an error nobody is the reader. docs/design.md, "One packet at a
// time", has what each step is for.
func (r *Reader) nextPacket(ctx context.Context) (p Packet, s state, err error) {
	s = r.state.load()
	mine := s.streams() && r.state.move(s, s.in(stateBusy))
	for {
		if mine && !r.sig.closed.Load() && r.gate.epoch.Load() == r.current.epoch {
			buf, at := r.current.buf, r.at
			if at+minHdrlen <= uint(len(buf)) {
				if caplen, hdrlen, ok := record(buf, at); ok {
					r.at = align(at + (hdrlen + caplen))
					return packetAt(buf, at, caplen, hdrlen, r.stamp), s.plus(caplen), nil
				}
			}
		}
		if s, err = r.refill(ctx, mine); err != nil {
			return Packet{}, 0, err
		}
		mine = true
	}
}

// refill makes the caller the reader, if that is not mine yet, and the stream have a packet, as far
// as can be told. The stream's batch may be at its end, discarded, or corrupt.
func (r *Reader) refill(ctx context.Context, mine bool) (s state, err error) {
	streams := mine
	switch {
	case !mine:
		if streams, err = r.begin(); err != nil {
			return 0, err
		}
	case r.sig.closed.Load():
		err = errClosed
	}
	if streams && err == nil && r.gate.valid(&r.current) {
		if good(r.current.buf, r.at) {
			return r.state.load(), nil
		}
		if e := bad(r.current.buf, r.at); e != nil {
			err = e
		}
	}
	if streams {
		r.release()
	}
	if err == nil {
		err = r.next(ctx)
	}
	if err != nil {
		r.end()
		return 0, err
	}
	return r.state.load(), nil
}
