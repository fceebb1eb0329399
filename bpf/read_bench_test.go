package bpf_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
)

// read has what a benchmark counts of the packets.
type read struct{ packets, bytes, first uint64 }

func (r *read) packet(data []byte, wirelen int) {
	r.packets++
	r.bytes += uint64(wirelen)
	r.first += uint64(data[0])
}

// Each way to read a full buffer on the model, and beside it a range over a lease that does the
// same with each packet: nothing, a copy, an allocated copy. The figures are of the fastest turn:
// whatever else the machine does only adds. Nobody times the model's kernel, which fills the
// buffers.
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
	dropped := uint64(0)
	fill := func() { // until both buffers are owned
		for {
			s, err := w.r.Stats()
			require.NoError(b, err)
			if s.Dropped > dropped {
				dropped = s.Dropped
				return
			}
			for range 200 {
				w.em0.Receive(frame)
			}
		}
	}
	lease := func(r *bpf.Reader, _ uint64, s *read) error {
		l, err := r.Lease(context.Background())
		if err != nil {
			return err
		}
		walk(l, s)
		return l.Release()
	}
	var seen read
	fill()
	require.NoError(b, lease(w.r, 0, &seen))
	n := seen.packets // in a buffer
	timed := func(read func(*bpf.Reader, uint64, *read) error) time.Duration {
		fill()
		begin := time.Now()
		err := read(w.r, n, &seen)
		took := time.Since(begin)
		require.NoError(b, err)
		return took
	}
	ofLease, ofWay := time.Hour, time.Hour
	for b.Loop() {
		ofLease = min(ofLease, timed(lease))
		ofWay = min(ofWay, timed(way))
	}
	require.Equal(b, (2*uint64(b.N)+1)*n, seen.packets)
	b.ReportMetric(float64(ofWay.Nanoseconds())/float64(n), "ns/packet")
	b.ReportMetric(float64(ofLease.Nanoseconds())/float64(n), "lease-ns/packet")
	b.ReportMetric(float64(ofWay)/float64(ofLease), "ratio-to-lease")
	b.ReportMetric(0, "ns/op")
}
