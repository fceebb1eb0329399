package contestant

import "unsafe"

// touch loads a word of each cache line. A loop over a slice would check its bounds, and cost three
// times what it costs in C.
func touch(data []byte) (sum uint64) {
	if len(data) < 8 {
		return 0
	}
	p, last := unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data)-8)
	for i := uintptr(0); ; { // the test stands at the end, as in C: Go's compiler would have two
		sum += *(*uint64)(unsafe.Add(p, i))
		if i += 64; i > last {
			return sum
		}
	}
}
