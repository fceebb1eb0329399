package zbuf

import "golang.org/x/net/bpf"

// Buffer modes of a descriptor (BIOCGETBUFMODE, BIOCSETBUFMODE).
const (
	BPF_BUFMODE_BUFFER = 1 // the kernel keeps the packets until read(2) copies them out
	BPF_BUFMODE_ZBUF   = 2 // the kernel puts the packets into two buffers lent by the process
)

// Directions (BIOCSDIRECTION).
const (
	BPF_D_IN    = 0 // packets the interface received
	BPF_D_INOUT = 1 // both; the default
	BPF_D_OUT   = 2 // packets the host sent
)

// Time stamp formats and flags (BIOCSTSTAMP). A value is one format, or'ed with one flag unless the
// format is BPF_T_NONE.
const (
	BPF_T_MICROTIME   = 0x0000 // struct timeval; records begin with [Hdr]
	BPF_T_NANOTIME    = 0x0001 // struct timespec; records begin with [Xhdr]
	BPF_T_BINTIME     = 0x0002 // 2^-64 s; records begin with [Xhdr]
	BPF_T_NONE        = 0x0003 // no time stamp; records begin with [Hdr]
	BPF_T_FORMAT_MASK = 0x0003

	BPF_T_NORMAL         = 0x0000 // precise, since the epoch
	BPF_T_FAST           = 0x0100 // as of the last clock tick, since the epoch
	BPF_T_MONOTONIC      = 0x0200 // precise, since boot
	BPF_T_MONOTONIC_FAST = 0x0300 // as of the last clock tick, since boot
	BPF_T_FLAG_MASK      = 0x0300
)

// Limits of bpf(4) (sys/net/bpf.h). MAXINSNS and MAXBUFSIZE are the defaults of the sysctls
// net.bpf.maxinsns and net.bpf.maxbufsize.
const (
	BPF_MAXINSNS      = 512
	BPF_MAXBUFSIZE    = 0x80000
	BPF_MINBUFSIZE    = 32
	BPF_MAJOR_VERSION = 1
	BPF_MINOR_VERSION = 1
	IFNAMSIZ          = 16
)

// SizeofZbufHeader is the number of bytes at the start of a lent buffer that hold its [ZbufHeader].
// Packet records begin behind it.
const SizeofZbufHeader = 32

// Insn is one instruction of a filter program (struct bpf_insn). It is the raw form that
// golang.org/x/net/bpf has.
type Insn = bpf.RawInstruction

// WordSize is the size of a long, in bytes.
const WordSize = sizeofPointer

// Alignment is BPF_ALIGNMENT. Every record begins at a multiple of it, counted from the first one.
const Alignment = WordSize
