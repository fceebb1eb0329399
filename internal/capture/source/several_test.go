package source_test

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/source"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// several is a capture of em0, em1 and tun0 on the model.
type several struct {
	k      *bpftest.Kernel
	ifaces []*bpftest.Interface
	src    *source.Several
}

const window = 100 * time.Millisecond

func openSeveral(t *testing.T, mode bpf.Mode) *several {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	s := &several{k: k, ifaces: []*bpftest.Interface{
		k.AddInterface("em0", zbuf.DLT_EN10MB), k.AddInterface("em1", zbuf.DLT_EN10MB),
		k.AddInterface("tun0", zbuf.DLT_NULL),
	}}
	var err error
	s.src, err = source.OpenSeveral([]string{"em0", "em1", "tun0"},
		bpf.Config{System: k, Mode: mode, BufferSize: 64 << 10}, window)
	require.NoError(t, err)
	return s
}

// outcome is what a capture has delivered.
type outcome struct {
	numbers [][]uint32 // by interface
	behind  int        // packets that are older than the one before them
	notes   []string
	err     error
}

// capture takes packets until the source ends.
func (s *several) capture(ctx context.Context) (out outcome) {
	b := capture.NewBatch()
	last := time.Time{}
	for {
		b.Reset()
		if out.err = s.src.Next(ctx, b); out.err != nil {
			return out
		}
		out.notes = append(out.notes, b.Notes...)
		for range b.New {
			out.numbers = append(out.numbers, nil)
		}
		for _, p := range b.Packets {
			out.numbers[p.Interface] = append(out.numbers[p.Interface],
				binary.BigEndian.Uint32(p.Data[14:]))
			at := time.Unix(p.Sec, p.Nsec)
			if at.Before(last) {
				out.behind++
			}
			last = at
		}
	}
}

// Every packet of each interface comes once and in order, and all together in the order of time,
// whatever pauses there are, and although an interface goes. The end delivers what was captured
// before it. Other goroutines ask for the statistics meanwhile.
func TestSeveralInterfacesLoseNothing(t *testing.T) {
	for seed := range lab.Setting(t, "ZBUF_SEEDS", uint64(20)) {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 18))
				s := openSeveral(t, mode)
				ctx, end := context.WithCancel(t.Context())
				sent := make([]uint32, len(s.ifaces))
				goes, when := rnd.IntN(len(sent)), rnd.IntN(60) // in two of three runs, long before the end
				go func() {
					gone := -1
					for burst := range 50 {
						for range rnd.IntN(100) {
							i := rnd.IntN(len(sent))
							if i == gone {
								continue
							}
							s.ifaces[i].Receive(scenario.Frame(60+rnd.IntN(200), sent[i]))
							sent[i]++
						}
						if burst == when && when < 40 {
							gone = goes
							s.k.RemoveInterface(s.ifaces[gone].Name())
						}
						time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond) // of the bubble
					}
					end()
				}()
				var asking sync.WaitGroup
				asking.Go(func() {
					for ctx.Err() == nil {
						assert.Len(t, s.src.Statistics(), len(sent))
						time.Sleep(77 * time.Millisecond) // of the bubble
					}
				})
				out := s.capture(ctx)
				asking.Wait()
				require.Equal(t, io.EOF, out.err)
				require.Len(t, out.numbers, len(sent))
				for i, numbers := range out.numbers {
					require.Len(t, numbers, int(sent[i]), "seed %d, interface %d", seed, i)
					for n, number := range numbers {
						require.EqualValues(t, n, number, "seed %d, interface %d", seed, i)
					}
				}
				assert.Zero(t, out.behind, "seed %d", seed)
				assert.Empty(t, s.src.Notes())
				if when < 40 {
					assert.Equal(t, []string{s.ifaces[goes].Name() +
						" has gone: destroyed, or moved to another vnet; the others go on"}, out.notes)
				} else {
					assert.Empty(t, out.notes)
				}
				stats := s.src.Statistics()
				for i := range sent {
					assert.EqualValues(t, sent[i], stats[i].Received)
				}
				require.NoError(t, s.src.Close())
			})
		}
	}
}

// If an interface goes, the source says so once, and the others go on. It ends with the last one.
func TestSeveralInterfacesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSeveral(t, bpf.ZeroCopy)
		go func() {
			for i, name := range []string{"em0", "tun0", "em1"} {
				for _, iface := range s.ifaces {
					iface.Receive(scenario.Frame(60, uint32(i)))
				}
				time.Sleep(time.Second)
				s.k.RemoveInterface(name)
			}
		}()
		out := s.capture(t.Context())
		assert.Equal(t, [][]uint32{{0}, {0, 1, 2}, {0, 1}}, out.numbers)
		assert.Equal(t, []string{
			"em0 has gone: destroyed, or moved to another vnet; the others go on",
			"tun0 has gone: destroyed, or moved to another vnet; the others go on",
		}, out.notes)
		assert.EqualError(t, out.err, "em1 has gone: destroyed, or moved to another vnet")
		require.NoError(t, s.src.Close())
	})
}

// Close ends a source from which nobody takes packets any more, and one that nobody has asked.
func TestSeveralInterfacesClose(t *testing.T) {
	for _, asked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := openSeveral(t, bpf.ZeroCopy)
			b := capture.NewBatch()
			if asked {
				require.NoError(t, s.src.Next(t.Context(), b))
				go func() {
					for i := range uint32(2000) {
						s.ifaces[0].Receive(scenario.Frame(60, i))
					}
				}()
				b.Reset()
				require.NoError(t, s.src.Next(t.Context(), b))
				require.NotEmpty(t, b.Packets)
				synctest.Wait() // the loop waits for somebody to take a turn
			}
			require.NoError(t, s.src.Close())
			assert.Zero(t, s.k.OpenCount())
		})
	}
}

// An interface that cannot be opened leaves none open.
func TestSeveralInterfacesOpenAllOrNone(t *testing.T) {
	k := bpftest.New()
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	_, err := source.OpenSeveral([]string{"em0", "em1"}, bpf.Config{System: k}, window)
	assert.ErrorContains(t, err, "em1")
	assert.Zero(t, k.OpenCount())
}
