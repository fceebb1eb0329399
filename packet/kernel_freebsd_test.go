package packet_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/route"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/packet"
)

// kernelWire is a pair of interfaces of the running kernel.
func kernelWire(t testing.TB, w lab.World, mode bpf.Mode) *wire {
	return wireOf(t, lab.NewPair(t, w), mode)
}

func wireOf(t testing.TB, p *lab.Pair, mode bpf.Mode) *wire {
	made := &wire{sys: p.World, listeners: p.World.Listeners, mode: mode, brief: testing.Short()}
	for i, name := range []string{p.A, p.B} {
		var err error
		made.ifi[i], err = net.InterfaceByName(name)
		require.NoError(t, err)
	}
	made.groups = func(at int) ([]net.HardwareAddr, error) { return groupsOf(made.ifi[at].Index) }
	return made
}

// groupsOf returns the Ethernet multicast addresses of an interface.
func groupsOf(index int) (list []net.HardwareAddr, err error) {
	rib, err := route.FetchRIB(unix.AF_UNSPEC, unix.NET_RT_IFMALIST, index)
	if err != nil {
		return nil, err
	}
	messages, err := route.ParseRIB(unix.NET_RT_IFMALIST, rib)
	for _, m := range messages {
		m, ok := m.(*route.InterfaceMulticastAddrMessage)
		if !ok || m.Index != index {
			continue
		}
		if a, ok := m.Addrs[unix.RTAX_IFA].(*route.LinkAddr); ok {
			list = append(list, a.Addr)
		}
	}
	return list, err
}

// share returns what lends the wire to one test after the other. It waits after each until what is
// on the way has arrived. So nothing of one test comes in the next one, and a pair of interfaces,
// which takes the kernel long to make and to destroy, is made once.
func (w *wire) share(t *testing.T) func(t *testing.T) *wire {
	const fence = 0x88b6
	var ends [2]*end
	for at := range ends {
		ends[at] = w.listen(t, at, packet.Raw, fence, packet.Config{
			Filter: atLeast(t, packet.Raw, fenceMark, 4)})
	}
	return func(t *testing.T) *wire {
		t.Cleanup(func() { // the Conns of the test are closed now
			for at, e := range ends {
				require.NoError(t, e.sendAs(fence, numbered(fenceMark, 0)))
				other := ends[1-at]
				require.NoError(t, other.SetReadDeadline(time.Now().Add(lab.Patience)))
				_, _, err := other.receive()
				require.NoError(t, err, "a frame behind all others does not arrive")
			}
		})
		return w
	}
}

// fenceMark is more than any number of a test's frame.
const fenceMark = 1 << 30

// onKernel runs f on the running kernel, in each buffer mode that it has.
func onKernel(t *testing.T, f func(t *testing.T, w lab.World, mode bpf.Mode)) {
	lab.InModes(t, bpf.ZeroCopy, bpf.Buffered, f)
}

func TestKernelPacketConn(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		conforms(t, kernelWire(t, w, mode).share(t))
	})
}

// A group that IPv4 has joined is another entry of the kernel's list, and stays.
func TestKernelGroupOfIPv4IsLeftToIt(t *testing.T) {
	w := lab.OnKernel(t)
	p := lab.NewPair(t, w)
	require.NoError(t, lab.AddAddress(p.A, netip.MustParsePrefix("192.0.2.1/24")))
	made := wireOf(t, p, bpf.Buffered)
	allHosts := net.HardwareAddr{0x01, 0, 0x5e, 0, 0, 1}
	entries := func() (n int) {
		list, err := made.groups(0)
		require.NoError(t, err)
		for _, g := range list {
			if g.String() == allHosts.String() {
				n++
			}
		}
		return n
	}
	require.Equal(t, 1, entries(), "IPv4 joins the group of all hosts")
	a, _ := made.ends(t, packet.Raw)
	require.NoError(t, a.JoinGroup(allHosts))
	require.Equal(t, 2, entries())
	require.NoError(t, a.LeaveGroup(allHosts))
	require.Equal(t, 1, entries())
	require.NoError(t, a.LeaveGroup(allHosts))
	require.Equal(t, 1, entries())
}

func TestKernelGroupsEndWithTheInterface(t *testing.T) {
	w := lab.OnKernel(t)
	p := lab.NewPair(t, w)
	groupsEndWithTheInterface(t, wireOf(t, p, bpf.Buffered), func() *wire {
		require.NoError(t, w.Destroy(p.A))
		return kernelWire(t, w, bpf.Buffered)
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
