package zbuf

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A sleeper waits for a descriptor in the poller of Go's runtime, so that a waiting reader occupies
// no thread. docs/design.md, "Waiting in Go's poller", has the states and the reasons.
//
// Invariants:
//   - The kqueue of the descriptor says whether there is an edge. The runtime's poller only ends
//     the sleep, because it forgets edges that come while nobody waits there.
//   - The file has a deadline if, and only if, poked is set. That deadline has passed.
//   - At most one of the alarms is running. It ends at the time until.
type sleeper struct {
	d    *descriptor
	file *os.File
	conn syscall.RawConn
	look func(fd uintptr) bool // made once, because making it allocates

	mu     sync.Mutex
	woken  bool // Wake was called, and no Wait has reported it
	change bool // an interface changed, and no Wait has reported it
	poked  bool // the sleep that is under way ends, or the next one
	until  time.Time
	alarms [2]*time.Timer
	alarm  int // the one that runs, if until is not zero

	calls atomic.Uint64 // system calls that edge has made
	watch *watch        // tells of interfaces; nil if nothing does

	// These are of the one goroutine in Wait.
	rearm, slept bool
	ev           Event
	err          error
}

// newSleeper returns nil where the runtime's poller can't watch a bpf descriptor. The poller asks
// for EVFILT_WRITE too, and refuses a file without it. But it leaves such a file's EVFILT_READ
// behind, so newSleeper asks first. The sleeper owns the file descriptor.
func newSleeper(d *descriptor) *sleeper {
	for _, flags := range []int{unix.EV_ADD, unix.EV_DELETE} {
		var k unix.Kevent_t
		unix.SetKevent(&k, d.fd, unix.EVFILT_WRITE, flags)
		if _, err := unix.Kevent(d.kq, []unix.Kevent_t{k}, nil, nil); err != nil {
			return nil
		}
	}
	s := &sleeper{d: d, file: os.NewFile(uintptr(d.fd), "/dev/bpf")}
	s.conn, _ = s.file.SyscallConn() // it fails only for no file
	s.look = s.looks
	for i := range s.alarms {
		s.alarms[i] = time.AfterFunc(time.Hour, s.ring)
		s.alarms[i].Stop()
	}
	return s
}

func (s *sleeper) wait(rearm bool, timeout time.Duration) (Event, error) {
	if s.prepare(timeout) {
		s.rearm, s.slept, s.ev, s.err = rearm, false, Event{}, nil
		if err := s.conn.Read(s.look); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return Event{}, err
		}
	}
	s.mu.Lock()
	s.ev.Woken, s.woken = s.woken, false
	s.ev.Changed, s.change = s.change, false
	s.mu.Unlock()
	return s.ev, s.err
}

// slack is how much earlier or later than asked a sleep may end. Waits that end at about the same
// time have one alarm.
const slack = 50 * time.Microsecond

// prepare sets the alarm. It returns false if Wake or changed was called.
func (s *sleeper) prepare(timeout time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ev, s.err = Event{}, nil
	if s.woken || s.change {
		return false
	}
	if s.poked {
		s.poked = false
		s.file.SetReadDeadline(time.Time{})
	}
	var until time.Time
	if timeout >= 0 {
		until = time.Now().Add(timeout)
	}
	if off := s.until.Sub(until); off >= -slack && off <= slack {
		return true
	}
	// A timer that is moved stays where it was in the runtime's heap, and wakes a thread there. One
	// that is stopped goes away at once. So the next alarm is the other timer.
	s.alarms[s.alarm].Stop()
	s.until = until
	if timeout >= 0 {
		s.alarm ^= 1
		s.alarms[s.alarm].Reset(timeout)
	}
	return true
}

// looks runs before the goroutine sleeps, and each time that the poller wakes it. The first time it
// looks afresh if rearm says so. Later it only takes the edge, and the goroutine sleeps on if the
// kqueue has forgotten the edge.
//
// The kernel tells one registration after the other, while it has the descriptor locked. So the
// poller may be ahead of the kqueue. Detached takes that lock. After it the kqueue has the edge.
func (s *sleeper) looks(uintptr) bool {
	s.take(s.rearm && !s.slept)
	if s.slept && !s.ev.Readable && s.err == nil {
		s.calls.Add(1)
		s.d.Detached()
		s.take(false)
	}
	s.slept = true
	return s.ev.Readable || s.err != nil
}

func (s *sleeper) take(rearm bool) {
	s.calls.Add(1)
	s.ev, s.err = s.d.edge(rearm)
}

// ring ends the sleep at the time of an alarm. An alarm that is late may end the next sleep early.
func (s *sleeper) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
	s.poke()
}

func (s *sleeper) wake() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken = true
	return s.poke()
}

// changed ends the sleep because an interface has changed.
func (s *sleeper) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change = true
	s.poke()
}

func (s *sleeper) poke() error {
	s.poked = true
	return s.file.SetReadDeadline(time.Unix(1, 0))
}

// close closes the descriptor. Nobody waits.
func (s *sleeper) close() error {
	s.watch.leave(s)
	for _, a := range s.alarms {
		a.Stop()
	}
	return s.file.Close()
}
