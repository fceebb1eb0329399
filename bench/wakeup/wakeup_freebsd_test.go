package wakeup

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bench/internal/child"
	"github.com/zbuf-go/zbuf/bench/internal/cputime"
	"github.com/zbuf-go/zbuf/bench/internal/ktrace"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/internal/lab"
)

const (
	warm   = 300 * time.Millisecond
	length = 10 * time.Second
	traced = 5 * time.Second
	runs   = 3
)

// The header of a record of a 64-bit kernel: a time stamp of two words, and then these.
const (
	offCaplen = 16
	offHdrlen = 24
)

var order = binary.NativeEndian

// variable passes the spec to the process of a reader.
const variable = "ZBUF_WAKEUP"

type spec struct {
	Reader, Interface string
	Share             int
}

// call is a system call of one thread.
type call struct {
	Thread        int
	Name          string
	Calls, Sleeps uint64
}

type result struct {
	seen
	CPU    time.Duration
	Traced seen
	Table  []call
	Procs  int
}

func TestMain(m *testing.M) {
	// They return unless this is a process of theirs.
	load.Main()
	child.Main(variable, func(s spec) error {
		r, err := run(s)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	})
	child.Main(causeVariable, func(s causeSpec) error {
		r, err := runCauses(s)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	})
	os.Exit(m.Run())
}

func run(s spec) (res result, err error) {
	poller, err := goPoller()
	if err != nil {
		return res, err
	}
	r, err := open(s.Reader, s.Interface, s.Share)
	if err != nil {
		return res, err
	}
	defer r.Close()
	res.Procs = runtime.GOMAXPROCS(0)
	debug.FreeOSMemory() // otherwise it goes on in the background for seconds
	if _, err := r.capture(warm); err != nil {
		return res, err
	}
	before := cputime.Process()
	if res.seen, err = r.capture(length); err != nil {
		return res, err
	}
	res.CPU = cputime.Process() - before
	t, err := ktrace.CountSleeps(func() (err error) {
		res.Traced, err = r.capture(traced)
		return err
	})
	res.Table = table(t, poller)
	return res, err
}

// goPoller returns the kqueue of Go's poller, which is the only one of this process yet.
func goPoller() (int, error) {
	time.Sleep(time.Millisecond) // now Go has its kqueue
	pollers := queues()
	if len(pollers) != 1 {
		return 0, fmt.Errorf("Go has %d kqueues, not one", len(pollers))
	}
	return pollers[0], nil
}

// queues returns the kqueues of this process.
func queues() (found []int) {
	for fd := range 64 {
		if _, err := unix.Kevent(fd, nil, nil, &unix.Timespec{}); err == nil {
			found = append(found, fd)
		}
	}
	return found
}

var names = map[int]string{
	unix.SYS_READ: "read", unix.SYS_IOCTL: "ioctl", unix.SYS_POLL: "poll", unix.SYS_KEVENT: "kevent",
	unix.SYS__UMTX_OP: "umtx", unix.SYS_NANOSLEEP: "nanosleep", unix.SYS_THR_KILL: "thr_kill",
	unix.SYS_SIGPROCMASK: "sigprocmask", unix.SYS_SIGRETURN: "sigreturn",
	unix.SYS_SCHED_YIELD: "sched_yield", unix.SYS_MADVISE: "madvise", unix.SYS_MMAP: "mmap",
	unix.SYS___SYSCTL: "sysctl", unix.SYS_CPUSET_GETAFFINITY: "cpuset",
}

// table has the calls of each thread. The threads are numbered, the busiest first.
func table(t ktrace.Trace, poller int) (list []call) {
	calls, all := map[int64]map[string]call{}, map[int64]uint64{}
	note := func(from ktrace.Calls, add func(c *call, n uint64)) {
		for k, n := range from {
			name := cmp.Or(names[k.Number], fmt.Sprint("call ", k.Number))
			if k.Number == unix.SYS_KEVENT && k.First == uint64(poller) {
				name += "-go"
			}
			if calls[k.Thread] == nil {
				calls[k.Thread] = map[string]call{}
			}
			c := calls[k.Thread][name]
			c.Name = name
			add(&c, n)
			calls[k.Thread][name] = c
			all[k.Thread] += n
		}
	}
	note(t.Calls, func(c *call, n uint64) { c.Calls += n })
	note(t.Sleeps, func(c *call, n uint64) { c.Sleeps += n })
	threads := slices.SortedFunc(maps.Keys(calls), func(a, b int64) int {
		return cmp.Compare(all[b], all[a])
	})
	for i, id := range threads {
		for _, c := range slices.SortedFunc(maps.Values(calls[id]), func(a, b call) int {
			return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Name, b.Name))
		}) {
			c.Thread = i + 1
			list = append(list, c)
		}
	}
	return list
}

func start(s spec) (r result, err error) {
	cmd, err := child.Command(variable, s)
	if err != nil {
		return r, err
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, &errs)
	}
	return r, json.Unmarshal(out, &r)
}

var loads = []struct {
	name  string
	share int
}{{"idle", 0}, {"low, 100/s", 1}, {"mid, 800/s", load.Frames / 8}}

// row returns a row of the table, without its first columns.
func row(r result) string {
	second, tracedSecond := r.Elapsed.Seconds(), r.Traced.Elapsed.Seconds()
	var threads []string
	var calls, sleeps float64
	for i, c := range r.Table {
		n, s := float64(c.Calls)/tracedSecond, float64(c.Sleeps)/tracedSecond
		calls, sleeps = calls+n, sleeps+s
		text := fmt.Sprintf("%s %.1f", c.Name, n)
		if c.Sleeps > 0 {
			text += fmt.Sprintf(" (%.1f)", s)
		}
		if i > 0 && r.Table[i-1].Thread == c.Thread {
			threads[len(threads)-1] += ", " + text
		} else {
			threads = append(threads, text)
		}
	}
	return fmt.Sprintf("%.0f | %.1f | %.1f | %.1f | %s", float64(r.CPU.Microseconds())/second,
		float64(r.Batches)/second, sleeps, calls, strings.Join(threads, "; "))
}

// All packets arrive. The rest is a measurement: its rows go to standard output.
func TestWakeUps(t *testing.T) {
	w := lab.OnKernel(t)
	require.NoError(t, w.SetSysctl("net.bpf.zerocopy_enable", 1))
	p := lab.NewPair(t, w)
	writer, err := load.NewWriter(64, p.B)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, writer.Close()) })
	var rows strings.Builder
	var procs int
	for _, l := range loads {
		for _, name := range readerNames {
			require.NoError(t, writer.Share(l.share))
			var best result
			for i := range runs {
				r, err := start(spec{name, p.A, l.share})
				require.NoError(t, err)
				rate := float64(l.share*load.Rate/load.Frames) * r.Elapsed.Seconds()
				require.InDelta(t, rate, float64(r.Packets), rate/10+1, "%s, %s: packets", l.name, name)
				if i == 0 || r.CPU < best.CPU {
					best = r
				}
			}
			procs = best.Procs
			fmt.Fprintf(&rows, "| %s | %s | %s |\n", l.name, name, row(best))
		}
	}
	release, err := unix.Sysctl("kern.osrelease")
	require.NoError(t, err)
	model, err := unix.Sysctl("hw.model")
	require.NoError(t, err)
	fmt.Printf("| load | reader | CPU, µs/s | batches/s | sleeps/s | calls/s | by thread |\n"+
		"| --- | --- | ---: | ---: | ---: | ---: | --- |\n"+
		"| FreeBSD %s, %s, %s, GOMAXPROCS=%d | | | | | | |\n%s", release, model,
		runtime.Version(), procs, &rows)
}
