package bpf

import (
	"sync/atomic"
	"unsafe"
)

// firstHdrlen returns the word of a buffer's first record header that holds bh_hdrlen. The reader
// loads it atomically, because the kernel may be writing it. Records are aligned, so the word is
// too. See "The tail" in docs/design.md.
func firstHdrlen(data []byte) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&data[offHdrlen : offHdrlen+4][0]))
}
