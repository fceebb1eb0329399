package trial

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/ktrace"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/sysctl"
)

// Now is the clock that delays are measured with, the same in all processes.
func Now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// scheduling are the calls that Go's scheduler makes on the thread of whoever it stops and wakes.
var scheduling = map[int]bool{
	unix.SYS_SIGRETURN: true, unix.SYS__UMTX_OP: true, unix.SYS_NANOSLEEP: true, unix.SYS_SCHED_YIELD: true,
	unix.SYS_THR_KILL: true, unix.SYS_SIGPROCMASK: true, unix.SYS_MADVISE: true, unix.SYS_MMAP: true,
}

var names = map[int]string{
	unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_IOCTL: "ioctl", unix.SYS_POLL: "poll", unix.SYS_KEVENT: "kevent",
	unix.SYS_CLOSE: "close", unix.SYS_FCNTL: "fcntl", unix.SYS_PIPE2: "pipe2", unix.SYS_CLOCK_GETTIME: "clock_gettime",
	unix.SYS_SIGRETURN: "sigreturn", unix.SYS__UMTX_OP: "_umtx_op", unix.SYS_NANOSLEEP: "nanosleep",
	unix.SYS_SCHED_YIELD: "sched_yield", unix.SYS_THR_KILL: "thr_kill", unix.SYS_SIGPROCMASK: "sigprocmask",
	unix.SYS_MADVISE: "madvise", unix.SYS_MMAP: "mmap",
}

// listener is how the system sees the only bpf descriptor of this process.
func listener() (sysctl.Listener, error) {
	all, err := sysctl.Host().BPF().Stats()
	if err != nil {
		return sysctl.Listener{}, err
	}
	for _, l := range all {
		if l.PID == os.Getpid() {
			return l, nil
		}
	}
	return sysctl.Listener{}, errors.New("net.bpf.stats does not show this process")
}

// runFor runs c, which was started, for a time.
func runFor(c contestant.Contestant, t *contestant.Tally, d time.Duration) (time.Duration, error) {
	timer := time.AfterFunc(d, c.Stop)
	defer timer.Stop()
	begin := time.Now()
	err := c.Run(t)
	return time.Since(begin), err
}

func run(s Spec) (r Result, err error) {
	filter := load.Share(s.Share)
	if s.Delays > 0 {
		filter = []bpf.RawInstruction{{Op: 0x06, K: 1 << 18}}
	}
	c, err := contestant.Open(s.Contestant, contestant.Config{
		Interface: s.Interface, Filter: filter, Memory: s.Memory, Timeout: s.Timeout, Immediate: s.Immediate,
	})
	if err != nil {
		return r, err
	}
	defer c.Close()
	t := &contestant.Tally{Work: s.Work}
	t.Slow(Now)
	runtime.GC()
	if _, err = runFor(c, t, s.Warm); err != nil {
		return r, err
	}

	if s.Delays > 0 {
		t.Delays = make([]int64, 0, s.Delays)
		t.Slow(Now)
	}
	var heap [2]runtime.MemStats
	var use [2]unix.Rusage
	var seen [2]sysctl.Listener
	runtime.ReadMemStats(&heap[0])
	if seen[0], err = listener(); err != nil {
		return r, err
	}
	c.Start()
	before := t.Packets
	bytes := t.Bytes
	if err = unix.Getrusage(unix.RUSAGE_SELF, &use[0]); err != nil {
		return r, err
	}
	r.Elapsed, err = runFor(c, t, s.Length)
	unix.Getrusage(unix.RUSAGE_SELF, &use[1])
	if err != nil {
		return r, err
	}
	if seen[1], err = listener(); err != nil {
		return r, err
	}
	runtime.ReadMemStats(&heap[1])
	r.Packets, r.Bytes = t.Packets-before, t.Bytes-bytes
	r.Matched, r.Dropped = seen[1].Matched-seen[0].Matched, seen[1].Dropped-seen[0].Dropped
	if s.Contestant == "go-pcap" && r.Matched > r.Dropped+r.Packets {
		// The only one that does not deliver what it has read. Something may be in the kernel's buffers still.
		r.Lost = r.Matched - r.Dropped - r.Packets
	}
	r.User = time.Duration(use[1].Utime.Nano() - use[0].Utime.Nano())
	r.System = time.Duration(use[1].Stime.Nano() - use[0].Stime.Nano())
	r.Voluntary, r.Involuntary = use[1].Nvcsw-use[0].Nvcsw, use[1].Nivcsw-use[0].Nivcsw
	r.RSS, r.Kernel = use[1].Maxrss<<10, 2*int64(seen[1].BufferSize)
	r.Allocated = heap[1].TotalAlloc - heap[0].TotalAlloc
	r.Delays = len(t.Delays)
	p50, p99, most := contestant.Quantiles(t.Delays)
	r.P50, r.P99, r.Max = time.Duration(p50), time.Duration(p99), time.Duration(most)

	if s.Trace > 0 {
		r.Traced, err = trace(c, t, s.Trace)
	}
	return r, err
}

// trace runs c with its system calls traced.
func trace(c contestant.Contestant, t *contestant.Tally, d time.Duration) (r Traced, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was := t.Packets
	own, _ := c.Syscalls()
	c.Start()
	calls, err := ktrace.Count(func() error {
		r.Elapsed, err = runFor(c, t, d)
		return err
	})
	if err != nil {
		return r, err
	}
	r.Packets = t.Packets - was
	n, ok := c.Syscalls()
	r.Own, r.HasOwn = n-own, ok
	self := ktrace.Thread()
	r.Process = calls.All()
	r.ByName = map[string]uint64{}
	for k, v := range calls {
		if k.Thread == self {
			if !scheduling[k.Number] {
				r.Reader += v
			}
			name := names[k.Number]
			if name == "" {
				name = fmt.Sprint(k.Number)
			}
			r.ByName[name] = v
		}
	}
	return r, nil
}
