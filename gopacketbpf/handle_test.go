package gopacketbpf_test

import (
	"context"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/gopacketbpf"
)

// What programs call that were written for gopacket's packages pcap, afpacket and pcapgo.
var _ interface {
	gopacket.PacketDataSource
	gopacket.ZeroCopyPacketDataSource
	io.Closer
	LinkType() layers.LinkType
	SetBPF([]xbpf.RawInstruction) error
	SetBPFFilter(string) error
	WritePacketData([]byte) error
	ReadPacketDataTo([]byte) (gopacket.CaptureInfo, error)
} = (*gopacketbpf.Handle)(nil)

// The CaptureInfo of a packet has the time, the lengths and the interface that the kernel gave it.
func TestCaptureInfo(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	for _, c := range []struct {
		name     string
		cfg      bpf.Config
		captured int // of 300 bytes
		at       time.Time
	}{
		{"a whole packet", bpf.Config{}, 300, at},
		{"a packet that SnapLen cuts", bpf.Config{SnapLen: 96}, 96, at},
		{"microseconds", bpf.Config{Resolution: bpf.Microseconds}, 300, at.Truncate(time.Microsecond)},
		{"no time stamps", bpf.Config{Resolution: bpf.NoTimestamp}, 300, time.Time{}},
	} {
		for _, rd := range readings {
			t.Run(c.name+"/"+rd.name, func(t *testing.T) {
				modes(t, func(t *testing.T, mode bpf.Mode) {
					c.cfg.Mode, c.cfg.Immediate = mode, true
					w := newCapture(t, t.Context(), c.cfg)
					w.k.AddInterface("em1", zbuf.DLT_EN10MB)
					w.em0.ReceiveAt(at, numbered(7, 300), 300)
					data, ci, err := rd.read(w.h)
					require.NoError(t, err)
					assert.Equal(t, numbered(7, 300)[:c.captured], data)
					assert.True(t, c.at.Equal(ci.Timestamp), "%v", ci.Timestamp)
					ci.Timestamp = time.Time{}
					assert.Equal(t, gopacket.CaptureInfo{
						CaptureLength: c.captured, Length: 300, InterfaceIndex: index(t, w.k, "em0"),
					}, ci)
				})
			})
		}
	}
}

// index asks the model for the number of an interface.
func index(t testing.TB, k *bpftest.Kernel, name string) int {
	t.Helper()
	d, err := zbuf.OpenOn(k)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.SetInterface(name))
	i, err := d.InterfaceIndex()
	require.NoError(t, err)
	require.NotZero(t, i)
	return i
}

// A buffer that is too short takes the beginning of the packet.
func TestReadPacketDataToAShortBuffer(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, t.Context(), bpf.Config{Mode: mode, Immediate: true})
		buf := make([]byte, 20)
		for n := range uint32(2) {
			w.em0.Receive(numbered(n, 100))
			ci, err := w.h.ReadPacketDataTo(buf)
			require.NoError(t, err)
			assert.Equal(t, numbered(n, 100)[:20], buf)
			assert.Equal(t, 20, ci.CaptureLength)
			assert.Equal(t, 100, ci.Length)
		}
	})
}

// What ReadPacketData returned stays, whatever is read after it.
func TestReadPacketDataIsACopy(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, t.Context(), bpf.Config{Mode: mode, BufferSize: 4096, Immediate: true})
		var kept [][]byte
		for n := range uint32(200) {
			w.em0.Receive(numbered(n, 100))
			data, _, err := w.h.ReadPacketData()
			require.NoError(t, err)
			kept = append(kept, data)
		}
		for n, data := range kept {
			require.Equal(t, numbered(uint32(n), 100), data)
		}
	})
}

// LinkType is the number in capture files, and a decoder that knows the packets.
func TestLinkType(t *testing.T) {
	for _, c := range []struct {
		dlt     uint32
		want    layers.LinkType
		packet  []byte
		decoded gopacket.LayerType // 0 if gopacket has no decoder
	}{
		{zbuf.DLT_NULL, layers.LinkTypeNull, append([]byte{2, 0, 0, 0}, ipv4...), layers.LayerTypeIPv4},
		{zbuf.DLT_EN10MB, layers.LinkTypeEthernet, append(append(make([]byte, 12), 8, 0), ipv4...),
			layers.LayerTypeIPv4},
		{zbuf.DLT_RAW, layers.LinkTypeRaw, ipv4, layers.LayerTypeIPv4},
		{zbuf.DLT_LOOP, layers.LinkTypeLoop, append([]byte{0, 0, 0, 2}, ipv4...), layers.LayerTypeIPv4},
		{zbuf.DLT_PFLOG, layers.LinkTypePFLog, nil, 0},
		{zbuf.DLT_IEEE802_11_RADIO, layers.LinkTypeIEEE80211Radio, nil, 0},
		{zbuf.DLT_ATM_RFC1483, layers.LinkTypeATM_RFC1483, nil, 0},
		{zbuf.DLT_SLIP_BSDOS, 102, nil, 0},
		{zbuf.DLT_PPP_BSDOS, 103, nil, 0},
		{zbuf.DLT_ATM_CLIP, 106, nil, 0},
		{zbuf.DLT_PFSYNC, 246, nil, 0},
		{zbuf.DLT_USBPCAP, 249, nil, 0},
	} {
		t.Run(zbuf.DLTName(c.dlt), func(t *testing.T) {
			k := bpftest.New()
			w := &capture{k: k, em0: k.AddInterface("em0", c.dlt)}
			w.open(t, t.Context(), bpf.Config{System: k, Immediate: true})
			assert.Equal(t, c.want, w.h.LinkType())
			if c.decoded == 0 {
				return
			}
			w.em0.Receive(c.packet)
			p, err := sources["PacketSource"](w.h).NextPacket()
			require.NoError(t, err)
			assert.NotNil(t, p.Layer(c.decoded), "%v", p)
			assert.Nil(t, p.ErrorLayer(), "%v", p)
		})
	}
}

// A filter is in force for the next read: what was captured before is discarded.
func TestFilters(t *testing.T) {
	long, err := xbpf.Assemble([]xbpf.Instruction{
		xbpf.LoadExtension{Num: xbpf.ExtLen},
		xbpf.JumpIf{Cond: xbpf.JumpGreaterOrEqual, Val: 100, SkipTrue: 1},
		xbpf.RetConstant{Val: 0},
		xbpf.RetConstant{Val: 1 << 18},
	})
	require.NoError(t, err)
	wrong := []xbpf.RawInstruction{{Op: 0xffff}}
	for _, c := range []struct {
		name string
		set  func(h *gopacketbpf.Handle) error
		want []uint32 // of 0, captured before, 1, and 2, which is long; the old filter passes short ones
		err  error
	}{
		{"SetBPF", func(h *gopacketbpf.Handle) error { return h.SetBPF(long) }, []uint32{2}, nil},
		{"SetBPF nil", func(h *gopacketbpf.Handle) error { return h.SetBPF(nil) }, []uint32{1, 2}, nil},
		{"SetBPF that fails", func(h *gopacketbpf.Handle) error { return h.SetBPF(wrong) },
			[]uint32{0, 1}, bpf.ErrConfig},
		{"SetBPFFilter", func(h *gopacketbpf.Handle) error { return h.SetBPFFilter("greater 100") },
			[]uint32{2}, nil},
		{"SetBPFFilter of nothing", func(h *gopacketbpf.Handle) error { return h.SetBPFFilter("") },
			[]uint32{1, 2}, nil},
		{"SetBPFFilter that fails", func(h *gopacketbpf.Handle) error {
			return h.SetBPFFilter("greater")
		}, []uint32{0, 1}, bpf.ErrConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode bpf.Mode) {
				w := newCapture(t, t.Context(), bpf.Config{Mode: mode, Expression: "less 99"})
				w.em0.Receive(numbered(0, 60))
				assert.ErrorIs(t, c.set(w.h), c.err)
				w.em0.Receive(numbered(1, 60))
				w.em0.Receive(numbered(2, 120))
				require.NoError(t, w.r.SetReadDeadline(time.Now().Add(time.Second)))
				var got []uint32
				for {
					data, _, err := w.h.ReadPacketData()
					if err != nil {
						require.ErrorIs(t, err, os.ErrDeadlineExceeded)
						break
					}
					got = append(got, number(data))
				}
				assert.Equal(t, c.want, got)
			})
		})
	}
}

// A written packet leaves through the interface, with the interface's address or its own.
func TestWritePacketData(t *testing.T) {
	address := [6]byte{2, 0, 0, 0, 0, 1}
	for name, complete := range map[string]bool{
		"the kernel fills in the address": false, "HeaderComplete keeps the address": true,
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New()
			var sent []byte
			w := &capture{k: k, em0: k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.HardwareAddr(address),
				bpftest.Output(func(p []byte) error { sent = append(sent, p...); return nil }))}
			w.open(t, t.Context(), bpf.Config{System: k, HeaderComplete: complete})
			want := numbered(1, 60)
			require.NoError(t, w.h.WritePacketData(want))
			if !complete {
				copy(want[6:], address[:])
			}
			assert.Equal(t, want, sent)
			require.NoError(t, w.h.Close())
			assert.ErrorIs(t, w.h.WritePacketData(want), os.ErrClosed)
		})
	}
}

func TestStats(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, t.Context(), bpf.Config{Mode: mode, BufferSize: 4096})
		for n := range uint32(1000) {
			w.em0.Receive(numbered(n, 1000))
		}
		_, _, err := w.h.ReadPacketData()
		require.NoError(t, err)
		s, err := w.h.Stats()
		require.NoError(t, err)
		assert.EqualValues(t, 1000, s.Received)
		assert.NotZero(t, s.Dropped)
		assert.EqualValues(t, 1, s.Packets)
		require.NoError(t, w.h.Close())
		_, err = w.h.Stats()
		assert.ErrorIs(t, err, os.ErrClosed)
	})
}

// Any goroutine may call the other methods while one reads. The race detector looks on.
func TestOthersMayCallTheRest(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		const count = 500
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newCapture(t, ctx, bpf.Config{Mode: mode, Immediate: true})
		var others sync.WaitGroup
		for _, call := range []func() error{
			w.h.Err,
			func() error { _, err := w.h.Stats(); return err },
			func() error { return w.h.WritePacketData(numbered(count, 60)) },
			func() error { w.em0.Receive(numbered(0, 60)); return nil },
			func() error { return w.h.SetBPFFilter("len > 0") },
			func() error { return w.h.SetBPF(nil) },
		} {
			others.Go(func() {
				for range count {
					assert.NoError(t, call())
					time.Sleep(time.Millisecond) // in the time of the bubble
				}
			})
		}
		go func() {
			others.Wait()
			w.h.Close()
			cancel()
		}()
		packets := 0
		for p := range sources["zero-copy PacketSource"](w.h).Packets() {
			assert.Contains(t, []uint32{0, count}, number(p.Data()))
			packets++
		}
		assert.NotZero(t, packets)
		assert.ErrorIs(t, w.h.Err(), os.ErrClosed)
	})
}
