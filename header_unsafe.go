package zbuf

import "unsafe"

// headerOf looks at the start of lent memory as the header that the kernel sees
// there: the one place where the two views of the same bytes meet. The slice bounds are
// checked first; the memory is page-aligned.
func headerOf(mem []byte) *ZbufHeader {
	return (*ZbufHeader)(unsafe.Pointer(&mem[:SizeofZbufHeader][0]))
}
