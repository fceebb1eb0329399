package ktrace

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Calls has the number of each call.
type Calls map[Call]uint64

// Call is a thread, the number of a system call, and its first argument.
type Call struct {
	Thread int64
	Number int
	First  uint64
}

// Trace has what CountSleeps has seen.
type Trace struct {
	Calls Calls
	// Sleeps has how often a thread went to sleep, by the last call that it had begun.
	Sleeps Calls
}

// Wake says that a thread has woken up, and what it did then.
type Wake struct {
	Thread   int64
	Slept    Made   // the call in which it slept
	Returned int64  // what that call returned; -1 for an error, or if it slept there again
	Then     []Made // the calls up to its next sleep
}

// Made is a system call that a thread made, with its first two arguments.
type Made struct {
	Number int
	Args   [2]uint64
}

// Of returns the number of calls that a thread made. It counts calls with the given numbers, or all
// calls if there are none.
func (c Calls) Of(thread int64, numbers ...int) uint64 {
	var n uint64
	for k, v := range c {
		if k.Thread == thread && (len(numbers) == 0 || contains(numbers, k.Number)) {
			n += v
		}
	}
	return n
}

// All returns the number of calls that all threads made.
func (c Calls) All() uint64 {
	var n uint64
	for _, v := range c {
		n += v
	}
	return n
}

func contains(all []int, n int) bool {
	for _, m := range all {
		if m == n {
			return true
		}
	}
	return false
}

// This is struct ktr_header of a 64-bit kernel, with a time and a thread (sys/ktrace.h). On 14 the
// type can say that the header has a version. Then the header has one more word.
const (
	offType       = 4
	offThread     = 48
	sizeofHeader  = 56
	sizeofHeader1 = 64

	offArgs = 8 // in struct ktr_syscall

	offError    = 4 // in struct ktr_sysret
	offReturned = 8

	typeSyscall   = 1
	typeReturn    = 2
	typeSwitch    = 6 // struct ktr_csw begins with 1 where the thread goes to sleep
	flagVersioned = 0x4000
	flagDrop      = 0x8000
)

var (
	errDropped = errors.New("ktrace: the kernel has dropped records: raise kern.ktrace.request_pool")
	errNothing = errors.New("ktrace: the trace has no record of the call that ended it, " +
		"so it may have none of others: this kernel writes another format")
)

// withoutEnd removes the call that ended the trace. That call is always in the trace.
func (c Calls) withoutEnd(number int) (Calls, error) {
	ended := false
	for k := range c {
		if k.Number == number {
			delete(c, k)
			ended = true
		}
	}
	if !ended {
		return nil, errNothing
	}
	return c, nil
}

// parse counts the KTR_SYSCALL and KTR_CSW records of a trace file.
func parse(b []byte) (Trace, error) {
	t, last := Trace{Calls{}, Calls{}}, map[int64]Call{}
	err := records(b, func(typ uint16, thread int64, body []byte) error {
		switch typ {
		case typeSwitch:
			out, err := sleeps(body)
			if err != nil {
				return err
			}
			if out {
				t.Sleeps[last[thread]]++
			}
		case typeSyscall:
			m, err := made(body)
			if err != nil {
				return err
			}
			c := Call{Thread: thread, Number: m.Number, First: m.Args[0]}
			t.Calls[c]++
			last[thread] = c
		}
		return nil
	})
	return t, err
}

// parseWakes returns the wake-ups of a trace file, those of each thread in their order. A thread
// that does not wake up any more has none for its last sleep.
func parseWakes(b []byte) (list []Wake, err error) {
	type state struct {
		call   Made // the last call that the thread has begun
		asleep bool
		wake   int // the last wake-up of the thread in list, if woken is set
		woken  bool
		inCall bool // that was in a call that has not returned
	}
	threads := map[int64]*state{}
	err = records(b, func(typ uint16, thread int64, body []byte) error {
		s := threads[thread]
		if s == nil {
			s = &state{}
			threads[thread] = s
		}
		switch typ {
		case typeSwitch:
			out, err := sleeps(body)
			if err != nil {
				return err
			}
			if !out && s.asleep {
				s.wake, s.woken, s.inCall = len(list), true, true
				list = append(list, Wake{Thread: thread, Slept: s.call, Returned: -1})
			}
			s.asleep = out
		case typeSyscall:
			if s.call, err = made(body); err != nil {
				return err
			}
			s.inCall = false
			if s.woken {
				list[s.wake].Then = append(list[s.wake].Then, s.call)
			}
		case typeReturn:
			if len(body) < offReturned+8 {
				return errors.New("ktrace: record of a return without its value")
			}
			order := binary.NativeEndian
			if s.inCall && order.Uint32(body[offError:]) == 0 {
				list[s.wake].Returned = int64(order.Uint64(body[offReturned:]))
			}
			s.inCall = false
		}
		return nil
	})
	return list, err
}

// sleeps reports whether a thread goes to sleep, by the body of a KTR_CSW record.
func sleeps(body []byte) (bool, error) {
	if len(body) < 4 {
		return false, errors.New("ktrace: record of a switch without its direction")
	}
	return binary.NativeEndian.Uint32(body) == 1, nil
}

// made reads the body of a KTR_SYSCALL record.
func made(body []byte) (m Made, err error) {
	if len(body) < 4 {
		return m, errors.New("ktrace: record of a system call without its number")
	}
	order := binary.NativeEndian
	m.Number = int(order.Uint16(body))
	for i := range min(int(order.Uint16(body[2:])), len(m.Args)) {
		if at := offArgs + 8*i; len(body) >= at+8 {
			m.Args[i] = order.Uint64(body[at:])
		}
	}
	return m, nil
}

// records calls f for each record of a trace file.
func records(b []byte, f func(typ uint16, thread int64, body []byte) error) error {
	order := binary.NativeEndian
	for len(b) > 0 {
		if len(b) < sizeofHeader {
			return fmt.Errorf("ktrace: %d bytes left, no header", len(b))
		}
		typ, headerSize := order.Uint16(b[offType:]), sizeofHeader
		if typ&flagVersioned != 0 {
			headerSize = sizeofHeader1
		}
		size := headerSize + int(int32(order.Uint32(b)))
		if size < headerSize || size > len(b) {
			return fmt.Errorf("ktrace: record of %d bytes where %d are left", size, len(b))
		}
		if typ&flagDrop != 0 {
			return errDropped
		}
		thread := int64(order.Uint64(b[offThread:]))
		if err := f(typ&^flagVersioned, thread, b[headerSize:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}
