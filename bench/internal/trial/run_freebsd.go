package trial

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/cputime"
	"github.com/zbuf-go/zbuf/bench/internal/ktrace"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/sysctl"
)

// scheduling has the calls that Go's scheduler makes on the reader's thread, for the threads that
// it stops and wakes. They are not the reader's.
var scheduling = map[int]bool{
	unix.SYS_SIGRETURN: true, unix.SYS__UMTX_OP: true, unix.SYS_NANOSLEEP: true,
	unix.SYS_SCHED_YIELD: true, unix.SYS_THR_KILL: true, unix.SYS_SIGPROCMASK: true,
	unix.SYS_MADVISE: true, unix.SYS_MMAP: true, unix.SYS___SYSCTL: true, // of behind,
}

var names = map[int]string{
	unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_IOCTL: "ioctl", unix.SYS_POLL: "poll",
	unix.SYS_KEVENT: "kevent", unix.SYS_CLOSE: "close", unix.SYS_FCNTL: "fcntl",
	unix.SYS_PIPE2: "pipe2", unix.SYS_CLOCK_GETTIME: "clock_gettime",
	unix.SYS_SIGRETURN: "sigreturn", unix.SYS__UMTX_OP: "_umtx_op",
	unix.SYS_NANOSLEEP: "nanosleep", unix.SYS_SCHED_YIELD: "sched_yield",
	unix.SYS_THR_KILL: "thr_kill", unix.SYS_SIGPROCMASK: "sigprocmask",
	unix.SYS_MADVISE: "madvise", unix.SYS_MMAP: "mmap", unix.SYS___SYSCTL: "__sysctl",
}

// queues returns the kqueues of this process.
func queues() map[uint64]bool {
	found := map[uint64]bool{}
	for fd := range 64 {
		if _, err := unix.Kevent(fd, nil, nil, &unix.Timespec{}); err == nil {
			found[uint64(fd)] = true
		}
	}
	return found
}

// listener returns the kernel's entry of the only bpf descriptor of this process.
func listener() (sysctl.Listener, error) { return listenerOf(os.Getpid()) }

func listenerOf(pid int) (sysctl.Listener, error) {
	b, err := unix.SysctlRaw("net.bpf.stats")
	if err != nil {
		return sysctl.Listener{}, err
	}
	all, err := sysctl.ParseListeners(b)
	if err != nil {
		return sysctl.Listener{}, err
	}
	for _, l := range all {
		if l.PID == pid {
			return l, nil
		}
	}
	return sysctl.Listener{}, fmt.Errorf("net.bpf.stats does not show process %d", pid)
}

// behind returns a function. That function waits until the kernel has dropped a packet since the
// last call.
func behind() func() {
	var last uint64
	return func() {
		for {
			l, err := listener()
			if err != nil || l.Dropped != last {
				last = l.Dropped
				return
			}
		}
	}
}

func filter(s Spec) []bpf.RawInstruction {
	if s.Delays > 0 {
		return []bpf.RawInstruction{{Op: 0x06, K: 1 << 18}}
	}
	return load.Share(s.Share)
}

// runFor runs c for a time. The caller has started c.
func runFor(c contestant.Contestant, t *contestant.Tally, d time.Duration) (time.Duration, error) {
	stopped := make(chan struct{})
	timer := time.AfterFunc(d, func() {
		c.Stop()
		close(stopped)
	})
	begin := time.Now()
	err := c.Run(t)
	took := time.Since(begin)
	if !timer.Stop() {
		<-stopped // otherwise it would stop the next run
	}
	return took, err
}

func run(s Spec) (r Result, err error) {
	if p, ok := contestant.ProgramOf(s.Contestant); ok {
		return runProgram(s, p)
	}
	time.Sleep(time.Millisecond) // now Go has its kqueue
	scheduler := queues()
	if len(scheduler) == 0 {
		return r, errors.New("Go's kqueue was not found")
	}
	c, err := contestant.Open(s.Contestant, contestant.Config{
		Interface: s.Interface, Filter: filter(s), Memory: s.Memory, Timeout: s.Timeout,
		Immediate: s.Immediate,
	})
	if err != nil {
		return r, err
	}
	defer c.Close()
	t := &contestant.Tally{Work: contestant.Spins(s.Work)}
	if s.Behind {
		t.Gate = behind()
	}
	t.Ready(load.Now)
	debug.FreeOSMemory() // otherwise it goes on in the background for seconds
	if _, err = runFor(c, t, s.Warm); err != nil {
		return r, err
	}

	if s.Delays > 0 {
		t.Delays = make([]int64, 0, s.Delays)
		t.Ready(load.Now)
	}
	var heap [2]runtime.MemStats
	var use [2]unix.Rusage
	var seen [2]sysctl.Listener
	runtime.ReadMemStats(&heap[0])
	if seen[0], err = listener(); err != nil {
		return r, err
	}
	if s.Profile != "" {
		f, err := os.Create(s.Profile)
		if err != nil {
			return r, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return r, err
		}
	}
	c.Start()
	before := t.Packets
	bytes := t.Bytes
	if err = unix.Getrusage(unix.RUSAGE_SELF, &use[0]); err != nil {
		return r, err
	}
	spent := cputime.Process()
	r.Elapsed, err = runFor(c, t, s.Length)
	r.CPU = cputime.Process() - spent
	unix.Getrusage(unix.RUSAGE_SELF, &use[1])
	pprof.StopCPUProfile()
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
		// go-pcap is the only contestant that does not deliver all packets that it has read. Some
		// packets may still be in the kernel's buffers.
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
		r.Traced, err = trace(c, t, s, scheduler)
	}
	return r, err
}

// trace runs c and traces its system calls. scheduler has the kqueues of Go itself.
func trace(
	c contestant.Contestant, t *contestant.Tally, s Spec, scheduler map[uint64]bool,
) (r Traced, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was := t.Packets
	own, _ := c.Syscalls()
	c.Start()
	if gate := t.Gate; gate != nil && s.Enough > 0 {
		t.Gate = func() {
			gate()
			if t.Packets-was == s.Enough {
				go c.Stop() // on another thread, as it makes system calls
			}
		}
	}
	calls, err := ktrace.Count(func() error {
		r.Elapsed, err = runFor(c, t, s.Trace)
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
			name := names[k.Number]
			switch {
			case k.Number == unix.SYS_KEVENT && scheduler[k.First]:
				name = "netpoll"
			case !scheduling[k.Number]:
				r.Reader += v
			}
			if name == "" {
				name = fmt.Sprint(k.Number)
			}
			r.ByName[name] += v
		}
	}
	return r, nil
}
