package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/capgen"
	"github.com/zbuf-go/zbuf/internal/capture"
)

// captured takes everything out of a source, and sends each packet with its interface.
func captured(ctx context.Context, src capture.Source, to chan<- capgen.Packet) error {
	defer close(to)
	b := capture.NewBatch()
	ifaces := 0
	for {
		b.Reset()
		if err := src.Next(ctx, b); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		ifaces += len(b.New)
		for _, p := range b.Packets {
			if p.Interface >= ifaces {
				return fmt.Errorf("packet of interface %d of %d", p.Interface, ifaces)
			}
			to <- capgen.Packet{Interface: p.Interface, Time: time.Unix(p.Sec, p.Nsec),
				Data: bytes.Clone(p.Data), WireLen: p.WireLen}
		}
	}
}

// encoded is the file of packets, and where in it each of them ends.
func encoded(t *testing.T, f capgen.Format, packets []capgen.Packet) (file []byte, ends []int) {
	t.Helper()
	for i := range len(packets) + 1 {
		var b bytes.Buffer
		require.NoError(t, capgen.Write(&b, f, packets[:i]))
		file = b.Bytes()
		ends = append(ends, b.Len())
	}
	return file, ends
}

// The replay captures packets that come through a pipe at once. When a signal or an error ends the
// capture, it has captured every packet that was whole in the pipe, in order, once.
func TestReplayOfAPipeLosesNothing(t *testing.T) {
	errEnd := errors.New("end")
	seeds := uint64(1000)
	if testing.Short() {
		seeds = 70
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			f := capgen.Format{Pcapng: seed%2 == 0, Nano: seed%3 == 0, BigEndian: seed%5 == 0}
			packets := capgen.Packets(1+rnd.IntN(60), f, f.Pcapng, seed)
			file, ends := encoded(t, f, packets)
			cfg := bpf.Config{Mode: []bpf.Mode{bpf.ZeroCopy, bpf.Buffered}[seed/2%2],
				BufferSize: []int{4096, 0}[seed/4%2]}
			want := func(p capgen.Packet) bool { return true }
			if seed%7 == 0 {
				want = func(p capgen.Packet) bool { return p.WireLen > 300 }
				cfg.Filter = []zbuf.Insn{{Op: 0x80}, {Op: 0x25, Jf: 1, K: 300}, {Op: 0x06, K: 1 << 30},
					{Op: 0x06}}
			}

			r, w := io.Pipe()
			ctx, cancel := context.WithCancelCause(t.Context())
			got := make(chan capgen.Packet, len(packets))
			done := make(chan error, 1)
			go func() {
				src, err := OpenReplay(ctx, "-", r, cfg)
				if err != nil {
					close(got)
					done <- err
					return
				}
				err = captured(ctx, src, got)
				src.Close()
				done <- err
			}()
			wrote, next := 0, 0
			for wrote < len(file) && rnd.IntN(40) > 0 {
				n := min(len(file)-wrote, 1+rnd.IntN(2000))
				w.Write(file[wrote : wrote+n])
				wrote += n
				if rnd.IntN(3) > 0 {
					continue
				}
				began := time.Now()
				synctest.Wait()
				for ; next < len(packets) && ends[next+1] <= wrote; next++ {
					if want(packets[next]) {
						require.NotEmpty(t, got, "seed %d: packet %d", seed, next)
						requirePacket(t, packets[next], <-got)
					}
				}
				require.Empty(t, got)
				require.Zero(t, time.Since(began), "no packet has to wait")
				// the moment is what the test varies
				time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
			}
			complete := wrote == len(file) && rnd.IntN(2) == 0
			if complete {
				w.Close()
			} else {
				cancel(errEnd)
			}
			require.NoError(t, <-done, "seed %d", seed)
			for p := range got {
				for !want(packets[next]) {
					next++
				}
				requirePacket(t, packets[next], p)
				next++
			}
			for complete && next < len(packets) && !want(packets[next]) {
				next++
			}
			assert.True(t, !complete || next == len(packets), "seed %d: %d of %d", seed, next, len(packets))
			w.Close()
			cancel(nil)
			synctest.Wait()
		})
	}
	t.Logf("%d seeds", seeds)
}

func requirePacket(t *testing.T, want, got capgen.Packet) {
	t.Helper()
	require.Equal(t, want.Interface, got.Interface)
	require.Equal(t, want.WireLen, got.WireLen)
	require.Equal(t, want.Time.UnixNano(), got.Time.UnixNano())
	require.True(t, bytes.Equal(want.Data, got.Data))
}
