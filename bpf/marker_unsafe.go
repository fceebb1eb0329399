package bpf

import (
	"sync/atomic"
	"unsafe"
)

// firstHdrlen is the word of a buffer's first record header that holds bh_hdrlen. It is
// looked at while the kernel may be writing it, hence atomically; records are aligned, so
// the word is. See "The tail" in docs/design.md.
func firstHdrlen(data []byte) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&data[offHdrlen : offHdrlen+4][0]))
}
