package bpftest

import (
	"sync/atomic"
	"unsafe"

	"github.com/zbuf-go/zbuf"
)

// wordAt returns four bytes of shared memory as a word, for the stores and loads that the protocol
// makes atomic. mem begins page-aligned and off is a multiple of 4.
func wordAt(mem []byte, off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}

// address returns the address in p, to compare with the addresses of lent memory.
func address(p *byte) uintptr { return uintptr(unsafe.Pointer(p)) }

// instructions is copyin(9) of a filter program. The caller has checked its length.
func instructions(p *zbuf.Program) []zbuf.Insn {
	return unsafe.Slice(p.Insns, p.Len)
}

// linkTypes returns the memory where copyout(9) puts the answer of BIOCGDLTLIST.
func linkTypes(p *zbuf.DLTList) []uint32 { return unsafe.Slice(p.List, p.Len) }

// names returns the memory where copyout(9) puts the answer of BIOCGETIFLIST.
func names(p *zbuf.IfList) []byte { return unsafe.Slice(p.Ubuf, p.Size) }
