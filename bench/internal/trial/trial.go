package trial

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/zbuf-go/zbuf/bench/internal/child"
)

// Spec says what a trial runs.
type Spec struct {
	Contestant string
	Interface  string
	Share      int // frames of the storm that pass, see load.Share
	Memory     int // bytes, of all packet buffers
	Timeout    time.Duration
	Immediate  bool
	Work       time.Duration // of an analyser, on each packet
	Delays     int           // the greatest number of delays to note

	// Behind stops the reader at each packet until the kernel has dropped another one. Then both
	// buffers are full, and the reader is behind, on a machine of any speed.
	Behind bool

	Warm   time.Duration // run before anything is measured
	Length time.Duration // run for the figures
	Trace  time.Duration // run once more and trace system calls; 0 is not at all
	Enough uint64        // packets after which that may end early; 0 is none

	Profile string // file for a CPU profile, which disturbs the figures; empty is none
}

// Result has the figures of a trial.
type Result struct {
	Elapsed time.Duration
	Packets uint64 // delivered
	Bytes   uint64
	Matched uint64 // passed the filter [net.bpf.stats]
	Dropped uint64 // found no room in the kernel [net.bpf.stats]
	Lost    uint64 // that the contestant read and did not deliver

	CPU time.Duration // of the process [CLOCK_PROCESS_CPUTIME_ID]
	// User and System are rough, and so is their sum [getrusage]. The kernel divides the CPU time by
	// what its statistics clock met, and neither part may shrink when it meets the other.
	User, System           time.Duration
	Voluntary, Involuntary int64  // context switches of the process [getrusage]
	RSS                    int64  // bytes, at the most [getrusage]
	Kernel                 int64  // bytes of the two buffers, by net.bpf.stats
	Allocated              uint64 // bytes, on Go's heap

	P50, P99, Max time.Duration // of the delays
	Delays        int

	Traced Traced

	// Version is libpcap's, if the contestant uses it.
	Version string
	// Stuck says what did not return in time. Then the CPU time is that of all runs, and Elapsed
	// that until the contestant was killed.
	Stuck string
	// Missing says why the contestant can't run here. Then there are no figures.
	Missing string
}

// Traced has the figures of the run with ktrace.
type Traced struct {
	Elapsed time.Duration
	Packets uint64
	Reader  uint64 // calls of the reading thread, without Go's scheduler and Behind (__sysctl)
	Process uint64 // calls of all threads
	Own     uint64 // calls that the contestant itself counted
	HasOwn  bool
	ByName  map[string]uint64 // of the reading thread, by name or number, all of them
}

// grace is what a contestant may take longer than it was told to.
const grace = 5 * time.Second

// limit is the longest time that a trial may take. A trial bounds the runs of a program itself.
func (s Spec) limit() time.Duration {
	if s.Behind {
		return time.Hour // as slow as the kernel drops packets
	}
	return s.Warm + s.Length + s.Trace + 6*grace
}

// variable passes the Spec to the child.
const variable = "ZBUF_TRIAL"

// Start starts a trial. The function that it returns waits for the end.
func Start(s Spec) (wait func() (Result, error), err error) {
	cmd, err := child.Command(variable, s)
	if err != nil {
		return nil, err
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	begin, stuck := time.Now(), make(chan bool, 1)
	limit := time.AfterFunc(s.limit(), func() {
		stuck <- true
		cmd.Process.Kill()
	})
	return func() (r Result, err error) {
		err = cmd.Wait()
		if !limit.Stop() && <-stuck {
			return Result{Stuck: "the trial", Elapsed: time.Since(begin),
				CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
		}
		if err != nil {
			return r, fmt.Errorf("trial of %s: %w: %s", s.Contestant, err, errs.Bytes())
		}
		return r, json.Unmarshal(out.Bytes(), &r)
	}, nil
}

// Run runs a trial.
func Run(s Spec) (Result, error) {
	wait, err := Start(s)
	if err != nil {
		return Result{}, err
	}
	return wait()
}

// Main is for TestMain. In a child it runs the trial and exits. Otherwise it returns.
func Main() {
	child.Main(variable, func(s Spec) error {
		r, err := run(s)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	})
}
