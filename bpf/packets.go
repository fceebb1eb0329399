package bpf

import "context"

// ZeroCopyReadPacketData waits for the next packet and returns it without copying. It waits as long
// as it takes: see SetReadDeadline and Close.
//
// data is valid until the next call of a reading method. That call gives the memory back, also
// after Close, when it returns os.ErrClosed. Without it the memory stays mapped.
//
// Errors: those of Lease, and ErrCorrupt. After ErrCorrupt reading goes on with the next buffer.
func (r *Reader) ZeroCopyReadPacketData() (data []byte, info Info, err error) {
	p, err := r.nextPacket(context.Background())
	if err != nil {
		return nil, Info{}, err
	}
	data, info = p.Data(), p.info(r.ifindex)
	r.handOut()
	r.state.Store(statePacket)
	return data, info, nil
}

// ReadPacket waits for the next packet and returns a copy of it. Errors: see
// ZeroCopyReadPacketData.
func (r *Reader) ReadPacket(ctx context.Context) ([]byte, Info, error) {
	p, err := r.nextPacket(ctx)
	if err != nil {
		return nil, Info{}, err
	}
	data, info := append([]byte(nil), p.Data()...), p.info(r.ifindex)
	r.copied()
	return data, info, nil
}

// ReadInto waits for the next packet and copies it into buf. If buf is shorter than the packet,
// ReadInto drops the rest. Then n is len(buf), and info.CaptureLength is the length of the packet.
// Errors: see ZeroCopyReadPacketData.
func (r *Reader) ReadInto(ctx context.Context, buf []byte) (n int, info Info, err error) {
	p, err := r.nextPacket(ctx)
	if err != nil {
		return 0, Info{}, err
	}
	n, info = copy(buf, p.Data()), p.info(r.ifindex)
	r.copied()
	return n, info, nil
}

// copied ends a reading method that has copied its packet. From then on a reset, or Close, may
// release the batch that the packet was in.
func (r *Reader) copied() {
	r.state.Store(stateCopied)
	if r.sig.closed.Load() {
		r.releaseCopied()
	}
}

// nextPacket advances the cursor over current. At its end nextPacket takes the next batch. Without
// an error it leaves the reader busy.
func (r *Reader) nextPacket(ctx context.Context) (Packet, error) {
	was, err := r.begin()
	if err != nil {
		return Packet{}, err
	}
	for {
		if was == statePacket {
			var err error
			if r.gate.valid(&r.current) {
				if r.cursor.Next() {
					r.Count(&r.cursor)
					return r.cursor.Packet(), nil
				}
				err = r.cursor.Err()
			}
			r.release()
			if err != nil {
				r.end()
				return Packet{}, err
			}
		}
		if err := r.next(ctx); err != nil {
			r.end()
			return Packet{}, err
		}
		r.cursor, was = newCursor(r.current.buf, r.stamp), statePacket
	}
}
