package bpf_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// 14 rounds a read timeout down to clock ticks. Nevertheless a timeout above 0 never becomes none,
// and is never shorter than the configuration's.
func TestReadTimeoutIsRoundedUp(t *testing.T) {
	for name, features := range map[string]bpftest.Features{"12": bpftest.FreeBSD12(),
		"14": bpftest.FreeBSD14()} {
		for _, hz := range []int{100, 128, 1000} {
			tick := time.Second / time.Duration(hz)
			for _, timeout := range []time.Duration{
				time.Nanosecond, time.Microsecond, 5 * time.Millisecond, tick - 1, tick, tick + 1,
				15 * time.Millisecond, 100 * time.Millisecond, 1999999 * time.Microsecond,
			} {
				for _, compat := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/hz=%d/%v/compat32=%v", name, hz, timeout, compat), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							opts := []bpftest.Option{bpftest.WithFeatures(features), bpftest.WithHZ(hz)}
							if compat {
								opts = append(opts, bpftest.WithCompat32())
							}
							w := newCapture(t, bpf.Config{ReadTimeout: timeout}, opts...)
							arrived := make(chan time.Time, 1)
							go func() {
								time.Sleep(50 * time.Millisecond) // in the time of the bubble
								arrived <- time.Now()
								w.receive(0, 1)
							}()
							l, err := w.r.Lease(t.Context())
							require.NoError(t, err)
							defer l.Release()
							assert.LessOrEqual(t, time.Since(<-arrived), timeout+2*tick)
						})
					})
				}
			}
		}
	}
}

// Where the kernel can't switch BIOCIMMEDIATE off again, a tail must not make each later packet a
// wake-up of its own.
func TestOneTailDoesNotMakeEveryPacketAWakeUp(t *testing.T) {
	for name, features := range map[string]bpftest.Features{"12": bpftest.FreeBSD12(),
		"16": bpftest.FreeBSD16()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCapture(t, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 64 << 10},
					bpftest.WithFeatures(features))
				leave(t, w.r, "a tail", func(n uint32) { w.em0.Receive(numbered(n, 64)) })
				before, err := w.r.Stats()
				require.NoError(t, err)
				packets := uint32(100_000)
				if testing.Short() {
					packets = 25_000
				}
				go func() {
					for i := range packets {
						time.Sleep(100 * time.Microsecond) // in the time of the bubble
						w.em0.Receive(numbered(i, 64))
					}
				}()
				require.NoError(t, w.r.SetReadDeadline(time.Time{}))
				next := uint32(0)
				for next < packets {
					l, err := w.r.Lease(t.Context())
					require.NoError(t, err)
					for p := range l.Packets() {
						require.Equal(t, next, number(t, p.Data()))
						next++
					}
					require.NoError(t, l.Release())
				}
				after, err := w.r.Stats()
				require.NoError(t, err)
				assert.NotZero(t, after.ReadInPlace)
				assert.LessOrEqual(t, after.Waits-before.Waits, uint64(packets/250), "a packet each 0.1 ms")
				requireSleepsWithin(t, w.r, 10, 12)
			})
		})
	}
}

// A setter that did nothing says so.
func TestStickyFlagsHaveAName(t *testing.T) {
	for name, features := range map[string]bpftest.Features{"12": bpftest.FreeBSD12(),
		"16": bpftest.FreeBSD16()} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New(bpftest.WithFeatures(features))
			open := func() *zbuf.Device {
				d, err := zbuf.OpenOn(k)
				require.NoError(t, err)
				t.Cleanup(func() { d.Close() })
				return d
			}
			d := open()
			can, err := d.CanClear(open())
			require.NoError(t, err)
			assert.Equal(t, name == "12", can)
			for name, set := range map[string]func(bool) error{
				"immediate": d.SetImmediate, "header complete": d.SetHeaderComplete, "feedback": d.SetFeedback,
			} {
				require.NoError(t, set(true), name)
				if err := set(false); can {
					assert.NoError(t, err, name)
				} else {
					assert.ErrorIs(t, err, zbuf.ErrSticky, name)
				}
			}
		})
	}
}

// Since 13 BIOCSDLT does not wait for a packet of the old link type that is on its way to the
// buffer.
func TestNoPacketOfAnotherLinkType(t *testing.T) {
	var em0 *bpftest.Interface
	var land []func()
	hook := bpftest.WithTrace(func(op string) {
		switch op {
		case "BIOCSDLT": // a packet is on its way
			land = append(land, em0.BeginInject(bpftest.Packet{Data: numbered(7, 64)}))
		case "index": // the last request of Open
			for _, f := range land {
				f()
			}
		}
	})
	k := bpftest.New(zerocopyOn(true), bpftest.WithFeatures(bpftest.FreeBSD14()), hook)
	em0 = k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(zbuf.DLT_IEEE802_11, 24))
	r, err := bpf.Open("em0", bpf.Config{System: k, LinkTypes: []uint32{zbuf.DLT_IEEE802_11}})
	require.NoError(t, err)
	defer r.Close()
	require.Len(t, land, 1)
	require.NoError(t, r.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, _, err = r.ReadPacket(t.Context())
	assert.ErrorContains(t, err, "timeout", "nothing was captured with the link type that was chosen")
}

// Since 13 a filter change does not wait for packets in flight. A packet that only the old filter
// has passed can come after SetFilter has returned. No other earlier packet comes, and no later
// packet is lost.
func TestPacketInFlightDuringSetFilter(t *testing.T) {
	onlyEven := []xbpf.RawInstruction{{Op: 0x30, K: 17}, {Op: 0x45, Jf: 1, K: 1}, {Op: 0x06},
		{Op: 0x06, K: 1 << 18}}
	for name, features := range map[string]bpftest.Features{"12": bpftest.FreeBSD12(),
		"14": bpftest.FreeBSD14()} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, bpf.Config{Mode: mode, ReadTimeout: 5 * time.Millisecond},
					bpftest.WithFeatures(features))
				w.receive(0, 4)
				land := w.em0.BeginInject(bpftest.Packet{Data: numbered(5, 64)}) // odd, and on its way
				require.NoError(t, w.r.SetFilter(onlyEven, true))
				land()
				w.receive(6, 5)
				read := func() ([]uint32, error) { return readers[1].read(t, w.r) }
				want := []uint32{6, 8, 10}
				if features.FilterInFlight {
					want = append([]uint32{5}, want...)
				}
				assert.Equal(t, want, readAll(t, w, read))
			})
		})
	}
}
