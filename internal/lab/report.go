package lab

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A Figure is a column of docs/reliability.md.
type Figure string

// What a test may report of itself. Lost is what was promised and not kept: a packet that neither
// came nor was counted, came twice, torn or late.
const (
	Cases      Figure = "cases"
	Operations Figure = "operations"
	Packets    Figure = "packets"
	Faults     Figure = "faults"
	Lost       Figure = "lost"
)

// Besides the figures, the first report of a process says where it runs and with which parameters.
const (
	System     = "system"
	Parameters = "parameters"
)

var introduce sync.Once

// Report writes a figure into the test's output, where "make reliability" finds it. Each is
// reported once a test.
func Report(t testing.TB, f Figure, n uint64) {
	t.Helper()
	introduce.Do(func() {
		where := system()
		if race {
			where += " -race"
		}
		t.Attr(System, where)
		t.Attr(Parameters, parameters())
	})
	t.Attr(string(f), strconv.FormatUint(n, 10))
}

// parameters are the variables that tests of this module look at, and -short.
func parameters() string {
	set := slices.DeleteFunc(os.Environ(), func(s string) bool {
		return !strings.HasPrefix(s, "ZBUF_")
	})
	slices.Sort(set)
	if testing.Short() {
		set = append(set, "-short")
	}
	return strings.Join(set, " ")
}
