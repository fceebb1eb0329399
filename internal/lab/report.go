package lab

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A Figure is a column of docs/reliability.md.
type Figure string

// A test may report these figures of itself. Lost counts broken promises: a packet that neither
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

// RuleKey is the key of a [Rule] in a test's output.
const RuleKey = "rule"

// A Rule is the report of a run of the table in conformance/ about one rule. There is one for every
// rule when it starts, and once more of each that it plays on the kernel.
type Rule struct {
	Name string `json:"name"`
	// Elsewhere says why the rule does not play on this kernel, in a program like this one.
	Elsewhere string `json:"elsewhere,omitempty"`
	// Plays is set by the test that plays the rule. The rule has the result of that test.
	Plays bool `json:"plays,omitempty"`
	// Has names the features of releases after 12.1 that this kernel has and the rule looks at.
	Has []string `json:"has,omitempty"`
}

// ReportRule writes a rule into the test's output, where "make matrix" finds it.
func ReportRule(t testing.TB, r Rule) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Attr(RuleKey, string(b))
}

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
