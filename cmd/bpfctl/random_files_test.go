package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/capgen"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/sink"
	"github.com/zbuf-go/zbuf/internal/capture/source"
)

// Random files, whole, cut and damaged, go through replay in both modes and every direction: what
// comes out has exactly the packets that an independent reader finds in the file before the place
// where it is broken.
func TestReplayOfRandomFiles(t *testing.T) {
	seeds := uint64(3_000)
	if testing.Short() {
		seeds = 200
	}
	var packets, broken, way, commented int
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 3))
		file := capgen.Random(seed).Bytes
		switch rnd.IntN(3) {
		case 0:
			file = file[:rnd.IntN(len(file))]
		case 1:
			file[rnd.IntN(len(file))] ^= 1 << rnd.IntN(8)
		}
		want, wantErr := capgen.Parse(file)
		cfg := bpf.Config{
			BufferSize: 4096,
			Mode:       []bpf.Mode{bpf.ZeroCopy, bpf.Buffered}[rnd.IntN(2)],
			Direction:  []bpf.Direction{bpf.InOut, bpf.In, bpf.Out}[rnd.IntN(3)],
			Resolution: []bpf.Resolution{bpf.Nanoseconds, bpf.Binary}[rnd.IntN(2)],
		}
		if cfg.Direction != bpf.InOut {
			want.Packets = slices.DeleteFunc(want.Packets,
				func(p capgen.Packet) bool { return p.Out != (cfg.Direction == bpf.Out) })
			way += len(want.Packets)
		}
		var out bytes.Buffer
		err := replayWith(&out, file, cfg)
		require.Equal(t, wantErr == nil, err == nil, "seed %d: %v became %v", seed, wantErr, err)
		if wantErr != nil {
			broken++
			if out.Len() == 0 { // the file has no head
				require.Empty(t, want.Packets, "seed %d", seed)
				continue
			}
		}
		got, err := capgen.Parse(out.Bytes())
		require.NoError(t, err, "seed %d", seed)
		requireSame(t, want.Packets, got.Packets)
		for i, p := range want.Packets {
			require.True(t, slices.Equal(p.Comments, got.Packets[i].Comments), "seed %d, packet %d", seed, i)
			if len(p.Comments) > 0 && cfg.Direction != bpf.InOut {
				commented++
			}
		}
		require.Equal(t, len(want.Interfaces), len(got.Interfaces), "seed %d", seed)
		for i := range want.Interfaces {
			require.Equal(t, want.Interfaces[i], got.Interfaces[i], "seed %d", seed)
		}
		packets += len(got.Packets)
	}
	t.Logf("%d files, %d of them broken; %d packets came out, %d of them by their direction", seeds,
		broken, packets, way)
	require.NotZero(t, broken)
	require.NotZero(t, way)
	require.NotZero(t, commented, "comments of packets that were picked")
}

// replayWith is replayTo with a configuration.
func replayWith(stdout io.Writer, file []byte, cfg bpf.Config) error {
	src, err := source.OpenReplay(context.Background(), "-", bytes.NewReader(file), cfg)
	if err != nil {
		return err
	}
	defer src.Close()
	p := &capture.Pipeline{Source: src, Sink: sink.New(sink.Spec{Format: sink.Pcapng}, stdout)}
	_, err = p.Run(context.Background())
	return err
}
