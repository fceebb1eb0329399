package lab

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// Model returns a model of a kernel. It is FreeBSD 12.1 unless opts say otherwise. Zero-copy is
// enabled, and the clock ticks 100 times a second, as in most guests.
func Model(opts ...bpftest.Option) World {
	opts = append([]bpftest.Option{
		bpftest.WithSysctl("net.bpf.zerocopy_enable", 1),
		bpftest.WithHZ(100),
	}, opts...)
	k := bpftest.New(opts...)
	k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback())
	return &model{Kernel: k}
}

type model struct {
	*bpftest.Kernel
	pairs, tunnels atomic.Int32
}

func (*model) Name() string { return "model" }

func (m *model) Open() (zbuf.Backend, error) { return m.Kernel.Open() }

func (m *model) OpenMode(flags int) (Desc, error) {
	d, err := m.Kernel.OpenMode(flags)
	if err != nil {
		return nil, err
	}
	return modelDesc{d}, nil
}

type modelDesc struct{ *bpftest.Descriptor }

func (d modelDesc) Watch(filters ...int16) (Queue, error) {
	q, err := d.Descriptor.Watch(filters...)
	if err != nil {
		return nil, err
	}
	return q, nil
}

func (m *model) NewPair() (*Pair, error) {
	n := m.pairs.Add(1) - 1
	p := &Pair{World: m, A: fmt.Sprintf("epair%da", n), B: fmt.Sprintf("epair%db", n)}
	bpftest.Pair(m.AddInterface(p.A, zbuf.DLT_EN10MB), m.AddInterface(p.B, zbuf.DLT_EN10MB))
	if err := p.Watch(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (m *model) NewTunnel() (string, func() error, error) {
	name := fmt.Sprintf("tun%d", m.tunnels.Add(1)-1)
	i := m.AddInterface(name, zbuf.DLT_NULL)
	return name, func() error { i.Remove(); return nil }, nil
}

func (m *model) iface(name string) (*bpftest.Interface, error) {
	if i := m.Interface(name); i != nil {
		return i, nil
	}
	return nil, fmt.Errorf("interface %s: %w", name, syscall.ENXIO)
}

func (m *model) Destroy(ifname string) error {
	i, err := m.iface(ifname)
	if err != nil {
		return err
	}
	if peer := i.Peer(); peer != nil && strings.HasPrefix(peer.Name(), "epair") {
		defer m.RemoveInterface(peer.Name())
	}
	m.RemoveInterface(ifname)
	return nil
}

func (m *model) Rename(ifname, to string) error {
	i, err := m.iface(ifname)
	if err == nil {
		i.Rename(to)
	}
	return err
}

func (m *model) SetUp(ifname string, up bool) error {
	i, err := m.iface(ifname)
	if err == nil {
		i.SetUp(up)
	}
	return err
}

func (m *model) SetMTU(ifname string, mtu int) error {
	i, err := m.iface(ifname)
	if err == nil {
		i.SetMTU(mtu)
	}
	return err
}

func (m *model) Leave(ifname string) (func() error, error) {
	i, err := m.iface(ifname)
	if err != nil {
		return nil, err
	}
	i.MoveAway()
	return func() error { i.MoveBack(); return nil }, nil
}

func (m *model) Sysctl(name string) (int, error) {
	v, err := m.Kernel.Sysctl(name)
	return int(v), err
}

func (m *model) Tunable(string) (string, error) { return "", nil }

func (m *model) SetSysctl(name string, v int) error { return m.Kernel.SetSysctl(name, int32(v)) }

func (m *model) Stats(p []byte) (int, error) { return m.ReadSysctl("net.bpf.stats", p) }

func (m *model) Listeners() ([]zbuf.XbpfD, error) { return m.Kernel.Stats(), nil }

func (m *model) SetStats(p []byte) error { return m.WriteSysctl("net.bpf.stats", p) }
