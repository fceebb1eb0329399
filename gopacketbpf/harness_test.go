package gopacketbpf_test

import (
	"context"
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/gopacket/gopacket"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/gopacketbpf"
)

// capture is a Handle of a reader on an interface of the model.
type capture struct {
	k   *bpftest.Kernel
	em0 *bpftest.Interface
	r   *bpf.Reader
	h   *gopacketbpf.Handle
}

func newCapture(t testing.TB, ctx context.Context, cfg bpf.Config) *capture {
	t.Helper()
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	w := &capture{k: k, em0: k.AddInterface("em0", zbuf.DLT_EN10MB)}
	cfg.System = k
	w.open(t, ctx, cfg)
	return w
}

func (w *capture) open(t testing.TB, ctx context.Context, cfg bpf.Config) {
	t.Helper()
	r, err := bpf.Open("em0", cfg)
	require.NoError(t, err)
	w.r, w.h = r, gopacketbpf.New(ctx, r)
	t.Cleanup(func() { w.h.Close() })
}

// numbered is a frame that carries n.
func numbered(n uint32, length int) []byte {
	p := make([]byte, max(length, 60))
	p[12], p[13] = 0x88, 0xb5
	binary.BigEndian.PutUint32(p[14:], n)
	for i := 18; i < len(p); i++ {
		p[i] = byte(n) + byte(i)
	}
	return p
}

func number(p []byte) uint32 { return binary.BigEndian.Uint32(p[14:]) }

// ipv4 is a packet without a payload.
var ipv4 = []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}

// modes runs f in both buffer modes, each in a bubble where time passes only while everybody waits.
func modes(t *testing.T, f func(t *testing.T, mode bpf.Mode)) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, mode) })
		})
	}
}

// readings are the reading methods.
var readings = []struct {
	name string
	read func(h *gopacketbpf.Handle) ([]byte, gopacket.CaptureInfo, error)
}{
	{"ReadPacketData", (*gopacketbpf.Handle).ReadPacketData},
	{"ZeroCopyReadPacketData", (*gopacketbpf.Handle).ZeroCopyReadPacketData},
	{"ReadPacketDataTo", func(h *gopacketbpf.Handle) ([]byte, gopacket.CaptureInfo, error) {
		buf := make([]byte, 2048)
		ci, err := h.ReadPacketDataTo(buf)
		return buf[:ci.CaptureLength], ci, err
	}},
}

// sources are the two kinds of gopacket.PacketSource.
var sources = map[string]func(h *gopacketbpf.Handle) *gopacket.PacketSource{
	"PacketSource": func(h *gopacketbpf.Handle) *gopacket.PacketSource {
		return gopacket.NewPacketSource(h, h.LinkType())
	},
	"zero-copy PacketSource": func(h *gopacketbpf.Handle) *gopacket.PacketSource {
		return gopacket.NewZeroCopyPacketSource(h, h.LinkType())
	},
}
