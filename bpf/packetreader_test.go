package bpf_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// oneAtATime are the methods of a PacketReader.
var oneAtATime = []struct {
	name string
	read func(ctx context.Context, p *bpf.PacketReader) ([]byte, error)
}{
	{"ReadPacket", func(ctx context.Context, p *bpf.PacketReader) ([]byte, error) {
		data, _, err := p.ReadPacket(ctx)
		return data, err
	}},
	{"ReadInto", func(ctx context.Context, p *bpf.PacketReader) ([]byte, error) {
		b := make([]byte, 200)
		n, _, err := p.ReadInto(ctx, b)
		return b[:n], err
	}},
	{"ReadSlice", func(ctx context.Context, p *bpf.PacketReader) ([]byte, error) {
		data, _, err := p.ReadSlice(ctx)
		return data, err
	}},
	{"ZeroCopyReadPacketData", func(_ context.Context, p *bpf.PacketReader) ([]byte, error) {
		data, _, err := p.ZeroCopyReadPacketData()
		return data, err
	}},
}

// eachMethod runs a test with each method of a PacketReader in both modes.
func eachMethod(t *testing.T, cfg bpf.Config,
	test func(t *testing.T, w *capture, read func(*bpf.PacketReader) ([]byte, error)),
) {
	for _, way := range oneAtATime {
		t.Run(way.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				cfg.Mode = mode
				test(t, newCapture(t, cfg), func(p *bpf.PacketReader) ([]byte, error) {
					return way.read(t.Context(), p)
				})
			})
		})
	}
}

var smallAndQuick = bpf.Config{BufferSize: 4096, Immediate: true}

// What a PacketReader has not read is the Reader's again, whatever reads next, and Stats has
// counted each packet when its call returns.
func TestPacketReaderReleasesTheRest(t *testing.T) {
	for _, rd := range readers {
		t.Run(rd.name, func(t *testing.T) {
			eachMethod(t, smallAndQuick, func(t *testing.T, w *capture,
				read func(*bpf.PacketReader) ([]byte, error),
			) {
				w.receive(0, 60) // more than a buffer
				p := w.r.PacketReader()
				var got []uint32
				for n := 1; len(got) < 60; n++ {
					for range min(n, 60-len(got)) {
						data, err := read(p)
						require.NoError(t, err)
						got = append(got, number(t, data))
						s, err := w.r.Stats()
						require.NoError(t, err)
						require.EqualValues(t, len(got), s.Packets)
						require.EqualValues(t, 64*len(got), s.Bytes)
					}
					p.Release()
					if len(got) < 60 {
						more, err := rd.read(t, w.r)
						require.NoError(t, err)
						got = append(got, more...)
					}
				}
				assert.Equal(t, sequence(0, 60), got)
			})
		})
	}
}

// While a PacketReader has packets of a buffer, it is the reader. Several take turns.
func TestPacketReaderIsTheOnlyReader(t *testing.T) {
	eachMethod(t, smallAndQuick, func(t *testing.T, w *capture,
		read func(*bpf.PacketReader) ([]byte, error),
	) {
		w.receive(0, 30)
		one, other := w.r.PacketReader(), w.r.PacketReader()
		for n := range uint32(30) {
			data, err := read(one)
			require.NoError(t, err)
			require.Equal(t, n, number(t, data))
			_, err = read(other)
			require.ErrorIs(t, err, bpf.ErrLeaseOut)
			_, _, err = w.r.ReadPacket(t.Context())
			require.ErrorIs(t, err, bpf.ErrLeaseOut)
			one.Release()
			other.Release() // it has nothing
			one, other = other, one
		}
	})
}

// What another goroutine has changed holds for the next call.
func TestPacketReaderSeesChanges(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			eachMethod(t, smallAndQuick, func(t *testing.T, w *capture,
				read func(*bpf.PacketReader) ([]byte, error),
			) {
				w.receive(0, 30)
				want := sequence(0, 40)
				if c.discards {
					want = append(sequence(0, 10), sequence(30, 10)...)
				}
				p := w.r.PacketReader()
				for i, n := range want {
					data, err := read(p)
					require.NoError(t, err)
					require.Equal(t, n, number(t, data))
					if i == 9 {
						require.NoError(t, c.call(w))
						w.receive(30, 10)
					}
				}
				p.Release()
			})
		})
	}
}

// A reset that the kernel refuses discards nothing.
func TestPacketReaderGoesOnAfterAResetThatFailed(t *testing.T) {
	eachMethod(t, smallAndQuick, func(t *testing.T, w *capture,
		read func(*bpf.PacketReader) ([]byte, error),
	) {
		w.receive(0, 10)
		p := w.r.PacketReader()
		for n := range uint32(10) {
			data, err := read(p)
			require.NoError(t, err)
			require.Equal(t, n, number(t, data))
			w.k.FailNext("BIOCFLUSH", 1, errors.ErrUnsupported)
			require.Error(t, w.r.Flush())
		}
		p.Release()
	})
}

// After Close the memory stays until the next call, which returns os.ErrClosed, or Release.
func TestPacketReaderGivesTheMemoryBackAfterClose(t *testing.T) {
	for name, end := range map[string]func(*testing.T, func() ([]byte, error), *bpf.PacketReader){
		"next call": func(t *testing.T, read func() ([]byte, error), _ *bpf.PacketReader) {
			for range 2 {
				_, err := read()
				require.ErrorIs(t, err, os.ErrClosed)
			}
		},
		"Release": func(_ *testing.T, _ func() ([]byte, error), p *bpf.PacketReader) {
			p.Release()
			p.Release()
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachMethod(t, smallAndQuick, func(t *testing.T, w *capture,
				read func(*bpf.PacketReader) ([]byte, error),
			) {
				w.receive(0, 10)
				p := w.r.PacketReader()
				data, err := read(p)
				require.NoError(t, err)
				require.NoError(t, w.r.Close())
				require.EqualValues(t, 0, number(t, data))
				end(t, func() ([]byte, error) { return read(p) }, p)
				assert.Zero(t, w.k.MappedBytes())
				s, err := w.r.Stats()
				assert.ErrorIs(t, err, os.ErrClosed)
				assert.EqualValues(t, 1, s.Packets)
			})
		})
	}
}

// Other goroutines see the counters grow by each packet, from one buffer to the next, and never
// fall.
func TestPacketReaderIsCountedFromBeside(t *testing.T) {
	const packets = 20_000
	w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10, Immediate: true})
	var beside sync.WaitGroup
	over := make(chan struct{})
	var looks atomic.Int64
	beside.Go(func() {
		for last := uint64(0); ; looks.Add(1) {
			s, err := w.r.Stats()
			if !assert.NoError(t, err) || !assert.GreaterOrEqual(t, s.Packets, last) ||
				!assert.Equal(t, 64*s.Packets, s.Bytes) {
				return
			}
			last = s.Packets
			select {
			case <-over:
				return
			default:
			}
		}
	})
	p := w.r.PacketReader()
	began := time.Now()
	// A busy machine may leave the other goroutine no time during the first packets.
	enough := func() bool { return looks.Load() > 0 || time.Since(began) > lab.Patience }
	for n := uint32(0); n < packets || !enough(); n++ {
		if n%100 == 0 {
			w.receive(n, 100)
		}
		data, _, err := p.ReadSlice(t.Context())
		require.NoError(t, err)
		require.Equal(t, n, number(t, data))
		s, err := w.r.Stats()
		require.NoError(t, err)
		require.EqualValues(t, n+1, s.Packets)
	}
	close(over)
	beside.Wait()
	p.Release()
	assert.NotZero(t, looks.Load())
}

// A packet that is there costs no allocation, no system call and, in Stats, nothing else either.
func TestPacketReaderAllocatesNothingForAPacket(t *testing.T) {
	buf := make([]byte, 200)
	for name, read := range map[string]func(p *bpf.PacketReader) error{
		"ReadInto": func(p *bpf.PacketReader) error {
			_, _, err := p.ReadInto(context.Background(), buf)
			return err
		},
		"ReadSlice": func(p *bpf.PacketReader) error {
			_, _, err := p.ZeroCopyReadPacketData()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 1 << 20, Immediate: true})
			w.receive(0, 5000)
			p := w.r.PacketReader()
			require.NoError(t, read(p)) // has the buffer
			before, err := w.r.Stats()
			require.NoError(t, err)
			failed := error(nil)
			allocs := testing.AllocsPerRun(200, func() { failed = errors.Join(failed, read(p)) })
			assert.Zero(t, allocs)
			require.NoError(t, failed)
			after, err := w.r.Stats()
			require.NoError(t, err)
			assert.EqualValues(t, before.Packets+201, after.Packets)
			before.Packets, before.Bytes = after.Packets, after.Bytes
			assert.Equal(t, before, after)
		})
	}
}
