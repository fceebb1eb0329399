package capture_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
	"github.com/zbuf-go/zbuf/internal/capture/source"
	"github.com/zbuf-go/zbuf/internal/capture/stage"
	"github.com/zbuf-go/zbuf/internal/compression"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// From lease to release nothing is allocated, however many packets there are. Only text and JSON
// allocate, because they decode each packet.
func TestPacketsDoNotAllocate(t *testing.T) {
	for _, spec := range []sink.Spec{
		{Format: sink.Pcapng}, {Format: sink.Pcap}, {Format: sink.PcapNano},
		{Format: sink.Pcapng, Compression: compression.Gzip},
		{Format: sink.Pcapng, Compression: compression.Zstd},
	} {
		t.Run(fmt.Sprint(spec.Format, " ", spec.Compression), func(t *testing.T) {
			packetsDoNotAllocate(t, sink.New(spec, io.Discard))
		})
	}
	t.Run("rotation", func(t *testing.T) {
		folder, err := os.OpenRoot(t.TempDir())
		require.NoError(t, err)
		defer folder.Close()
		out, err := sink.NewRotating(sink.Spec{Format: sink.Pcapng}, sink.Rotation{Folder: folder,
			Name: "out.pcapng", Size: 1 << 30, Packets: 1 << 30, Every: 24 * time.Hour})
		require.NoError(t, err)
		packetsDoNotAllocate(t, out)
	})
}

func packetsDoNotAllocate(t *testing.T, out capture.Sink) {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	src, err := source.OpenLive("em0", bpf.Config{Mode: bpf.ZeroCopy, System: k})
	require.NoError(t, err)
	defer src.Close()
	limit := stage.Limit(1e9)
	b := capture.NewBatch()
	require.NoError(t, src.Next(t.Context(), b))
	for _, i := range b.New {
		require.NoError(t, out.AddInterface(i))
	}
	const batches = 10
	frame := scenario.Frame(100, 0)
	one := func() {
		b.Reset()
		if src.Next(context.Background(), b) != nil || limit.Apply(b) != nil || out.Write(b) != nil {
			t.FailNow()
		}
	}
	var perBatch float64
	for range 2 { // in the first round the sink's memory grows to what it needs
		for range batches * cap(b.Packets) {
			em0.Receive(frame)
		}
		one() // leases all of them
		require.Len(t, b.Packets, cap(b.Packets))
		allocs := testing.AllocsPerRun(batches-2, one) // calls it once more before
		require.Len(t, b.Packets, cap(b.Packets))
		require.NoError(t, out.Flush())
		perBatch = allocs
	}
	assert.Zero(t, perBatch)
}
