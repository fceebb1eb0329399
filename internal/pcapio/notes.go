package pcapio

import "fmt"

// A noteKind is a fault of a file in spite of which the reader reads it.
type noteKind int

const (
	noteCaptured   noteKind = iota // more captured than was on the wire
	noteWire                       // more on the wire than any packet has
	noteStatistics                 // of an interface that is not there
	noteOption                     // not as the format has it
	noteKinds
)

// note has the text of the first fault of its kind, and the number of such faults.
type note struct {
	first string
	n     int
}

func (r *Reader) note(kind noteKind, format string, args ...any) {
	if r.noted[kind].n++; r.noted[kind].n == 1 {
		r.noted[kind].first = fmt.Sprintf(format, args...)
	}
}

// Notes returns the faults of the file, up to the packet read last, in spite of which it was read.
// There is one line for each kind of fault, also if the file has it several times.
func (r *Reader) Notes() []string {
	var all []string
	for _, n := range r.noted {
		switch {
		case n.n == 1:
			all = append(all, n.first)
		case n.n > 1:
			all = append(all, fmt.Sprintf("%s (and so %d times in all)", n.first, n.n))
		}
	}
	return all
}
