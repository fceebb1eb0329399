package lab

import (
	"sync/atomic"
	"unsafe"
)

// HeaderOf looks at lent memory as its header: tests need to write what the
// binding only reads. The memory is page-aligned.
func HeaderOf(mem []byte) *Header { return (*Header)(unsafe.Pointer(&mem[:32][0])) }

// WordAt is the aligned 32-bit word at an offset of lent memory, for looks at what
// the kernel may be writing.
func WordAt(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}
