package bpf_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/bpf"
)

// A history has all events of one Reader: the packets that were sent, the changes of the filter,
// the resets, and the results of each reading method. Its verdicts name the faults of the Reader.
//
// Moments are ordered by a counter. Where one goroutine's action takes effect later, on another
// processor or in a kernel thread, the order is not known for a while. arrive is the longest time
// from sending a packet to the filter, store the longest from the filter to the buffer.
type history struct {
	timeout, arrive, store time.Duration
	slack                  time.Duration // what a delivery may be late by

	mu      sync.Mutex
	clock   func() time.Duration
	ticks   uint64
	packets []*sent
	resets  []span
	rules   []rule
	calls   []call

	setting   sync.Mutex // one goroutine at a time sets a deadline
	deadlines []deadline
}

// A deadline was set in the span. There is none if at is negative.
type deadline struct {
	span
	at time.Duration
}

// setDeadline sets the deadline of r to a time from now, or to none if that is negative.
func (h *history) setDeadline(r *bpf.Reader, in time.Duration) {
	h.setting.Lock()
	defer h.setting.Unlock()
	d := deadline{span: span{begin: h.moment()}, at: -1}
	t := time.Time{}
	if in >= 0 {
		d.at, t = d.begin.at+in, time.Now().Add(in)
	}
	r.SetReadDeadline(t)
	d.end = h.moment()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadlines = append(h.deadlines, d)
}

// overSince returns since when a call may be over by a deadline that was in force meanwhile.
func (h *history) overSince(c call) time.Duration {
	since := c.begin.at
	for i, d := range h.deadlines {
		replaced := i+1 < len(h.deadlines) && h.deadlines[i+1].end.tick < c.begin.tick
		if d.at >= 0 && d.begin.tick < c.end.tick && !replaced {
			since = min(since, max(d.at, d.begin.at))
		}
	}
	return since
}

// A moment is when something happened.
type moment struct {
	tick uint64
	at   time.Duration
}

// A span is when something was under way.
type span struct{ begin, end moment }

// sent is a packet that was shown to the interface.
type sent struct {
	span
	class     uint8
	out       bool
	length    int
	matched   verdictOf // the kernel's own word, if it is known
	dropped   verdictOf
	delivered int // index into calls, plus 1
}

type verdictOf int8

const (
	notKnown verdictOf = iota
	no
	yes
)

// A rule is which packets the kernel lets through from some moment of the span on.
type rule struct {
	span
	classes uint8 // one bit for each class
	dir     bpf.Direction
}

func (r *rule) passes(p *sent) bool {
	return r.classes>>p.class&1 != 0 && (r.dir == bpf.InOut || p.out == (r.dir == bpf.Out))
}

// A call is one call of a reading method.
type call struct {
	span
	err      bool          // it returned an error for want of packets
	deadline bool          // the error was that of the deadline
	since    time.Duration // from when on the context was done, if the error was that of the context
}

func (h *history) now() moment {
	h.ticks++
	return moment{h.ticks, h.clock()}
}

// moment returns the present one.
func (h *history) moment() moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now()
}

func (h *history) resetsSoFar() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.resets)
}

// Frames are numbered, and carry a checksum over all of it.
const (
	atNumber   = 14 // behind the Ethernet header
	atClass    = 18
	frameMin   = 60
	classCount = 4
)

// frame makes the next packet, and enters it as being sent.
func (h *history) frame(class uint8, out bool, length int) (*sent, []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	length = max(length, frameMin)
	f := make([]byte, length)
	n := len(h.packets)
	f[0], f[6], f[12], f[13] = 0x02, 0x02, 0x88, 0xb5
	binary.BigEndian.PutUint32(f[atNumber:], uint32(n))
	f[atClass] = class
	for i := atClass + 1; i < length-4; i++ {
		f[i] = byte(n*31 + i)
	}
	binary.BigEndian.PutUint32(f[length-4:], crc32.ChecksumIEEE(f[:length-4]))
	p := &sent{class: class, out: out, length: length}
	p.begin = h.now()
	h.packets = append(h.packets, p)
	return p, f
}

// filterFor passes the classes whose bit is set.
func filterFor(classes uint8) []xbpf.RawInstruction {
	prog := []xbpf.RawInstruction{{Op: 0x30, K: atClass}} // ldb [class]
	for c := range uint32(classCount) {
		k := uint32(0)
		if classes>>c&1 != 0 {
			k = 1 << 18
		}
		// jeq #c; ret #k
		prog = append(prog, xbpf.RawInstruction{Op: 0x15, Jf: 1, K: c},
			xbpf.RawInstruction{Op: 0x06, K: k})
	}
	return append(prog, xbpf.RawInstruction{Op: 0x06}) // ret #0
}

// deliver enters the packets that one call returned. It returns an error for a packet that is torn,
// was not sent, comes twice or out of order.
func (h *history) deliver(c call, frames [][]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
	for _, f := range frames {
		if len(f) < frameMin ||
			crc32.ChecksumIEEE(f[:len(f)-4]) != binary.BigEndian.Uint32(f[len(f)-4:]) {
			return fmt.Errorf("torn: %d bytes %x", len(f), f)
		}
		n := int(binary.BigEndian.Uint32(f[atNumber:]))
		if n >= len(h.packets) {
			return fmt.Errorf("packet %d was never sent", n)
		}
		p := h.packets[n]
		switch {
		case p.delivered != 0:
			return fmt.Errorf("packet %d comes twice", n)
		case len(f) != p.length:
			return fmt.Errorf("packet %d has %d bytes, not %d", n, len(f), p.length)
		}
		for _, later := range h.packets[n+1:] {
			// Where arrival takes time, packets that go out overtake those that come in.
			if later.delivered != 0 && (h.arrive == 0 || later.out == p.out) && h.before(later, c) {
				return fmt.Errorf("packet %d comes behind a later one", n)
			}
		}
		p.delivered = len(h.calls)
	}
	return nil
}

// before reports whether p was delivered before the call c, which is being entered, or by it. Two
// goroutines whose calls overlap may enter them in either order.
func (h *history) before(p *sent, c call) bool {
	return p.delivered == len(h.calls) || h.calls[p.delivered-1].end.tick < c.begin.tick
}

// may and must report whether a packet can, and has to, pass the filter: the rules that were in
// force at some moment between sending it and its arrival.
func (h *history) passing(p *sent) (may, must bool) {
	must = true
	for i := range h.rules {
		r := &h.rules[i]
		if p.end.tick != 0 && p.end.tick < r.begin.tick && p.end.at+h.arrive < r.begin.at ||
			h.arrive == 0 && p.end.tick < r.begin.tick {
			continue // not in force yet
		}
		if i+1 < len(h.rules) && h.rules[i+1].end.tick < p.begin.tick {
			continue // not any more
		}
		if r.passes(p) {
			may = true
		} else {
			must = false
		}
	}
	return may, must && may
}

// discardable reports whether a reset returned after the packet was sent.
func (h *history) discardable(p *sent) bool {
	return slices.ContainsFunc(h.resets, func(r span) bool { return r.end.tick > p.begin.tick })
}

// overlaps reports whether a reset was under way while the packet was sent.
func (h *history) overlaps(p *sent) bool {
	return slices.ContainsFunc(h.resets, func(r span) bool {
		return r.begin.tick < p.end.tick && p.begin.tick < r.end.tick
	})
}

// discarded reports whether a packet was stored before a reset that had returned when c began.
func (h *history) discarded(p *sent, c call) bool {
	return slices.ContainsFunc(h.resets, func(r span) bool {
		if r.end.tick >= c.begin.tick || p.end.tick > r.begin.tick {
			return false
		}
		lag := h.arrive + h.store
		return lag == 0 || p.end.at+lag < r.begin.at
	})
}

// A verdict is the judgement on a history.
type verdict struct {
	sent, delivered, discarded, dropped, filtered, operations int
	wrong                                                     []string
}

// judge looks at every packet. mayDrop is how many packets the kernel says it has dropped, for
// packets of which the history does not know it one by one. ended says that the Reader was read to
// the end.
func (h *history) judge(mayDrop uint64, ended bool) (v verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	bad := func(n int, format string, args ...any) {
		v.wrong = append(v.wrong, fmt.Sprintf("packet %d: ", n)+fmt.Sprintf(format, args...))
	}
	v.sent, v.operations = len(h.packets), len(h.calls)+len(h.resets)+len(h.rules)
	missing := 0
	for n, p := range h.packets {
		may, must := h.passing(p)
		if h.overlaps(p) { // the reset may have zeroed the counters that told
			p.matched, p.dropped = notKnown, notKnown
		}
		if p.matched != notKnown && (p.matched == yes && !may || p.matched == no && must) {
			bad(n, "the kernel says matched %v, the rules say otherwise", p.matched == yes)
		}
		if p.delivered == 0 {
			switch {
			case p.dropped == yes:
				v.dropped++
			case !must || p.matched == no:
				v.filtered++
			case h.discardable(p):
				v.discarded++
			case !ended:
			case p.dropped == notKnown:
				missing++
			default:
				bad(n, "lost: sent %v, passed the filter, never delivered", p.begin)
			}
			continue
		}
		v.delivered++
		c := h.calls[p.delivered-1]
		switch {
		case !may:
			bad(n, "delivered, but no filter in force let it through")
		case p.dropped == yes:
			bad(n, "delivered, but the kernel dropped it")
		case h.discarded(p, c):
			bad(n, "sent %v, delivered by the call %v after a reset", p.span, c.span)
		}
		from := max(p.end.at+h.arrive+h.store, c.begin.at)
		if h.timeout >= 0 && c.end.at-from > h.timeout+h.slack {
			bad(n, "late: sent %v, delivered by the call %v", p.span, c.span)
		}
	}
	if uint64(missing) > mayDrop {
		v.wrong = append(v.wrong, fmt.Sprintf("%d packets are missing, and the kernel dropped %d",
			missing, mayDrop))
	}
	v.dropped += missing
	h.judgeErrors(bad)
	return v
}

// judgeErrors checks that no call gave up while a packet was there that it had to deliver.
func (h *history) judgeErrors(bad func(int, string, ...any)) {
	for i, c := range h.calls {
		if !c.err {
			continue
		}
		since := min(c.begin.at, c.since)
		if c.deadline {
			since = h.overSince(c)
		}
		for _, e := range h.calls[:i] { // a read goes on anew after an error
			if e.err && e.end.tick < c.begin.tick {
				since = max(since, e.begin.at)
			}
		}
		for n, p := range h.packets {
			if p.begin.tick > c.end.tick {
				break
			}
			if p.delivered == 0 || p.end.tick == 0 {
				continue
			}
			if h.calls[p.delivered-1].begin.tick <= c.end.tick { // it may have been another goroutine's
				continue
			}
			if there := p.end.at + h.arrive + h.store; p.end.tick < c.begin.tick && there < since {
				bad(n, "sent %v, was there when the call %v ended without a packet", p.span, c.span)
			}
		}
	}
}
