package lab

import (
	"sync/atomic"
	"unsafe"

	"github.com/zbuf-go/zbuf"
)

// HeaderOf returns the header of lent memory. Tests write fields that the binding only reads. The
// memory is page-aligned.
func HeaderOf(mem []byte) *Header { return (*Header)(unsafe.Pointer(&mem[:32][0])) }

// WordAt returns the aligned 32-bit word at an offset of lent memory. The kernel may be writing it.
func WordAt(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}

// listeners converts the answer of the sysctl net.bpf.stats to structs.
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
