// Package scenario has models of machines in which something goes on, for trying bpfctl and for
// its tests on any system.
package scenario

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/machine"
)

// A scenario is a model of a machine in which something goes on.
type scenario struct {
	name, about string
	options     []bpftest.Option
	traffic     func(ctx context.Context, k *bpftest.Kernel, em0 *bpftest.Interface)
	actors      []actor // other programs that listen
}

var scenarios = []scenario{
	{
		name: "steady", about: "em0 sees 1000 packets a second, from 64 to 1514 bytes",
		options: allowed, traffic: steady,
	},
	{
		name: "refused", about: "the same, and zero-copy is switched off",
		traffic: steady,
	},
	{
		name: "overload", about: "em0 sees packets faster than anybody could take them",
		options: allowed, traffic: overload,
	},
	{
		name: "finite", about: "em0 sees 1000 packets of 64 bytes, then nothing",
		options: allowed, traffic: finite,
	},
	{
		name: "unplugged", about: "em0 sees 1000 packets of 64 bytes, then it is destroyed",
		options: allowed,
		traffic: func(ctx context.Context, k *bpftest.Kernel, em0 *bpftest.Interface) {
			finite(ctx, k, em0)
			k.RemoveInterface("em0")
		},
	},
	{
		name: "quiet", about: "nothing happens on em0",
		options: allowed, traffic: nothing,
	},
	{
		name:    "listeners",
		about:   "the same as steady, and three other programs listen, one of them too slow",
		options: allowed, traffic: steady, actors: actors,
	},
	{
		name: "lan", about: "em0 sees a host that joins a network and opens a web page",
		options: allowed, traffic: lan,
	},
	{
		name: "down", about: "em0 is down",
		options: allowed, traffic: nothing,
	},
	{
		name: "denied", about: "a user without root's rights, who can't open /dev/bpf either",
		options: []bpftest.Option{bpftest.WithUnprivileged(), bpftest.WithFault(func(op string) error {
			if op == "open" {
				return syscall.EACCES
			}
			return nil
		})},
		traffic: nothing,
	},
}

var allowed = []bpftest.Option{bpftest.WithSysctl("net.bpf.zerocopy_enable", 1)}

// Names returns the names of all scenarios.
func Names() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// List returns a line for each scenario that says what goes on in it.
func List() string {
	var b strings.Builder
	for _, s := range scenarios {
		b.WriteString("  " + s.name + strings.Repeat(" ", 11-len(s.name)) + s.about + "\n")
	}
	return b.String()
}

func nothing(context.Context, *bpftest.Kernel, *bpftest.Interface) {}

// New makes the machine of a scenario. What goes on in it begins when a program listens on em0.
func New(name string) (*machine.Machine, error) {
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no scenario %q: --model takes one of %s",
			name, strings.Join(Names(), ", "))
	}
	s := scenarios[i]
	var once sync.Once
	listening := make(chan struct{})
	k := bpftest.New(append(slices.Clone(s.options), bpftest.WithTrace(func(op string) {
		if op == "wait" || op == "read" { // attached, and set up
			once.Do(func() { close(listening) })
		}
	}))...)
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	em0.SetUp(name != "down")
	k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback())
	ctx, cancel := context.WithCancel(context.Background())
	var going sync.WaitGroup
	stop := func() { cancel(); going.Wait() }
	for _, a := range s.actors {
		if err := a.begin(ctx, k, &going); err != nil {
			stop()
			return nil, err
		}
	}
	going.Go(func() {
		select {
		case <-listening:
			s.traffic(ctx, k, em0)
		case <-ctx.Done():
		}
	})
	return &machine.Machine{
		BPF: k, Sysctl: sysctls(k, s.actors), Stop: stop,
		Interfaces: func() ([]machine.Interface, error) {
			return []machine.Interface{
				{Name: "em0", Up: name != "down", MTU: 1500}, {Name: "lo0", Up: true, MTU: 16384},
			}, nil
		},
	}, nil
}

// Frame returns an Ethernet frame of n bytes with a number in it.
func Frame(n int, number uint32) []byte {
	f := make([]byte, n)
	copy(f, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5") // local experimental ethertype
	binary.BigEndian.PutUint32(f[14:], number)
	return f
}

func steady(ctx context.Context, _ *bpftest.Kernel, em0 *bpftest.Interface) {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for n := uint32(0); ; {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		for range 10 {
			em0.Inject(bpftest.Packet{Data: Frame(64+int(n*97%1451), n), Out: n%2 == 1})
			n++
		}
	}
}

func overload(ctx context.Context, _ *bpftest.Kernel, em0 *bpftest.Interface) {
	f := Frame(1514, 0)
	for ctx.Err() == nil {
		em0.Receive(f)
	}
}

func finite(ctx context.Context, _ *bpftest.Kernel, em0 *bpftest.Interface) {
	for n := range uint32(1000) {
		if em0.InjectWait(ctx, bpftest.Packet{Data: Frame(64, n), Out: n%2 == 1}) != nil {
			return
		}
	}
}
