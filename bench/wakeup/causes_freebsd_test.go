package wakeup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bench/internal/child"
	"github.com/zbuf-go/zbuf/bench/internal/cputime"
	"github.com/zbuf-go/zbuf/bench/internal/ktrace"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// causeVariable passes the causeSpec to the process of a reader.
const causeVariable = "ZBUF_WAKEUP_CAUSES"

type causeSpec struct {
	Reader, Interface string
	Length            time.Duration
}

// A cause is why a thread woke up.
type cause int

const (
	causeEvent    cause = iota // the descriptor had an event: a packet, or the read timeout
	causeCheck                 // the time has come to look whether the interface is still there
	causeTimer                 // another timer of the program
	causeSysmon                // the monitor of Go's scheduler
	causeHandOver              // one thread of Go's scheduler woke another
	causeOther
	numCauses
)

type causeResult struct {
	seen               // of the run without a trace
	CPU  time.Duration // of the same run

	Traced      seen
	Causes      [numCauses]uint64
	Collections uint32 // by the garbage collector, in the run with a trace
}

func runCauses(s causeSpec) (res causeResult, err error) {
	poller, err := goPoller()
	if err != nil {
		return res, err
	}
	r, err := open(s.Reader, s.Interface, 1)
	if err != nil {
		return res, err
	}
	defer r.Close()
	debug.FreeOSMemory() // otherwise it goes on in the background for seconds
	if _, err := r.capture(warm); err != nil {
		return res, err
	}
	before := cputime.Process()
	if res.seen, err = r.capture(s.Length); err != nil {
		return res, err
	}
	res.CPU = cputime.Process() - before
	wakes, err := ktrace.Wakes(func() (err error) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		collections := m.NumGC
		res.Traced, err = r.capture(s.Length)
		runtime.ReadMemStats(&m)
		res.Collections = m.NumGC - collections
		return err
	})
	if err != nil {
		return res, err
	}
	monitor := sysmon(wakes)
	for _, w := range wakes {
		res.Causes[causeOf(w, poller, monitor)]++
	}
	return res, nil
}

// sysmon returns the thread of the scheduler's monitor. No other thread sleeps by nanosleep(2) so
// often.
func sysmon(wakes []ktrace.Wake) (thread int64) {
	sleeps := map[int64]int{}
	for _, w := range wakes {
		if w.Slept.Number == unix.SYS_NANOSLEEP {
			sleeps[w.Thread]++
		}
	}
	for id, n := range sleeps {
		if thread == 0 || n > sleeps[thread] {
			thread = id
		}
	}
	return thread
}

// causeOf tells causes apart by the call in which the thread slept, and by those that it made next.
// A reader that waits in the poller of Go's runtime looks at its own kqueue after each event of its
// descriptor. The check of an interface begins with BIOCGETIF.
func causeOf(w ktrace.Wake, poller int, monitor int64) cause {
	switch {
	case w.Thread == monitor:
		return causeSysmon
	case w.Slept.Number == unix.SYS__UMTX_OP:
		return causeHandOver
	case w.Slept.Number != unix.SYS_KEVENT || w.Returned < 0:
		return causeOther // also where the thread went on sleeping in the same call
	case w.Returned == 0:
		for _, c := range w.Then {
			if c.Number == unix.SYS_IOCTL && uint32(c.Args[1]) == uint32(zbuf.BIOCGETIF) {
				return causeCheck
			}
		}
		if w.Slept.Args[0] != uint64(poller) {
			return causeEvent // the reader's own timeout, in place of the kernel's
		}
		return causeTimer
	case w.Slept.Args[0] != uint64(poller):
		return causeEvent
	}
	for _, c := range w.Then {
		if c.Number == unix.SYS_KEVENT && c.Args[0] != uint64(poller) {
			return causeEvent
		}
	}
	return causeOther
}

// slowly has packets arrive at A, so many in a second, until stop is called.
func slowly(t *testing.T, p *lab.Pair, rate int) (stop func()) {
	t.Helper()
	if rate == 0 {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan error)
	go func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		var err error
		for {
			select {
			case <-done:
				ended <- err
				return
			case <-tick.C:
				err = errors.Join(err, p.Post(p.A, lab.Frame(64, 0)))
			}
		}
	}()
	return func() {
		t.Helper()
		close(done)
		require.NoError(t, <-ended)
	}
}

var causeReaders = []string{"default", "lease", "buffered", "immediate", "floor"}

// All packets arrive, and the kernel tells of no more than the packets. The buffers never fill up.
// So an event is a packet in immediate mode, and otherwise the end of the read timeout. The rest is
// a measurement: its rows go to standard output.
func TestCauses(t *testing.T) {
	length := time.Minute
	if testing.Short() {
		length = 5 * time.Second
	}
	w := lab.OnKernel(t)
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	p := lab.NewPair(t, w)
	release, err := unix.Sysctl("kern.osrelease")
	require.NoError(t, err)
	model, err := unix.Sysctl("hw.model")
	require.NoError(t, err)
	fmt.Printf("| load | reader | CPU, µs/s | wake-ups/s | packet | read timeout | check | timer | "+
		"sysmon | hand-over | other | collections |\n| --- | --- |%s\n| FreeBSD %s, %s, %s |%s\n",
		strings.Repeat(" ---: |", 10), release, model, runtime.Version(), strings.Repeat(" |", 11))
	for _, rate := range []int{0, 10, 100} {
		for _, name := range causeReaders {
			stop := slowly(t, p, rate)
			cmd, err := child.Command(causeVariable, causeSpec{name, p.A, length})
			require.NoError(t, err)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			require.NoError(t, err, "%s", &errs)
			stop()
			var r causeResult
			require.NoError(t, json.Unmarshal(out, &r))

			what := fmt.Sprintf("%d/s, %s", rate, name)
			second := r.Traced.Elapsed.Seconds()
			expect := float64(rate) * second
			assert.InDelta(t, expect, float64(r.Traced.Packets), expect/10+1, "%s: packets", what)
			events := r.Causes[causeEvent]
			// A thread that another one woke may look for an event too.
			assert.LessOrEqual(t, float64(events), expect+expect/10+5, "%s: events", what)
			fmt.Printf("| %d/s | %s | %.0f |", rate, name,
				float64(r.CPU.Microseconds())/r.Elapsed.Seconds())
			all, packet, timeout := uint64(0), uint64(0), events
			for _, n := range r.Causes {
				all += n
			}
			if name == "immediate" {
				packet, timeout = events, 0
			}
			for _, n := range append([]uint64{all, packet, timeout}, r.Causes[causeEvent+1:]...) {
				fmt.Printf(" %.2f |", float64(n)/second)
			}
			fmt.Printf(" %d |\n", r.Collections)
		}
	}
}
