package zbuf

import "unsafe"

// headerOf returns the start of lent memory as the header that the kernel sees there. It checks the
// slice's bounds first. The memory is page-aligned.
func headerOf(mem []byte) *ZbufHeader {
	return (*ZbufHeader)(unsafe.Pointer(&mem[:SizeofZbufHeader][0]))
}
