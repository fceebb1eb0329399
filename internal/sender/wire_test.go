package sender

import (
	"bytes"
	"context"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// wire is a machine with two interfaces that are joined: what is sent on to arrives at from.
type wire struct {
	m        *machine.Machine
	to, from string
	memory   int // the longest packet that a write finds memory for
	setMTU   func(t *testing.T, n int)
}

// wires calls f with the model, as several releases, and with the running kernel.
func wires(t *testing.T, f func(t *testing.T, w wire)) {
	for name, features := range map[string]bpftest.Features{"model": {},
		"model with long writes": {LongWrite: true}} {
		t.Run(name, func(t *testing.T) { f(t, modelWire(features)) })
	}
	t.Run("kernel", func(t *testing.T) {
		world := lab.OnKernel(t)
		pair := lab.NewPair(t, world)
		w := wire{m: machine.Host(), to: pair.B, from: pair.A, memory: os.Getpagesize()}
		n, err := w.m.Sysctl.Int32("kern.osreldate")
		require.NoError(t, err)
		if n >= osreldateLargeCluster {
			w.memory = largeCluster
		}
		w.setMTU = func(t *testing.T, n int) {
			for _, name := range []string{pair.A, pair.B} {
				require.NoError(t, world.SetMTU(name, n))
			}
		}
		f(t, w)
	})
}

func modelWire(features bpftest.Features) wire {
	k := bpftest.New(bpftest.WithFeatures(features))
	a, b := k.AddInterface("epair0a", zbuf.DLT_EN10MB), k.AddInterface("epair0b", zbuf.DLT_EN10MB)
	bpftest.Pair(a, b)
	w := wire{to: "epair0b", from: "epair0a", memory: k.PageSize()}
	if features.LongWrite {
		w.memory = largeCluster
	}
	mtu := 1500
	w.setMTU = func(_ *testing.T, n int) {
		mtu = n
		a.SetMTU(n)
		b.SetMTU(n)
	}
	w.m = &machine.Machine{
		BPF: k, Sysctl: scenario.Sysctls(k), Stop: func() {},
		Interfaces: func() ([]machine.Interface, error) {
			return []machine.Interface{{Name: w.to, Up: true, MTU: mtu},
				{Name: w.from, Up: true, MTU: mtu}}, nil
		},
	}
	return w
}

// arrived returns the packets that arrive at an interface.
type arrived struct {
	mu      sync.Mutex
	packets [][]byte
}

func (a *arrived) all() [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.packets
}

// receive collects what arrives until the test ends.
func (w wire) receive(t *testing.T) *arrived {
	t.Helper()
	r, err := bpf.Open(w.from, bpf.Config{System: w.m.BPF, Mode: bpf.Buffered, Immediate: true,
		Direction: bpf.In})
	require.NoError(t, err)
	a := &arrived{}
	ctx, cancel := context.WithCancel(context.Background())
	var going sync.WaitGroup
	going.Go(func() {
		for {
			l, err := r.Lease(ctx)
			if err != nil {
				return
			}
			a.mu.Lock()
			for p := range l.Packets() {
				a.packets = append(a.packets, bytes.Clone(p.Data()))
			}
			a.mu.Unlock()
			l.Release()
		}
	})
	t.Cleanup(func() { cancel(); going.Wait(); r.Close() })
	return a
}

// send sends a file, directly or through a pipe, to its end.
func (w wire) send(t *testing.T, name string, pipe bool, cfg Config) *Sender {
	t.Helper()
	f := openFile(t, name, pipe)
	s, _, err := New(w.m, w.to, []*File{f}, cfg)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.NoError(t, s.Run(t.Context()))
	return s
}

func openFile(t *testing.T, name string, pipe bool) *File {
	t.Helper()
	var f *File
	var err error
	if pipe {
		content, rerr := os.ReadFile(name)
		require.NoError(t, rerr)
		r, w, perr := os.Pipe()
		require.NoError(t, perr)
		t.Cleanup(func() { r.Close() })
		go func() {
			w.Write(content)
			w.Close()
		}()
		f, err = Open(t.Context(), "-", r)
	} else {
		f, err = Open(t.Context(), name, nil)
	}
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}
