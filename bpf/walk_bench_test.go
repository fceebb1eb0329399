//go:build unix

package bpf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
)

// BenchmarkWalk compares the walk with loops in C. All go over the same memory, in turns of two
// milliseconds. So what else the machine does meets all of them. The figures are of the fastest
// stretch.
//
// ratio-to-C is to the best of the C loops that call a function for each packet. body-C is the best
// of those that call nothing.
//
// Buffers of 128x2048K do not fit into a cache. The packets of mix have random sizes.
func BenchmarkWalk(b *testing.B) {
	programs := yardsticks(b)
	sayOnce.Do(func() { programs.introduce(b) })
	for _, m := range []struct{ n, size int }{
		{1, 32 << 10}, {1, 512 << 10}, {1, 2 << 20}, {128, 2 << 20},
	} {
		buffer := fmt.Sprintf("%dK", m.size>>10)
		if m.n > 1 {
			buffer = fmt.Sprintf("%dx%s", m.n, buffer)
		}
		for _, packet := range []string{"64", "128", "512", "1500", mix} {
			b.Run("buffer="+buffer+"/packet="+packet, func(b *testing.B) {
				s := newSlots(b, m.n, m.size, packet)
				loops := []loop{{"range", s.turns(walkRange)}, {"cursor", s.turns(walkCursor)}}
				for _, p := range programs.all {
					c := p.start(b, s)
					loops = append(loops, loop{p.name, c.turns("call")}, loop{bodyC, c.turns("body")})
				}
				compare(b, loops)
			})
		}
	}
}

// bodyC is the name of the loops in C that call nothing.
const bodyC = "body-C"

// groups is into how many groups the turns are divided. How much their figures differ says how far
// a figure may be off.
const groups = 5

func compare(b *testing.B, loops []loop) {
	b.Helper()
	best := [groups]map[string]float64{}
	turns, at := 0, 0
	for b.Loop() {
		group := &best[turns%groups]
		if *group == nil {
			*group = map[string]float64{}
		}
		for _, l := range loops {
			var ns float64
			ns, at = l.turn(at)
			keepLeast(*group, l.name, ns)
		}
		turns++
	}
	all := map[string]float64{}
	var sum, squares float64
	for _, group := range best {
		for name, ns := range group {
			keepLeast(all, name, ns)
		}
		if turns >= groups {
			ratio := group["range"] / bestC(group)
			sum, squares = sum+ratio, squares+ratio*ratio
		}
	}
	b.ReportMetric(all["range"]/bestC(all), "ratio-to-C")
	b.ReportMetric(all["cursor"]/bestC(all), "cursor-ratio-to-C")
	b.ReportMetric(all["range"]/all[bodyC], "ratio-to-body-C")
	if turns >= groups {
		variance := max(squares-sum*sum/groups, 0) / (groups - 1)
		b.ReportMetric(math.Sqrt(variance/groups), "ratio-error")
	}
	for name, ns := range all {
		b.ReportMetric(ns, name+"-ns/packet")
	}
	b.ReportMetric(0, "ns/op")
}

func keepLeast(m map[string]float64, name string, ns float64) {
	if old, ok := m[name]; !ok || ns < old {
		m[name] = ns
	}
}

// bestC returns the time of the best loop in C that calls a function.
func bestC(ns map[string]float64) float64 {
	best := math.Inf(1)
	for name, v := range ns {
		if strings.Contains(name, "-O") {
			best = min(best, v)
		}
	}
	return best
}

// A loop goes over buffers for a turn, from number at on. It returns the time per packet of the
// fastest stretch, and which buffer is next.
type loop struct {
	name string
	turn func(at int) (ns float64, next int)
}

// These are as in walk.c: how long a turn is, how many packets a stretch has at least, and where
// the records of a slot begin.
const (
	turn    = 2 * time.Millisecond
	stretch = 16384
	head    = 4096
)

// slots are buffers in a file, as walk.c reads them.
type slots struct {
	file    string
	size    int // of a slot: head, and the buffer
	buffers [][]byte
}

func newSlots(tb testing.TB, n, size int, packet string) *slots {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "slots"))
	require.NoError(tb, err)
	defer f.Close()
	s := &slots{file: f.Name(), size: head + size}
	next := sizes(packet)
	for range n {
		slot := make([]byte, head, s.size)
		buf := packets(size, next)
		binary.NativeEndian.PutUint64(slot, uint64(len(buf)))
		_, err := f.Write(append(slot, buf...)[:s.size])
		require.NoError(tb, err)
		s.buffers = append(s.buffers, buf)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, n*s.size, unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, unix.Munmap(mem)) })
	for i, buf := range s.buffers {
		at := i*s.size + head
		s.buffers[i] = mem[at : at+len(buf)]
	}
	return s
}

func (s *slots) turns(walk func(Lease, *sum)) func(int) (float64, int) {
	r := &Reader{}
	return func(at int) (float64, int) {
		best := math.Inf(1)
		for start := time.Now(); time.Since(start) < turn; {
			var done sum
			begin := time.Now()
			for ; done.packets < stretch; at++ {
				walk(Lease{r: r, buf: s.buffers[at%len(s.buffers)]}, &done)
			}
			best = min(best, float64(time.Since(begin).Nanoseconds())/float64(done.packets))
		}
		return best, at % len(s.buffers)
	}
}

// mix is the name of packets of which half have 64 bytes, and the others a random size up to 1500.
const mix = "mix"

// sizes returns a function that returns the size of one packet after the other.
func sizes(packet string) func() int {
	if n, err := strconv.Atoi(packet); err == nil {
		return func() int { return n }
	}
	x := uint32(1)
	return func() int {
		x = x*1664525 + 1013904223
		if x>>31 == 0 {
			return 64
		}
		return 64 + int(x>>8)%(1500-64+1)
	}
}

// packets returns as many packets as a lent buffer of size bytes holds.
func packets(size int, next func() int) (buf []byte) {
	data := make([]byte, 1500)
	for i := range data {
		data[i] = 1
	}
	for {
		n := next()
		more := appendRecord(buf, data[:n], n, 1, 1, 26)
		if len(more) > size-32 {
			return buf
		}
		buf = more
	}
}

// A yardstick is walk.c as one compiler made it.
type yardstick struct{ name, bin string }

type yardstickSet struct {
	all       []yardstick
	compilers []string
}

// yardsticks builds walk.c with each compiler that is there.
func yardsticks(tb testing.TB) (s yardstickSet) {
	tb.Helper()
	for _, cc := range []struct {
		name, version string
		flags         [][]string
	}{
		// gcc 12 makes a slow loop, because it copies two lengths of the header by a vector.
		{"gcc", "-dumpfullversion", [][]string{{"-O2"}, {"-O3"}, {"-O2", "-fno-tree-slp-vectorize"}}},
		{"clang", "-dumpversion", [][]string{{"-O2"}, {"-O3"}}},
	} {
		path, err := exec.LookPath(cc.name)
		if err != nil {
			s.compilers = append(s.compilers, "no "+cc.name)
			continue
		}
		version, err := exec.Command(path, cc.version).Output()
		require.NoError(tb, err)
		s.compilers = append(s.compilers, cc.name+" "+strings.TrimSpace(string(version)))
		for _, flags := range cc.flags {
			y := yardstick{cc.name + strings.Join(flags, ""), filepath.Join(tb.TempDir(), "walk")}
			args := append(slices.Clone(flags), "-Wall", fmt.Sprintf("-DALIGNMENT=%d", zbuf.Alignment),
				"-o", y.bin, "testdata/walk.c")
			out, err := exec.Command(path, args...).CombinedOutput()
			require.NoError(tb, err, "%s", out)
			s.all = append(s.all, y)
		}
	}
	if len(s.all) == 0 {
		tb.Skip("neither gcc nor clang is there to build the yardstick with")
	}
	return s
}

var sayOnce sync.Once

// introduce says which processor this is, and which compilers made the yardsticks.
func (s yardstickSet) introduce(tb testing.TB) {
	tb.Helper()
	name, err := exec.Command(s.all[0].bin, "processor").Output()
	require.NoError(tb, err)
	fmt.Printf("processor: %s\ncompilers: %s\n", strings.TrimSpace(string(name)),
		strings.Join(s.compilers, ", "))
}

// A running yardstick answers questions.
type running struct {
	tb  testing.TB
	in  io.Writer
	out io.Reader
}

// start runs the yardstick until the test ends.
func (y yardstick) start(tb testing.TB, s *slots) *running {
	tb.Helper()
	cmd := exec.Command(y.bin, s.file, strconv.Itoa(s.size))
	in, err := cmd.StdinPipe()
	require.NoError(tb, err)
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	tb.Cleanup(func() {
		in.Close()
		require.NoError(tb, cmd.Wait(), y.name)
	})
	return &running{tb, in, bufio.NewReader(out)}
}

func (r *running) ask(answer []any, question ...any) {
	_, err := fmt.Fprintln(r.in, question...)
	require.NoError(r.tb, err)
	_, err = fmt.Fscan(r.out, answer...)
	require.NoError(r.tb, err)
}

// turns returns the turn of one of the two loops.
func (r *running) turns(which string) func(int) (float64, int) {
	return func(at int) (ns float64, next int) {
		r.ask([]any{&ns, &next}, which, at)
		return ns, next
	}
}

// All loops of BenchmarkWalk come to the same sums.
func TestYardsticksDoTheSameWork(t *testing.T) {
	programs := yardsticks(t)
	s := newSlots(t, 3, 32<<10, mix)
	var byRange, byCursor sum
	for _, buf := range s.buffers {
		walkRange(Lease{r: &Reader{}, buf: buf}, &byRange)
		walkCursor(Lease{r: &Reader{}, buf: buf}, &byCursor)
	}
	require.NotZero(t, byRange.packets)
	assert.Equal(t, byRange, byCursor)
	for _, p := range programs.all {
		r := p.start(t, s)
		for _, which := range []string{"sum-call", "sum-body"} {
			var got sum
			r.ask([]any{&got.packets, &got.bytes, &got.first}, which, 0)
			assert.Equal(t, byRange, got, "%s, %s", p.name, which)
		}
	}
}
