package lab

import (
	"strconv"
	"testing"
)

// A Figure is a column of docs/reliability.md.
type Figure string

// What a test may report of itself. Lost is what was promised and not kept: a packet that neither came
// nor was counted, came twice, torn or late.
const (
	Cases      Figure = "cases"
	Operations Figure = "operations"
	Packets    Figure = "packets"
	Faults     Figure = "faults"
	Lost       Figure = "lost"
)

// Report writes a figure into the test's output, where "make reliability" finds it. Each is reported once a test.
func Report(t testing.TB, f Figure, n uint64) {
	t.Helper()
	t.Attr(string(f), strconv.FormatUint(n, 10))
}
