package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// kernelOptions are what a FreeBSD kernel's interfaces need.
func kernelOptions(dlt uint32) Options { return Options{LinkType: dlt, Names: systemNames()} }

// The kernel accepts the optimised program of every expression of the corpus. Compile refuses those
// that are too long for it, with the count.
func TestKernelTakesEveryProgram(t *testing.T) {
	lab.OnKernel(t)
	d, err := zbuf.Open()
	require.NoError(t, err)
	defer d.Close()
	most, err := d.MaxInstructions()
	require.NoError(t, err)
	require.Equal(t, 512, most)
	list := corpus(t, expressions(t, 500, 3000))
	for _, n := range []int{150, 165, 166, 170, 200} {
		list = append(list, question{DLTEthernet, hostsExpression(n)})
	}
	taken, long, longest := 0, 0, 0
	for _, q := range list {
		opt := kernelOptions(q.dlt)
		prog, err := Compile(q.expression, opt)
		opt.MaxInstructions = 1 << 20
		whole, errWhole := Compile(q.expression, opt)
		switch {
		case errWhole != nil:
			require.Error(t, err, "%q", q.expression)
			continue
		case len(whole) > most:
			long++
			require.ErrorContains(t, err, fmt.Sprintf("%d instructions, and the kernel takes %d",
				len(whole), most))
			require.ErrorIs(t, d.SetFilter(whole), syscall.EINVAL, "%q", q.expression)
			continue
		}
		require.NoError(t, err, "%q", q.expression)
		require.NoError(t, d.SetFilter(prog), "link type %d, %q", q.dlt, q.expression)
		taken, longest = taken+1, max(longest, len(prog))
	}
	release, err := unix.Sysctl("kern.osrelease")
	require.NoError(t, err)
	t.Logf("FreeBSD %s on %s: %d programs of up to %d instructions taken, %d longer ones refused by "+
		"both", release, runtime.GOARCH, taken, longest, long)
	require.Greater(t, taken, 400)
	require.Greater(t, longest, 450)
	require.Positive(t, long)
}

// listener is a descriptor with a program. It notes what packets the program let through.
type listener struct {
	*zbuf.Device
	question
	prog []bpf.RawInstruction
}

func listen(t *testing.T, iface string, q question, prog []bpf.RawInstruction) *listener {
	d, err := zbuf.Open()
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	_, err = d.SetBufferLen(1 << 18)
	require.NoError(t, err)
	require.NoError(t, d.SetTimestampType(zbuf.BPF_T_NANOTIME)) // struct bpf_xhdr everywhere
	require.NoError(t, d.SetFilter(prog))
	require.NoError(t, d.SetInterface(iface))
	require.NoError(t, d.SetImmediate(true))
	return &listener{d, q, prog}
}

// packets returns what the kernel has stored.
func (l *listener) packets(t *testing.T) (all []string) {
	size, err := l.BufferLen()
	require.NoError(t, err)
	buf := make([]byte, size)
	for {
		n, err := l.Read(buf)
		if errors.Is(err, syscall.EAGAIN) || err == nil && n == 0 {
			return all
		}
		require.NoError(t, err)
		for b := buf[:n]; len(b) > 0; {
			captured := int(binary.NativeEndian.Uint32(b[16:]))
			head := int(binary.NativeEndian.Uint16(b[24:]))
			all = append(all, string(b[head:head+captured]))
			next := (head + captured + zbuf.WordSize - 1) &^ (zbuf.WordSize - 1)
			b = b[min(next, len(b)):]
		}
	}
}

// asInMbuf returns a program as the kernel runs it for a packet of n bytes that came from an
// interface: a half word that is not whole in the packet is 0, and the program goes on. That is so
// for offsets that are constant.
func asInMbuf(prog []bpf.RawInstruction, n int) []bpf.RawInstruction {
	prog = slices.Clone(prog)
	for i, in := range prog {
		if in.Op == codeLd|sizeH|modeAbs && uint64(in.K)+2 > uint64(n) {
			prog[i] = bpf.RawInstruction{Op: codeLd | modeImm}
		}
	}
	return prog
}

// compare compares the kernel's verdicts with those of VM.
func (l *listener) compare(t *testing.T, sent []string) (equal, halfWords int) {
	var want []string
	for _, p := range sent {
		plain := mustVM(l.prog).Run([]byte(p), len(p)) > 0
		kernel := mustVM(asInMbuf(l.prog, len(p))).Run([]byte(p), len(p)) > 0
		if kernel {
			want = append(want, p)
		}
		if plain == kernel {
			equal++
		} else {
			halfWords++
		}
	}
	require.Equal(t, want, l.packets(t), "link type %d, %q", l.dlt, l.expression)
	stat, err := l.Stats()
	require.NoError(t, err)
	require.Zero(t, stat.Drop)
	require.EqualValues(t, len(sent), stat.Recv)
	return equal, halfWords
}

// sampleOf returns questions of the corpus for a link type, with programs.
func sampleOf(t *testing.T, dlt uint32, n int) (list []question, progs [][]bpf.RawInstruction) {
	for _, q := range corpus(t, 2000) {
		prog, err := Compile(q.expression, kernelOptions(q.dlt))
		if q.dlt == dlt && err == nil && len(list) < n {
			list, progs = append(list, q), append(progs, prog)
		}
	}
	require.Len(t, list, n)
	return list, progs
}

// made returns packets that were made for the programs, each once.
func made(
	dlt uint32, progs [][]bpf.RawInstruction, each int, good func([]byte) bool,
) (all []string) {
	rng := rand.New(rand.NewPCG(1, 2))
	g := &generator{Rand: rng, inet6: 28}
	for _, prog := range progs {
		var seeds []sample
		for range 5 {
			seeds = append(seeds, g.sample(dlt))
		}
		crafted, _ := craft(prog, seeds, 100, rng)
		rng.Shuffle(len(crafted), func(i, j int) { crafted[i], crafted[j] = crafted[j], crafted[i] })
		n := 0
		for _, s := range crafted {
			if n < each && good(s.data) && !slices.Contains(all, string(s.data)) {
				all = append(all, string(s.data))
				n++
			}
		}
	}
	return all
}

// The kernel's verdict on a packet that arrives on an epair is that of VM, but for half words
// behind the end.
func TestKernelGivesTheVerdictsOfVMOnEthernet(t *testing.T) {
	w := lab.OnKernel(t)
	pair := lab.NewPair(t, w)
	list, progs := sampleOf(t, DLTEthernet, 60)
	sent := made(DLTEthernet, progs, 12, func(p []byte) bool {
		return len(p) >= 14 && len(p) <= 1514
	})
	var listeners []*listener
	for i, q := range list {
		listeners = append(listeners, listen(t, pair.A, q, progs[i]))
	}
	var frames [][]byte
	for _, p := range sent {
		frames = append(frames, []byte(p))
	}
	pair.Inject(t, frames...)
	equal, halfWords := 0, 0
	for _, l := range listeners {
		e, h := l.compare(t, sent)
		equal, halfWords = equal+e, halfWords+h
	}
	t.Logf("%d programs, %d packets: %d verdicts as those of VM, %d other ones by a half word behind "+
		"the end", len(list), len(sent), equal, halfWords)
	require.Greater(t, equal, 10_000)
	require.Positive(t, halfWords, "a kernel without that can have the exemption taken away")
}

// The same for packets that come in through a tun, which have FreeBSD's numbers of address families
// in front.
func TestKernelGivesTheVerdictsOfVMOnATunnel(t *testing.T) {
	w := lab.OnKernel(t)
	const name = "tun7"
	tun, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	if err != nil {
		t.Skipf("NOT RUN: this kernel has no tun(4): %v", err)
	}
	defer tun.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(tun.Fd()), tunSIFHead, 1))
	require.NoError(t, w.SetUp(name, true))
	list, progs := sampleOf(t, DLTNull, 40)
	for _, e := range []string{"ip6", "ip", "not ip6"} {
		prog, err := Compile(e, kernelOptions(DLTNull))
		require.NoError(t, err)
		list, progs = append(list, question{DLTNull, e}), append(progs, prog)
	}
	sent := made(DLTNull, progs, 12, func(p []byte) bool {
		return len(p) > 24 && len(p) <= 1504 &&
			(binary.NativeEndian.Uint32(p) == 2 || binary.NativeEndian.Uint32(p) == 28)
	})
	var listeners []*listener
	for i, q := range list {
		listeners = append(listeners, listen(t, name, q, progs[i]))
	}
	inet6 := 0
	for _, p := range sent {
		b := []byte(p)
		family := binary.NativeEndian.Uint32(b)
		if family == unix.AF_INET6 {
			inet6++
		}
		binary.BigEndian.PutUint32(b, family) // what tun(4) takes
		_, err := tun.Write(b)
		require.NoError(t, err)
	}
	equal, halfWords := 0, 0
	for _, l := range listeners {
		e, h := l.compare(t, sent)
		equal, halfWords = equal+e, halfWords+h
	}
	t.Logf("%d programs, %d packets, %d of IPv6: %d verdicts as those of VM, %d other ones by a half "+
		"word behind the end", len(list), len(sent), inet6, equal, halfWords)
	require.Greater(t, equal, 5000)
	require.Positive(t, inet6)
}

const tunSIFHead = 0x80047460 // TUNSIFHEAD
