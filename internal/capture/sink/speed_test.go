package sink

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// BenchmarkWrite is the way of packets through a sink, without the disk. They compress to about the
// half.
func BenchmarkWrite(b *testing.B) {
	packets := noisy(b, 500, 700)
	length := int64(0)
	for _, p := range packets {
		length += int64(len(p.Data))
	}
	for _, kind := range kinds {
		b.Run("pcapng"+kind.Extension(), func(b *testing.B) {
			s := newSink(Spec{Format: Pcapng}, newOutput(&stream{w: io.Discard}, "nowhere", kind))
			require.NoError(b, s.AddInterface(pcapio.Interface{LinkType: 1}))
			b.SetBytes(length)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Write(&capture.Batch{Packets: packets}); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, s.Flush())
		})
	}
}
