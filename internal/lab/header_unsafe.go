package lab

import (
	"sync/atomic"
	"unsafe"

	"github.com/zbuf-go/zbuf"
)

// HeaderOf looks at lent memory as its header: tests need to write what the
// binding only reads. The memory is page-aligned.
func HeaderOf(mem []byte) *Header { return (*Header)(unsafe.Pointer(&mem[:32][0])) }

// WordAt is the aligned 32-bit word at an offset of lent memory, for looks at what
// the kernel may be writing.
func WordAt(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}

// listeners is what the sysctl net.bpf.stats returned, as structs.
func listeners(p []byte) []zbuf.XbpfD {
	var list []zbuf.XbpfD
	const size = int(unsafe.Sizeof(zbuf.XbpfD{}))
	for ; len(p) >= size; p = p[size:] {
		var x zbuf.XbpfD
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&x)), size), p)
		list = append(list, x)
	}
	return list
}

// SizeofListener is the size of struct xbpf_d in this process.
const SizeofListener = int(unsafe.Sizeof(zbuf.XbpfD{}))
