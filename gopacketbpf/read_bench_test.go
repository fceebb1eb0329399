package gopacketbpf_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// seen has what a benchmark counts of the packets.
type seen struct{ packets, bytes, nanoseconds uint64 }

func (s *seen) packet(data []byte, ci gopacket.CaptureInfo) {
	s.packets++
	s.bytes += uint64(ci.CaptureLength) + uint64(data[0])
	s.nanoseconds += uint64(ci.Timestamp.Nanosecond())
}

// Each way to read a full buffer on the model, and beside it a range over a lease that does the
// same with each packet: a copy, and gopacket's description of the packet.
func BenchmarkRead(b *testing.B) {
	buf := make([]byte, 2048)
	info := func(p bpf.Packet) gopacket.CaptureInfo {
		return gopacket.CaptureInfo{Timestamp: p.Time(), CaptureLength: len(p.Data()),
			Length: p.WireLen()}
	}
	for _, way := range []struct {
		name  string
		lease func(p bpf.Packet, s *seen)
		read  func(w *capture, s *seen) error
	}{
		{"ZeroCopyReadPacketData", func(p bpf.Packet, s *seen) {
			s.packet(p.Data(), info(p))
		}, func(w *capture, s *seen) error {
			data, ci, err := w.h.ZeroCopyReadPacketData()
			if err == nil {
				s.packet(data, ci)
			}
			return err
		}},
		{"ReadPacketDataTo", func(p bpf.Packet, s *seen) {
			copy(buf, p.Data())
			s.packet(buf, info(p))
		}, func(w *capture, s *seen) error {
			ci, err := w.h.ReadPacketDataTo(buf)
			if err == nil {
				s.packet(buf, ci)
			}
			return err
		}},
		{"ReadPacketData", func(p bpf.Packet, s *seen) {
			s.packet(bytes.Clone(p.Data()), info(p))
		}, func(w *capture, s *seen) error {
			data, ci, err := w.h.ReadPacketData()
			if err == nil {
				s.packet(data, ci)
			}
			return err
		}},
	} {
		for _, size := range []int{64, 1500} {
			b.Run(fmt.Sprintf("Handle.%s/buffer=2048K/packet=%d", way.name, size), func(b *testing.B) {
				benchmarkRead(b, size, way.lease, way.read)
			})
		}
	}
}

func benchmarkRead(
	b *testing.B, size int, walk func(bpf.Packet, *seen), way func(*capture, *seen) error,
) {
	ctx := context.Background()
	w := newCapture(b, ctx, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 2 << 20,
		ReadTimeout: bpf.NoTimeout})
	frame := numbered(1, size)
	dropped := func() uint64 {
		s, err := w.r.Stats()
		require.NoError(b, err)
		return s.Dropped
	}
	fill := func() { lab.FillBoth(dropped, func() { w.em0.Receive(frame) }) }
	var all seen
	lease := func() error {
		l, err := w.r.Lease(ctx)
		if err != nil {
			return err
		}
		for p := range l.Packets() {
			walk(p, &all)
		}
		return l.Release()
	}
	fill()
	require.NoError(b, lease())
	n := all.packets // in a buffer
	lab.BesideLease(b, n, fill, lease, func() error {
		for range n {
			if err := way(w, &all); err != nil {
				return err
			}
		}
		return nil
	})
	require.Equal(b, (2*uint64(b.N)+1)*n, all.packets)
}
