package bpf_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// read has what a benchmark counts of the packets.
type read struct{ packets, bytes, first uint64 }

func (r *read) packet(data []byte, wirelen int) {
	r.packets++
	r.bytes += uint64(wirelen)
	r.first += uint64(data[0])
}

// Each way to read a full buffer on the model, and beside it a range over a lease that does the
// same with each packet: nothing, a copy, an allocated copy.
func BenchmarkRead(b *testing.B) {
	ctx := context.Background()
	buf := make([]byte, 2048)
	look := func(l bpf.Lease, s *read) {
		for p := range l.Packets() {
			s.packet(p.Data(), p.WireLen())
		}
	}
	ways := []wayToRead{{"Packets", look, func(r *bpf.Reader, n uint64, s *read) error {
		for p, err := range r.Packets(ctx) {
			if err != nil {
				return err
			}
			s.packet(p.Data(), p.WireLen())
			if n--; n == 0 {
				break
			}
		}
		return nil
	}}}
	for _, m := range []struct {
		name  string
		lease func(l bpf.Lease, s *read)
		one   func(r *bpf.Reader, n uint64, s *read) error
		alone func(r *bpf.PacketReader, n uint64, s *read) error
	}{
		{"ZeroCopyReadPacketData", look, func(r *bpf.Reader, n uint64, s *read) error {
			for range n {
				data, info, err := r.ZeroCopyReadPacketData()
				if err != nil {
					return err
				}
				s.packet(data, info.WireLen())
			}
			return nil
		}, func(r *bpf.PacketReader, n uint64, s *read) error {
			for range n {
				data, info, err := r.ZeroCopyReadPacketData()
				if err != nil {
					return err
				}
				s.packet(data, info.WireLen())
			}
			return nil
		}},
		{"ReadInto", func(l bpf.Lease, s *read) {
			for p := range l.Packets() {
				copy(buf, p.Data())
				s.packet(buf, p.WireLen())
			}
		}, func(r *bpf.Reader, n uint64, s *read) error {
			for range n {
				_, info, err := r.ReadInto(ctx, buf)
				if err != nil {
					return err
				}
				s.packet(buf, info.WireLen())
			}
			return nil
		}, func(r *bpf.PacketReader, n uint64, s *read) error {
			for range n {
				_, info, err := r.ReadInto(ctx, buf)
				if err != nil {
					return err
				}
				s.packet(buf, info.WireLen())
			}
			return nil
		}},
		{"ReadPacket", func(l bpf.Lease, s *read) {
			for p := range l.Packets() {
				s.packet(bytes.Clone(p.Data()), p.WireLen())
			}
		}, func(r *bpf.Reader, n uint64, s *read) error {
			for range n {
				data, info, err := r.ReadPacket(ctx)
				if err != nil {
					return err
				}
				s.packet(data, info.WireLen())
			}
			return nil
		}, func(r *bpf.PacketReader, n uint64, s *read) error {
			for range n {
				data, info, err := r.ReadPacket(ctx)
				if err != nil {
					return err
				}
				s.packet(data, info.WireLen())
			}
			return nil
		}},
	} {
		alone := func(r *bpf.Reader, n uint64, s *read) error {
			p := r.PacketReader()
			defer p.Release()
			return m.alone(p, n, s)
		}
		ways = append(ways, wayToRead{m.name, m.lease, m.one},
			wayToRead{"PacketReader." + m.name, m.lease, alone})
	}
	for _, way := range ways {
		for _, size := range []int{64, 1500} {
			b.Run(fmt.Sprintf("%s/buffer=2048K/packet=%d", way.name, size), func(b *testing.B) {
				benchmarkRead(b, size, way.lease, way.read)
			})
		}
	}
}

// wayToRead reads n packets, beside a lease that does the same with them.
type wayToRead struct {
	name  string
	lease func(l bpf.Lease, s *read)
	read  func(r *bpf.Reader, n uint64, s *read) error
}

func benchmarkRead(
	b *testing.B, size int, walk func(bpf.Lease, *read), way func(*bpf.Reader, uint64, *read) error,
) {
	w := newCapture(b, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 2 << 20, ReadTimeout: bpf.NoTimeout})
	frame := numbered(1, size)
	dropped := func() uint64 {
		s, err := w.r.Stats()
		require.NoError(b, err)
		return s.Dropped
	}
	fill := func() { lab.FillBoth(dropped, func() { w.em0.Receive(frame) }) }
	var seen read
	lease := func() error {
		l, err := w.r.Lease(context.Background())
		if err != nil {
			return err
		}
		walk(l, &seen)
		return l.Release()
	}
	fill()
	require.NoError(b, lease())
	n := seen.packets // in a buffer
	lab.BesideLease(b, n, fill, lease, func() error { return way(w.r, n, &seen) })
	require.Equal(b, (2*uint64(b.N)+1)*n, seen.packets)
}
