package sysctl_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

// target is a kernel, or a model of one, with an interface called lo0.
type target struct {
	name string
	tree sysctl.Tree
	bpf  zbuf.System
	// unprivileged runs f as a user without root's rights. f's failures are the test's.
	unprivileged func(t *testing.T, f func(t *testing.T, tree sysctl.Tree))
}

// long is a number as the kernel keeps a long for this process.
func long(v int64) []byte {
	if size, _ := sysctl.CTLTYPE_LONG.Integer(); size == 4 {
		return binary.NativeEndian.AppendUint32(nil, uint32(v))
	}
	return binary.NativeEndian.AppendUint64(nil, uint64(v))
}

// program returns the name that the kernel has for this process.
func program() string {
	name := filepath.Base(os.Args[0])
	return name[:min(len(name), 19)]
}

// modelTree is net.bpf of a model and, under the names they have on FreeBSD, one sysctl of each
// kind that the tests need.
func modelTree(k *bpftest.Kernel) sysctl.Tree {
	var clockinfo []byte
	for _, n := range []uint32{1000, 1000, 0, 127, 8126} {
		clockinfo = binary.NativeEndian.AppendUint32(clockinfo, n)
	}
	vars := append(sysctltest.BPF(k),
		sysctltest.Processes(func(pid int) (string, bool) { return program(), pid == os.Getpid() }),
		sysctltest.Value("kern.ostype", sysctl.CTLTYPE_STRING, sysctl.CTLFLAG_RD, "A",
			[]byte("FreeBSD\x00")),
		sysctltest.Value("kern.osreldate", sysctl.CTLTYPE_INT, sysctl.CTLFLAG_RD, "I",
			binary.NativeEndian.AppendUint32(nil, 1201000)),
		sysctltest.Value("kern.hostname", sysctl.CTLTYPE_STRING, sysctl.CTLFLAG_RW, "A",
			[]byte("model\x00")),
		sysctltest.Value("kern.maxproc", sysctl.CTLTYPE_INT, sysctl.CTLFLAG_RD|sysctl.CTLFLAG_TUN, "I",
			binary.NativeEndian.AppendUint32(nil, 1000)),
		sysctltest.Value("kern.cp_time", sysctl.CTLTYPE_LONG, sysctl.CTLFLAG_RD, "LU",
			append(append(append(append(long(1), long(2)...), long(3)...), long(4)...), long(5)...)),
		sysctltest.Value("hw.physmem", sysctl.CTLTYPE_ULONG, sysctl.CTLFLAG_RD, "LU", long(512<<20)),
		sysctltest.Value("kern.powercycle_on_panic", sysctl.CTLTYPE_U8,
			sysctl.CTLFLAG_RW|sysctl.CTLFLAG_TUN, "CU", []byte{0}),
		sysctltest.Value("kern.clockrate", sysctl.CTLTYPE_OPAQUE, sysctl.CTLFLAG_RD, "S,clockinfo",
			clockinfo),
	)
	return sysctl.New(sysctltest.New(vars...))
}

func model() target {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback())
	return target{
		name: "model", tree: modelTree(k), bpf: k,
		unprivileged: func(t *testing.T, f func(*testing.T, sysctl.Tree)) {
			f(t, modelTree(bpftest.New(bpftest.WithUnprivileged())))
		},
	}
}

// everywhere runs a rule on the model, and on the kernel where there is one.
func everywhere(t *testing.T, rule func(t *testing.T, w target)) {
	t.Helper()
	t.Run("model", func(t *testing.T) { rule(t, model()) })
	t.Run("kernel", func(t *testing.T) { rule(t, kernel(t)) })
}

// listen opens n descriptors on lo0 that go with the test.
func listen(t *testing.T, w target, n int) (all []*zbuf.Device) {
	t.Helper()
	for range n {
		d, err := zbuf.OpenOn(w.bpf)
		require.NoError(t, err)
		t.Cleanup(func() { d.Close() })
		require.NoError(t, d.SetInterface("lo0"))
		all = append(all, d)
	}
	return all
}

// between is a system in which something happens after a size was asked for.
type between struct {
	sysctl.System
	mu    sync.Mutex
	calls int // reads that had no room
	do    func()
}

func (b *between) Sysctl(mib []int32, old, new []byte) (int, error) {
	n, err := b.System.Sysctl(mib, old, new)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && old != nil {
		b.calls++
	}
	if err == nil && old == nil && new == nil && mib[0] != 0 && b.do != nil {
		b.do()
		b.do = nil
	}
	return n, err
}
