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

	typeSyscall   = 1
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
	order := binary.NativeEndian
	for len(b) > 0 {
		if len(b) < sizeofHeader {
			return t, fmt.Errorf("ktrace: %d bytes left, no header", len(b))
		}
		typ, headerSize := order.Uint16(b[offType:]), sizeofHeader
		if typ&flagVersioned != 0 {
			headerSize = sizeofHeader1
		}
		size := headerSize + int(int32(order.Uint32(b)))
		if size < headerSize || size > len(b) {
			return t, fmt.Errorf("ktrace: record of %d bytes where %d are left", size, len(b))
		}
		if typ&flagDrop != 0 {
			return t, errDropped
		}
		thread, body := int64(order.Uint64(b[offThread:])), b[headerSize:size]
		switch typ &^ flagVersioned {
		case typeSwitch:
			if len(body) < 4 {
				return t, errors.New("ktrace: record of a switch without its direction")
			}
			if order.Uint32(body) == 1 {
				t.Sleeps[last[thread]]++
			}
		case typeSyscall:
			if len(body) < 4 {
				return t, errors.New("ktrace: record of a system call without its number")
			}
			c := Call{Thread: thread, Number: int(order.Uint16(body))}
			if args := order.Uint16(body[2:]); args > 0 && len(body) >= offArgs+8 {
				c.First = order.Uint64(body[offArgs:])
			}
			t.Calls[c]++
			last[thread] = c
		}
		b = b[size:]
	}
	return t, nil
}
