package faults

import (
	"cmp"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A count is how often a fault is made: in the short form, and in the full one.
type count struct{ short, full int }

// How often everything is done, for each buffer mode.
var (
	kills         = count{6, 200} // in zero-copy mode
	killsBuffered = count{2, 42}
	cycles        = count{60, 10_000}
	closes        = count{6, 500} // of each kind
	forks         = count{20, 1000}
	execs         = count{4, 150}
	pressure      = count{2, 20} // readers opened while memory is short
	toggles       = count{40, 5000}
	strangers     = count{150, 5000} // packets past a reader that does not read
	gone          = count{4, 60}
	sandboxed     = count{2000, 50_000} // packets in capability mode
	passed        = count{1, 10}        // descriptors handed on, in each way
)

// full reports whether the full form is asked for. It needs ZBUF_SOAK, a duration: the counts are
// reached whatever it is, and what has none goes on for so long.
func full() bool { return os.Getenv("ZBUF_SOAK") != "" && !testing.Short() }

// n returns the count. ZBUF_PART is the number of parts of the full counts of which one is enough:
// emulated processors beside amd64 are slow.
func (c count) n() int {
	if !full() {
		return c.short
	}
	parts, err := strconv.Atoi(cmp.Or(os.Getenv("ZBUF_PART"), "1"))
	if err != nil || parts < 1 {
		panic("ZBUF_PART: want a number from 1 on")
	}
	return max(c.short, c.full/parts)
}

// atLeast is the time that a fault without a count goes on.
func atLeast(t *testing.T) time.Duration {
	if !full() {
		return 0
	}
	d, err := time.ParseDuration(os.Getenv("ZBUF_SOAK"))
	require.NoError(t, err)
	return d
}
