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
	Work       int // see contestant.Tally
	Delays     int // the greatest number of delays to note

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

	User, System           time.Duration // CPU time of the process [getrusage]
	Voluntary, Involuntary int64         // context switches of the process [getrusage]
	RSS                    int64         // bytes, at the most [getrusage]
	Kernel                 int64         // bytes of the two buffers, by net.bpf.stats
	Allocated              uint64        // bytes, on Go's heap

	P50, P99, Max time.Duration // of the delays
	Delays        int

	Traced Traced
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
	return func() (r Result, err error) {
		if err := cmd.Wait(); err != nil {
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
