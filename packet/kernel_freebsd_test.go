package packet_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/packet"
)

// kernelWire is a pair of interfaces of the running kernel.
func kernelWire(t testing.TB, w lab.World, mode bpf.Mode) *wire {
	p := lab.NewPair(t, w)
	made := &wire{sys: w, listeners: w.Listeners, mode: mode}
	for i, name := range []string{p.A, p.B} {
		var err error
		made.ifi[i], err = net.InterfaceByName(name)
		require.NoError(t, err)
	}
	return made
}

// onKernel runs f on the running kernel, in each buffer mode that it has.
func onKernel(t *testing.T, f func(t *testing.T, w lab.World, mode bpf.Mode)) {
	w := lab.OnKernel(t)
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			if mode == bpf.ZeroCopy {
				lab.WantZeroCopy(t, w)
			}
			f(t, w, mode)
		})
	}
}

func TestKernelPacketConn(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		conforms(t, func(t *testing.T) *wire { return kernelWire(t, w, mode) })
	})
}

// What decides between zero-copy and read(2): how soon a question has its answer.
func BenchmarkKernelRoundTrip(b *testing.B) {
	w := lab.OnKernel(b)
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		b.Run(mode.String(), func(b *testing.B) {
			if mode == bpf.ZeroCopy {
				lab.WantZeroCopy(b, w)
			}
			here, there := kernelWire(b, w, mode).ends(b, packet.Datagram)
			go echo(there)
			payload := numbered(1, 300) // about what DHCP sends
			for b.Loop() {
				requireRoundTrip(b, here, number(payload))
			}
		})
	}
}
