package sink

import (
	"bufio"
	"fmt"
	"sort"
)

// output buffers the bytes of a format and writes them to a target. It knows the end of each unit,
// such as a block of pcapng or a line of text. So a failed write leaves whole units only, and the
// output knows how many packets have arrived.
type output struct {
	buf  *bufio.Writer // formats write into it
	to   target
	name string

	out   int64  // bytes that have arrived
	ends  []mark // of the units that end behind out
	last  mark   // of the latest unit
	whole mark   // of the last unit that has arrived whole
}

// mark is the end of a unit.
type mark struct {
	end            int64  // its place in the output
	packets, bytes uint64 // up to there
}

const outputBuffer = 1 << 20

func newOutput(to target, name string) *output {
	o := &output{to: to, name: name}
	o.buf = bufio.NewWriterSize(arrival{o}, outputBuffer)
	return o
}

// unit notes that the format has written a unit. The unit has the given number of packets and of
// their captured bytes.
func (o *output) unit(packets, bytes int) {
	o.last.end = o.out + int64(o.buf.Buffered())
	o.last.packets += uint64(packets)
	o.last.bytes += uint64(bytes)
	if o.last.end > o.out {
		o.ends = append(o.ends, o.last)
	} else {
		o.whole = o.last
	}
}

// arrival writes the bytes that leave an output's buffer.
type arrival struct{ o *output }

func (a arrival) Write(p []byte) (int, error) {
	o := a.o
	n, err := o.to.write(p)
	o.out += int64(n)
	passed := sort.Search(len(o.ends), func(i int) bool { return o.ends[i].end > o.out })
	if passed > 0 {
		o.whole = o.ends[passed-1]
		o.ends = o.ends[:copy(o.ends, o.ends[passed:])]
	}
	if err != nil && o.to.cut(o.whole.end) {
		o.out = o.whole.end
	}
	return n, err
}

// explain adds to the error of a write the name of the target, and how the target ends now.
func (o *output) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case o.to.keeps():
		return fmt.Errorf("can't write, %s ends with the last packet that is complete: %w", o.name, err)
	}
	return fmt.Errorf("can't write to %s: %w", o.name, err)
}
