package zbuf

import "unsafe"

// The layouts of the structs that internal/abi does not describe, checked as in zlayout_*.go.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(Insn{})-8]
	_ = [1]struct{}{}[unsafe.Offsetof(Insn{}.Jt)-2]
	_ = [1]struct{}{}[unsafe.Offsetof(Insn{}.Jf)-3]
	_ = [1]struct{}{}[unsafe.Offsetof(Insn{}.K)-4]

	_ = [1]struct{}{}[unsafe.Sizeof(ZbufHeader{})-SizeofZbufHeader]
	_ = [1]struct{}{}[unsafe.Offsetof(ZbufHeader{}.kernelLen)-4]
	_ = [1]struct{}{}[unsafe.Offsetof(ZbufHeader{}.userGen)-8]
)
