package contest

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bench/internal/child"
	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/bench/internal/trial"
	"github.com/zbuf-go/zbuf/internal/lab"
)

func TestMain(m *testing.M) {
	// They return unless this is a process of theirs.
	load.Main()
	trial.Main()
	child.Main(besideVariable, beside)
	os.Exit(m.Run())
}

var profile = flag.String("trial.profile", "", "write a CPU profile of each contestant into files "+
	"that begin so")

const (
	// memoryOfAll is that of all packet buffers together: three of the largest that read(2) is allowed
	// by default.
	memoryOfAll = 3 * 512 << 10
	timeout     = 100 * time.Millisecond

	warm      = 300 * time.Millisecond
	length    = 4 * time.Second
	trials    = 5
	overloads = 4
	delayed   = 3
	delays    = 10
)

// overload is what an analyser takes for each packet, more than the next takes to come, and the
// memory: as much as fills before anything is measured.
func overload(size int) (work time.Duration, memory int) {
	switch {
	case runtime.NumCPU() > 1:
		return 60 * time.Microsecond, memoryOfAll
	case size <= 64:
		return 200 * time.Microsecond, 3 * 16 << 10
	}
	return 200 * time.Microsecond, 3 * 128 << 10
}

var loads = []struct {
	name           string
	share          int
	work           bool // on each packet, more than there is time for
	own            bool // the contestant has a processor to itself
	runs           int
	length, traced time.Duration // of one run, and of a further one with system calls traced
	delays         bool          // are measured in further runs
}{
	// a reader of this module looks less often the longer nothing comes
	{"idle", 0, false, false, trials, 3 * length, length / 5, false},
	{"low", 1, false, false, trials, length, length / 5, true},
	{"mid", load.Frames / 8, false, false, trials, length, length / 5, true},
	{"full", load.Frames, false, false, trials, length / 2, length / 10, false},
	// no reader sleeps, so chance has less part in the figures
	{"overload", load.Frames, true, true, overloads, length / 2, length / 10, false},
	{"shared-overload", load.Frames, true, false, overloads, length / 2, length / 10, false},
}

// told is done when the kernel was named.
var told sync.Once

func kernel(tb testing.TB) lab.World {
	tb.Helper()
	w, why := lab.Kernel()
	if w == nil {
		tb.Skip(why)
	}
	var u unix.Utsname
	require.NoError(tb, unix.Uname(&u))
	told.Do(func() {
		fmt.Printf("kernel: %s %s\n", unix.ByteSliceToString(u.Sysname[:]),
			unix.ByteSliceToString(u.Release[:]))
	})
	require.NoError(tb, w.SetSysctl("net.bpf.zerocopy_enable", 1))
	return w
}

// source is the load, on an interface.
type source struct {
	ifname string
	writer *load.Writer // nil is a storm, of which the filter takes the share that is needed
}

func newSource(b *testing.B, w lab.World, size int) *source {
	b.Helper()
	if runtime.NumCPU() > 1 {
		return &source{ifname: storm(b, size).Ifname}
	}
	p := lab.NewPair(b, w)
	s, err := load.NewWriter(size, p.B)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	return &source{p.A, s}
}

// run runs a contestant under load.
func (s *source) run(spec trial.Spec, own bool) (r trial.Result, err error) {
	if s.writer == nil {
		return trial.Run(spec)
	}
	share := s.writer.Share
	if own {
		share = s.writer.ShareOfTheRest
	}
	if err := share(spec.Share); err != nil {
		return r, err
	}
	r, err = trial.Run(spec)
	return r, errors.Join(err, s.writer.Share(0))
}

func storm(tb testing.TB, size int) *load.Storm {
	tb.Helper()
	s, err := load.NewStorm()
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	require.NoError(tb, s.Fill(load.Frames, size))
	return s
}

// introduce prints which libpcap each program uses, or why the program does not run. The names of
// the contestants are keys of the benchmark format.
func introduce(b *testing.B, ifname string) {
	b.Helper()
	for _, p := range contestant.Programs {
		r, err := trial.Run(trial.Spec{
			Contestant: p.Name, Interface: ifname, Memory: memoryOfAll, Timeout: timeout, Length: warm,
		})
		require.NoError(b, err)
		said := r.Version
		if r.Missing != "" {
			said = notRun + r.Missing
		}
		fmt.Printf("%s: %s\n", p.Name, said)
	}
}

// notRun begins what is said of a contestant that can't run. The report knows it.
const notRun = "did not run: "

// BenchmarkTouch measures what every contestant does with a packet, by itself, in Go and in C.
func BenchmarkTouch(b *testing.B) {
	kernel(b)
	for _, size := range []int{64, 1500} {
		for _, in := range []struct {
			language string
			cost     func() (contestant.Cost, string, error)
		}{
			{"Go", func() (contestant.Cost, string, error) { return contestant.TouchCost(size), "", nil }},
			{"C", func() (contestant.Cost, string, error) { return trial.TouchCost("contest", size) }},
		} {
			b.Run(fmt.Sprintf("size=%d/language=%s", size, in.language), func(b *testing.B) {
				var best contestant.Cost
				for i := range trials {
					c, missing, err := in.cost()
					require.NoError(b, err)
					if missing != "" {
						b.Skip(missing)
					}
					if i == 0 || c.Elapsed < best.Elapsed {
						best = c
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(best.Elapsed)/float64(best.Packets), "touch-ns/pkt")
			})
		}
	}
}

func BenchmarkContest(b *testing.B) {
	w := kernel(b)
	introduce(b, lab.NewPair(b, w).A)
	for _, size := range []int{64, 1500} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			work, scarce := overload(size)
			src := newSource(b, w, size)
			for _, l := range loads {
				if l.share == 0 && size != 64 {
					continue // no packet, no size
				}
				if l.work && !l.own && src.writer == nil {
					continue // each has a processor to itself
				}
				for _, name := range contestant.All() {
					b.Run(fmt.Sprintf("load=%s/reader=%s", l.name, name), func(b *testing.B) {
						spec := trial.Spec{
							Contestant: name, Interface: src.ifname, Share: l.share, Memory: memoryOfAll,
							Timeout: timeout, Warm: warm, Length: time.Duration(b.N) * l.length,
							Trace: l.traced,
						}
						if l.work {
							spec.Work, spec.Memory = work, scarce
						}
						if *profile != "" {
							spec.Profile = fmt.Sprintf("%s%d-%s-%s.prof", *profile, size, l.name, name)
						}
						all, err := times(l.runs, spec, func(spec trial.Spec) (trial.Result, error) {
							return src.run(spec, l.own)
						})
						require.NoError(b, err)
						if !returned(b, all) {
							return
						}
						report(b, all, size, l.work)
						if l.delays && src.writer != nil {
							spec.Delays, spec.Trace = 1<<16, 0
							all, err := times(delayed, spec, func(spec trial.Spec) (trial.Result, error) {
								return src.run(spec, l.own)
							})
							require.NoError(b, err)
							reportDelay(b, all, "p99", func(r trial.Result) time.Duration { return r.P99 })
						}
					})
				}
			}
		})
	}
}

// times runs a contestant n times, each time in a new process, the first one also with system calls
// traced.
func times(
	n int, spec trial.Spec, run func(trial.Spec) (trial.Result, error),
) (all []trial.Result, err error) {
	for range n {
		r, err := run(spec)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		if r.Missing != "" || r.Stuck != "" {
			break
		}
		spec.Trace, spec.Profile = 0, ""
	}
	return all, nil
}

// returned reports whether a contestant came back from all runs. If one did not, returned writes
// what that run cost. If the contestant can't run here, returned skips the benchmark.
func returned(b *testing.B, all []trial.Result) bool {
	r := all[len(all)-1]
	if r.Missing != "" {
		b.Skip(r.Missing)
	}
	if r.Stuck == "" {
		return true
	}
	b.Logf("%s did not return within %v: it was killed", r.Stuck, r.Elapsed)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1, "stuck")
	b.ReportMetric(float64(r.CPU.Microseconds())/r.Elapsed.Seconds(), "cpu-us/s")
	return false
}

// cost is the CPU time for each packet, or for each run that has none, in ns.
func cost(r trial.Result) float64 { return float64(r.CPU) / float64(max(r.Packets, 1)) }

// middle returns the run with the median of the CPU time, with the first run's system calls. least
// is the cheapest run. spread is by how much the dearest cost more than that, in per cent.
//
// A process of Go falls into one of two ways of waking up and stays in it: in one it wakes up about
// twice as often. Which one it is, is chance, for all Go programs alike. So the cheapest runs
// compare Go programs, and the medians compare them with those in C.
func middle(all []trial.Result) (r, least trial.Result, spread float64) {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b trial.Result) int {
		return cmp.Compare(cost(a), cost(b))
	})
	r = sorted[len(sorted)/2]
	r.Traced = all[0].Traced
	return r, sorted[0], 100 * (cost(sorted[len(sorted)-1])/cost(sorted[0]) - 1)
}

// drops is how many of the packets that passed the filter were dropped in a run, in per cent. What
// the kernel dropped while measuring depends on how full its buffers were at the beginning and at
// the end. Where the reader is behind, they are full both times, so that what was not delivered is
// the better figure.
func drops(r trial.Result, behind bool) (percent float64) {
	dropped := r.Dropped + r.Lost
	if behind {
		dropped = r.Matched - min(r.Matched, r.Packets)
	}
	return 100 * float64(dropped) / float64(max(r.Matched, 1))
}

// estimate returns the mean, and its standard error.
func estimate(x []float64) (mean, within float64) {
	n := float64(len(x))
	for _, v := range x {
		mean += v / n
	}
	for _, v := range x {
		within += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(within / (n - 1) / n)
}

// report writes the figures. ns/pkt is the same as ms per million packets.
func report(b *testing.B, all []trial.Result, size int, behind bool) {
	r, least, spread := middle(all)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(spread, "cpu-spread-%")
	sec := r.Elapsed.Seconds()
	b.ReportMetric(float64(r.Packets)/sec, "pkts/s")
	b.ReportMetric(float64(r.CPU.Microseconds())/sec, "cpu-us/s")
	b.ReportMetric(float64(least.CPU.Microseconds())/least.Elapsed.Seconds(),
		"least-cpu-us/s")
	b.ReportMetric(float64(r.Voluntary)/sec, "sleeps/s")
	b.ReportMetric(float64(r.Involuntary)/sec, "preempted/s")
	b.ReportMetric(float64(r.RSS)/1024, "rss-KiB")
	b.ReportMetric(float64(r.Kernel)/1024, "kernel-KiB")
	b.ReportMetric(float64(r.Traced.Reader)/r.Traced.Elapsed.Seconds(), "syscalls/s")
	b.ReportMetric(float64(r.Traced.Process)/r.Traced.Elapsed.Seconds(), "proc-syscalls/s")
	if r.Packets == 0 || r.Traced.Packets == 0 {
		return
	}
	n := float64(r.Packets)
	b.ReportMetric(cost(r), "cpu-ns/pkt")
	b.ReportMetric(cost(least), "least-cpu-ns/pkt")
	b.ReportMetric(float64(r.User)/n, "user-ns/pkt")
	b.ReportMetric(float64(r.System)/n, "sys-ns/pkt")
	var dropped []float64
	for _, r := range all {
		dropped = append(dropped, drops(r, behind))
	}
	mean, within := estimate(dropped)
	b.ReportMetric(mean, "drop-%")
	b.ReportMetric(within, "drop-error-%")
	record := (26 + size + zbuf.Alignment - 1) &^ (zbuf.Alignment - 1)
	b.ReportMetric(100*float64(r.Kernel)/2/float64(record)/float64(r.Matched), "buffer-%")
	b.ReportMetric(float64(r.Allocated)/n, "alloc-B/pkt")
	b.ReportMetric(1e6*float64(r.Voluntary)/n, "sleeps/Mpkt")
	b.ReportMetric(1e6*float64(r.Traced.Reader)/float64(r.Traced.Packets), "syscalls/Mpkt")
	b.ReportMetric(1e6*float64(r.Traced.Process)/float64(r.Traced.Packets), "proc-syscalls/Mpkt")
}

// reportDelay writes the mean of a figure of the delays, and its standard error.
func reportDelay(
	b *testing.B, all []trial.Result, name string, of func(trial.Result) time.Duration,
) {
	var us []float64
	for _, r := range all {
		us = append(us, float64(of(r).Nanoseconds())/1000)
	}
	mean, within := estimate(us)
	b.ReportMetric(mean, name+"-us")
	b.ReportMetric(within, name+"-error-us")
}

func BenchmarkDelay(b *testing.B) {
	w := kernel(b)
	for _, wait := range []time.Duration{0, 10 * time.Millisecond} {
		for _, name := range contestant.All() {
			how := "immediate"
			if wait > 0 {
				how = wait.String()
				if name == "go-pcap" {
					continue // it is always in immediate mode
				}
			}
			b.Run(fmt.Sprintf("wait=%s/reader=%s", how, name), func(b *testing.B) {
				p := lab.NewPair(b, w)
				s, err := load.NewStamped(p.B)
				require.NoError(b, err)
				require.NoError(b, s.Share(1))
				all, err := times(delays, trial.Spec{
					Contestant: name, Interface: p.A, Memory: memoryOfAll, Timeout: max(wait, time.Millisecond),
					Immediate: wait == 0, Delays: 1 << 16, Warm: warm,
					Length: time.Duration(b.N) * length,
				}, trial.Run)
				require.NoError(b, err)
				require.NoError(b, s.Close())
				if !returned(b, all) {
					return
				}
				r, _, _ := middle(all)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(r.Delays), "pkts")
				for name, of := range map[string]func(trial.Result) time.Duration{
					"p50": func(r trial.Result) time.Duration { return r.P50 },
					"p99": func(r trial.Result) time.Duration { return r.P99 },
					"max": func(r trial.Result) time.Duration { return r.Max },
				} {
					reportDelay(b, all, name, of)
				}
				b.ReportMetric(float64(r.CPU.Microseconds())/r.Elapsed.Seconds(), "cpu-us/s")
			})
		}
	}
}
