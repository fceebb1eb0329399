package fanout_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/bpf/fanout"
)

// A worker may fail in any way, with its first packets or with later ones. Run does not call it
// again. The others handle their packets, Run releases the lease, and its caller gets the error.
func TestFailingWorkers(t *testing.T) {
	errBroken := errors.New("broken")
	for _, failing := range []int{0, 1, 2} { // Run does 2 itself
		for how, fail := range map[string]func() error{
			"error":  func() error { return errBroken },
			"panic":  func() error { panic(errBroken) },
			"goexit": func() error { runtime.Goexit(); return nil },
		} {
			for _, lease := range []struct{ packets, at int }{{30, 0}, {3000, 0}, {3000, 900},
				{3000, 2997}} {
				t.Run(fmt.Sprintf("worker=%d/%s/packets=%d/at=%d", failing, how, lease.packets, lease.at),
					func(t *testing.T) {
						modes(t, func(t *testing.T, cfg bpf.Config) {
							w := newCapture(t, cfg)
							for i := range uint32(lease.packets) {
								w.em0.Receive(frame(uint16(i%3), false, i))
							}
							var seen atomic.Int64
							var err error
							var recovered any
							returned := false
							ended, fails := make(chan struct{}), make(chan struct{})
							go func() {
								defer close(ended)
								defer func() { recovered = recover() }()
								err = fanout.Run(t.Context(), w.r, fanout.Config{
									Workers: 3, Hash: byFlow,
									Handle: func(i int, packets []bpf.Packet) error {
										if i == failing {
											for _, p := range packets {
												if _, number := parse(p.Data()); int(number) >= lease.at {
													close(fails) // a second time would be a panic
													return fail()
												}
											}
											return nil
										}
										<-fails
										seen.Add(int64(len(packets)))
										return nil
									}})
								returned = true
							}()
							<-ended
							assert.EqualValues(t, lease.packets/3*2, seen.Load(), "the others' packets")
							switch how {
							case "error":
								assert.ErrorIs(t, err, errBroken)
							case "panic":
								require.IsType(t, &fanout.PanicError{}, recovered)
								p := recovered.(*fanout.PanicError)
								assert.Equal(t, failing, p.Worker)
								assert.ErrorIs(t, p, errBroken)
								assert.Contains(t, p.Error(), "TestFailingWorkers")
							case "goexit":
								if failing == 2 {
									assert.False(t, returned, "the goroutine that called Run has ended, as Handle wanted")
								} else {
									assert.ErrorContains(t, err, "Goexit")
								}
							}
							w.released(t)
							s, err := w.r.Stats()
							require.NoError(t, err)
							assert.EqualValues(t, lease.packets, s.Packets)
						})
					})
			}
		}
	}
}

// No worker waits for a chunk that can't be sorted. The workers handle the chunks before it, Run
// releases the lease, and its caller gets the error.
func TestFailingHash(t *testing.T) {
	errBroken := errors.New("broken")
	const chunk = 256
	for how, fail := range map[string]func(){
		"panic":  func() { panic(errBroken) },
		"goexit": func() { runtime.Goexit() },
	} {
		for _, lease := range []struct{ packets, at int }{{1, 0}, {30, 29}, {2000, 0}, {2000, 400},
			{2000, 1999}} {
			t.Run(fmt.Sprintf("%s/packets=%d/at=%d", how, lease.packets, lease.at), func(t *testing.T) {
				modes(t, func(t *testing.T, cfg bpf.Config) {
					w := newCapture(t, cfg)
					for i := range uint32(lease.packets) {
						w.em0.Receive(frame(uint16(i%3), false, i))
					}
					var err error
					var recovered any
					returned := false
					ended := make(chan struct{})
					ledgers := newLedgers(3)
					go func() {
						defer close(ended)
						defer func() { recovered = recover() }()
						err = fanout.Run(t.Context(), w.r, fanout.Config{
							Workers: 3,
							Hash: func(_ uint32, p []byte) uint32 {
								flow, number := parse(p)
								if int(number) == lease.at {
									fail()
								}
								return uint32(flow)
							},
							Handle: func(i int, packets []bpf.Packet) error {
								for _, p := range packets {
									ledgers[i].note(t, p)
								}
								return nil
							},
						})
						returned = true
					}()
					<-ended
					seen := 0
					for _, l := range ledgers {
						seen += l.count
					}
					before := lease.at / chunk * chunk
					switch how {
					case "panic":
						require.IsType(t, &fanout.PanicError{}, recovered)
						p := recovered.(*fanout.PanicError)
						assert.Equal(t, -1, p.Worker)
						assert.ErrorIs(t, p, errBroken)
						assert.Contains(t, p.Error(), "TestFailingHash")
						assert.Equal(t, before, seen, "the packets of the chunks before")
					case "goexit":
						if returned { // it was not the goroutine that called Run
							assert.ErrorContains(t, err, "Goexit")
						}
						assert.LessOrEqual(t, seen, before)
						assert.GreaterOrEqual(t, seen, before/3*2-2, "the other workers' packets of the "+
							"chunks before")
					}
					w.released(t)
				})
			})
		}
	}
}

// memory is a kernel that tells which memory a reader has lent it.
type memory struct {
	zbuf.System
	mapped [][]byte
}

func (m *memory) Open() (zbuf.Backend, error) {
	b, err := m.System.Open()
	return &mapping{b, m}, err
}

type mapping struct {
	zbuf.Backend
	m *memory
}

func (b *mapping) Map(size int) ([]byte, error) {
	mem, err := b.Backend.Map(size)
	b.m.mapped = append(b.m.mapped, mem)
	return mem, err
}

// The workers handle the packets before the bad one, no matter in which chunk it is. The next Run
// handles the next buffer.
func TestCorruptBuffer(t *testing.T) {
	for _, c := range []struct{ packets, bad int }{{4, 0}, {4, 2}, {1000, 255}, {1000, 256},
		{1000, 700}} {
		t.Run(fmt.Sprintf("packets=%d/bad=%d", c.packets, c.bad), func(t *testing.T) {
			k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
			m := &memory{System: k}
			r, err := bpf.Open("em0", bpf.Config{Mode: bpf.ZeroCopy, System: m})
			require.NoError(t, err)
			defer r.Close()
			for i := range uint32(c.packets) {
				em0.Receive(frame(uint16(i%50), false, i))
			}
			const record = (26 + 64 + zbuf.Alignment - 1) &^ (zbuf.Alignment - 1)
			at := zbuf.SizeofZbufHeader + c.bad*record
			bad := 0
			for _, mem := range m.mapped {
				if mem[at+16] == 64 { // bh_caplen
					binary.NativeEndian.PutUint16(mem[at+24:], 3) // bh_hdrlen
					bad++
				}
			}
			require.Equal(t, 1, bad, "one store buffer")
			var seen atomic.Int64
			cfg := fanout.Config{Workers: 2, Handle: func(_ int, packets []bpf.Packet) error {
				seen.Add(int64(len(packets)))
				return nil
			}}
			err = fanout.Run(t.Context(), r, cfg)
			require.ErrorIs(t, err, bpf.ErrCorrupt)
			assert.EqualValues(t, c.bad, seen.Load(), "the packets before it")

			em0.Receive(frame(9, false, 9))
			r.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			require.ErrorIs(t, fanout.Run(t.Context(), r, cfg), os.ErrDeadlineExceeded)
			assert.EqualValues(t, c.bad+1, seen.Load(), "it goes on with the next buffer")
		})
	}
}
