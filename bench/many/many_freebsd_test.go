package many

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bench/internal/child"
	"github.com/zbuf-go/zbuf/bench/internal/cputime"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

const (
	interfaces = 100
	rounds     = 4
	bufferSize = 4096 // a page: the smallest that can be lent
)

// variable passes the spec to the process of the readers.
const variable = "ZBUF_MANY"

type spec struct {
	Readers    int
	Mode       bpf.Mode
	Interfaces []string // reader i is on i modulo their number
	Idle       time.Duration
	Files      int64 // the most files that the process may have open, if not 0
	Locked     int64 // the most bytes that mlock(2) may lock, if not 0
}

// figures are of the readers while no packet comes.
type figures struct {
	Open                       time.Duration // of all readers
	Resident, Wired            int64
	Files, Threads, Goroutines int
	Waits, Sleeps              uint64
	CPU, Elapsed               time.Duration
}

// delivery is what came out of the readers afterwards.
type delivery struct {
	Numbers [][]uint32 // of the packets of each reader
	CPU     time.Duration
	Close   time.Duration // of all readers
}

func TestMain(m *testing.M) {
	// It returns unless this is the process of the readers.
	child.Main(variable, run)
	os.Exit(m.Run())
}

// passing is the program that passes packets of a test only.
func passing() []xbpf.RawInstruction {
	prog, err := xbpf.Assemble([]xbpf.Instruction{
		xbpf.LoadAbsolute{Off: 12, Size: 2},
		xbpf.JumpIf{Cond: xbpf.JumpNotEqual, Val: 0x88b5, SkipTrue: 1},
		xbpf.RetConstant{Val: 1 << 18},
		xbpf.RetConstant{Val: 0},
	})
	if err != nil {
		panic(err)
	}
	return prog
}

// crowd is all readers of a process.
type crowd struct {
	readers []*bpf.Reader
	numbers [][]uint32
	count   atomic.Int64
	reading sync.WaitGroup
	mu      sync.Mutex
	err     error
}

func (c *crowd) read(i int) {
	for {
		l, err := c.readers[i].Lease(context.Background())
		if err == nil {
			for p := range l.Packets() {
				c.numbers[i] = append(c.numbers[i], lab.Seed(p.Data()))
				c.count.Add(1)
			}
			err = errors.Join(l.Err(), l.Release())
		}
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.err = errors.Join(c.err, fmt.Errorf("reader %d: %w", i, err))
			return
		}
	}
}

// waits returns how often all readers have gone to sleep, and the least of any reader.
func (c *crowd) waits() (all, least uint64, err error) {
	for i, r := range c.readers {
		s, err := r.Stats()
		if err != nil {
			return 0, 0, err
		}
		all += s.Waits
		if i == 0 || s.Waits < least {
			least = s.Waits
		}
	}
	return all, least, nil
}

// limit sets the limits of this process.
func (s spec) limit() error {
	for resource, n := range map[int]int64{
		unix.RLIMIT_NOFILE: s.Files, unix.RLIMIT_MEMLOCK: s.Locked,
	} {
		if n == 0 {
			continue
		}
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	if s.Locked == 0 {
		return nil
	}
	if err := unix.Mlock(make([]byte, 2*s.Locked)); err == nil {
		return errors.New("mlock(2) locks more than the limit")
	}
	return nil
}

func run(s spec) error {
	if err := s.limit(); err != nil {
		return err
	}
	time.Sleep(time.Millisecond) // now Go has its kqueue
	var f figures
	files, wired, err := before()
	if err != nil {
		return err
	}
	c := crowd{numbers: make([][]uint32, s.Readers)}
	cfg := bpf.Config{Mode: s.Mode, BufferSize: bufferSize, Filter: passing()}
	begin := time.Now()
	for i := range s.Readers {
		r, err := bpf.Open(s.Interfaces[i%len(s.Interfaces)], cfg)
		if err != nil {
			return fmt.Errorf("reader %d: %w", i, err)
		}
		c.readers = append(c.readers, r)
	}
	f.Open = time.Since(begin)
	for i := range c.readers {
		c.reading.Go(func() { c.read(i) })
	}
	// All of them have waited once and looked at their interfaces.
	err = lab.Until(func() (bool, error) {
		_, least, err := c.waits()
		return least >= 2 || s.Readers == 0, err
	})
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // otherwise it goes on in the background for seconds
	if err := c.idle(s.Idle, &f); err != nil {
		return err
	}
	nowFiles, nowWired, err := before()
	if err != nil {
		return err
	}
	f.Files, f.Wired = nowFiles-files, nowWired-wired
	out := json.NewEncoder(os.Stdout)
	used := cputime.Process()
	if err := out.Encode(f); err != nil {
		return err
	}
	got := delivery{Numbers: c.numbers}
	// If packets are missing, the test says which.
	short := lab.Until(func() (bool, error) { return c.count.Load() == int64(rounds*s.Readers), nil })
	got.CPU = cputime.Process() - used
	begin = time.Now()
	for _, r := range c.readers {
		if err := r.Close(); err != nil {
			return err
		}
	}
	got.Close = time.Since(begin)
	c.reading.Wait()
	if c.err != nil {
		return c.err
	}
	if short != nil {
		fmt.Fprintf(os.Stderr, "%d packets of %d: %v\n", c.count.Load(), rounds*s.Readers, short)
	}
	return out.Encode(got)
}

// idle measures while nothing happens for a time.
func (c *crowd) idle(d time.Duration, f *figures) error {
	waits, _, err := c.waits()
	if err != nil {
		return err
	}
	var first, last unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &first); err != nil {
		return err
	}
	begin, used := time.Now(), cputime.Process()
	time.Sleep(d) // the measurement takes this time
	f.CPU, f.Elapsed = cputime.Process()-used, time.Since(begin)
	if err := unix.Getrusage(unix.RUSAGE_SELF, &last); err != nil {
		return err
	}
	f.Sleeps = uint64(last.Nvcsw - first.Nvcsw)
	now, _, err := c.waits()
	if err != nil {
		return err
	}
	f.Waits, f.Goroutines = now-waits, runtime.NumGoroutine()
	list, err := lab.Processes("kern.proc.pid", os.Getpid())
	if err != nil {
		return err
	}
	f.Threads, f.Resident = list[0].Threads(), list[0].Resident()
	return nil
}

// before returns the number of open files, and the bytes that the kernel has wired.
func before() (files int, wired int64, err error) {
	if wired, err = lab.Wired(); err != nil {
		return 0, 0, err
	}
	for fd := range 8192 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			files++
		}
	}
	return files, wired, nil
}

// start runs the readers. It calls send when all of them wait.
func start(t *testing.T, s spec, send func()) (f figures, d delivery) {
	t.Helper()
	f, d, said, err := try(t, s, send)
	require.NoError(t, err, "%s", said)
	return f, d
}

// try is start where the process may fail. said is what it wrote to standard error.
func try(t *testing.T, s spec, send func()) (f figures, d delivery, said string, err error) {
	t.Helper()
	cmd, err := child.Command(variable, s)
	require.NoError(t, err)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out := json.NewDecoder(bufio.NewReader(pipe))
	err = out.Decode(&f)
	if err == nil {
		send()
		err = out.Decode(&d)
	}
	io.Copy(io.Discard, pipe)
	err = errors.Join(err, cmd.Wait())
	return f, d, errs.String(), err
}

// send sends a packet to each of n vlans, so many times. The packets have numbers from first on. It
// returns the next number.
func send(t *testing.T, p *lab.Pair, n int, first uint32) uint32 {
	t.Helper()
	for range rounds {
		var frames [][]byte
		for i := range n {
			frames = append(frames, lab.Tagged(uint16(i+1), lab.Frame(64, first)))
			first++
		}
		p.Inject(t, frames...)
	}
	return first
}

// row returns a row of the table.
func row(s spec, f figures, d delivery) string {
	each := func(all time.Duration) string {
		if s.Readers == 0 {
			return "–"
		}
		return fmt.Sprint((all / time.Duration(s.Readers)).Microseconds())
	}
	packet, mode := "–", "–"
	if s.Readers > 0 {
		packet = fmt.Sprint((d.CPU / time.Duration(rounds*s.Readers)).Microseconds())
		mode = s.Mode.String()
	}
	return fmt.Sprintf("| %d | %s | %d | %s | %s | %d | %d | %d | %d | %.1f | %.1f | %.0f | %s |",
		s.Readers, mode, min(s.Readers, len(s.Interfaces)), each(f.Open), each(d.Close),
		f.Resident>>10, f.Wired>>10, f.Files, f.Threads, float64(f.Waits)/f.Elapsed.Seconds(),
		float64(f.Sleeps)/f.Elapsed.Seconds(),
		float64(f.CPU.Microseconds())/f.Elapsed.Seconds(), packet)
}

// Every reader delivers the packets of its interface. Where a waiting reader occupies no thread,
// the number of threads does not grow with that of readers. The rest is a measurement: its rows go
// to standard output.
func TestMany(t *testing.T) {
	w := lab.OnKernel(t)
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	idle := 10 * time.Second
	if testing.Short() {
		idle = time.Second
	}
	p := lab.NewPair(t, w)
	vlans := lab.NewVLANs(t, w, p, interfaces)
	release, err := unix.Sysctl("kern.osrelease")
	require.NoError(t, err)
	model, err := unix.Sysctl("hw.model")
	require.NoError(t, err)
	fmt.Printf("| readers | mode | interfaces | open, µs | close, µs | resident, KiB | wired, KiB | "+
		"files | threads | wake-ups/s | sleeps/s | idle CPU, µs/s | packet CPU, µs |\n"+
		"| ---: | --- |%s\n| FreeBSD %s, %s, %s |%s\n", strings.Repeat(" ---: |", 11), release,
		model, runtime.Version(), strings.Repeat(" |", 12))
	number, base, polled := uint32(0), 0, polled(t)
	for _, n := range []int{0, 1, 100, 1000} {
		for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
			if n == 0 && mode != bpf.ZeroCopy {
				continue
			}
			first := number
			s := spec{Readers: n, Mode: mode, Interfaces: vlans, Idle: idle}
			f, d := start(t, s, func() { number = send(t, p, len(vlans), first) })
			require.Len(t, d.Numbers, n)
			for i, got := range d.Numbers {
				var want []uint32
				for round := range rounds {
					want = append(want, first+uint32(round*interfaces+i%interfaces))
				}
				require.Equal(t, want, got, "%d readers, %v: reader %d", n, mode, i)
			}
			if n == 0 {
				base = f.Threads
			}
			if polled {
				assert.LessOrEqual(t, f.Threads, base+2+runtime.NumCPU(), "%d readers, %v: threads", n,
					mode)
			}
			fmt.Println(row(s, f, d))
		}
	}
}

// These are limits that a program with many readers meets. Each reader has three descriptors. Where
// a waiting reader occupies a thread, the kernel bounds them, and Go's runtime ends the process.
func TestLimits(t *testing.T) {
	w := lab.OnKernel(t)
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	p := lab.NewPair(t, w)
	ifnames := lab.NewVLANs(t, w, p, 1)
	idle := time.Millisecond
	t.Run("files", func(t *testing.T) {
		const files, few = 64, 15
		s := spec{Readers: few, Interfaces: ifnames, Idle: idle, Files: files}
		f, d := start(t, s, func() { send(t, p, 1, 0) })
		assert.Equal(t, 3*few, f.Files)
		requireAll(t, d)
		s.Readers = files
		_, _, said, err := try(t, s, func() {})
		require.Error(t, err)
		t.Log(strings.TrimSpace(said))
		assert.Regexp(t, `reader (1[89]|2\d): .*too many open files`, said)
	})
	// The kernel wires lent buffers, and does not count them as locked memory.
	t.Run("locked memory", func(t *testing.T) {
		s := spec{Readers: 20, Mode: bpf.ZeroCopy, Interfaces: ifnames, Idle: idle,
			Locked: 2 * bufferSize}
		_, d := start(t, s, func() { send(t, p, 1, 0) })
		requireAll(t, d)
	})
	t.Run("threads", func(t *testing.T) {
		lab.SetSysctl(t, w, "kern.threads.max_threads_per_proc", 40)
		s := spec{Readers: 60, Interfaces: ifnames, Idle: idle}
		f, d, said, err := try(t, s, func() { send(t, p, 1, 0) })
		if polled(t) {
			require.NoError(t, err)
			assert.Less(t, f.Threads, 40)
			requireAll(t, d)
			return
		}
		require.Error(t, err)
		first, _, _ := strings.Cut(said, "\n")
		t.Log(first)
		assert.Contains(t, first, "failed to create new OS thread")
	})
}

// requireAll requires that each reader has the packets that were sent to one interface.
func requireAll(t *testing.T, d delivery) {
	t.Helper()
	require.NotEmpty(t, d.Numbers)
	for i, got := range d.Numbers {
		require.Equal(t, []uint32{0, 1, 2, 3}, got, "reader %d", i)
	}
}

// polled reports whether a reader waits in the poller of Go's runtime.
func polled(t *testing.T) bool {
	t.Helper()
	d, err := zbuf.Open()
	require.NoError(t, err)
	_, yes := d.Polled()
	require.NoError(t, d.Close())
	return yes
}
