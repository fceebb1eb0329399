package zbuf

import (
	"structs"

	"golang.org/x/net/bpf"
)

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

// Time stamp formats and flags (BIOCSTSTAMP). A value is one format, or'ed with
// one flag unless the format is BPF_T_NONE.
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

// Limits of bpf(4) (sys/net/bpf.h). MAXINSNS and MAXBUFSIZE are the defaults of
// the sysctls net.bpf.maxinsns and net.bpf.maxbufsize.
const (
	BPF_MAXINSNS      = 512
	BPF_MAXBUFSIZE    = 0x80000
	BPF_MINBUFSIZE    = 32
	BPF_MAJOR_VERSION = 1
	BPF_MINOR_VERSION = 1
	IFNAMSIZ          = 16
)

// SizeofZbufHeader is the number of bytes at the start of a lent buffer that
// hold its [ZbufHeader]; packet records begin behind it.
const SizeofZbufHeader = 32

// Insn is one instruction of a filter program (struct bpf_insn), the raw form
// of golang.org/x/net/bpf.
type Insn = bpf.RawInstruction

// Program is struct bpf_program, the argument of BIOCSETF, BIOCSETFNR and
// BIOCSETWF. The kernel copies the instructions; they need to live no longer
// than the call.
type Program struct {
	_     structs.HostLayout
	Len   uint32 // instructions
	Insns *Insn
}

// Zbuf is struct bpf_zbuf: the two lent buffers for BIOCSETZBUF; for BIOCROTZBUF
// the buffer that was assigned, or zero.
type Zbuf struct {
	_      structs.HostLayout
	Bufa   *byte
	Bufb   *byte
	Buflen uintptr // bytes: of each buffer for BIOCSETZBUF, of data for BIOCROTZBUF
}

// Stat is struct bpf_stat. Both counters are the kernel's 64-bit ones cut to 32.
type Stat struct {
	_    structs.HostLayout
	Recv uint32 // packets seen, before the filter
	Drop uint32 // packets that matched and found no room
}

// Version is struct bpf_version, the version of the filter language.
type Version struct {
	_     structs.HostLayout
	Major uint16
	Minor uint16
}

// DLTList is struct bpf_dltlist. With List nil the kernel answers the number of
// link types in Len.
type DLTList struct {
	_    structs.HostLayout
	Len  uint32
	List *uint32
}

// IfList is struct bpf_iflist (since 16.0). With Size 0 the kernel answers the
// bytes it needs in Size and the number of names in Count.
type IfList struct {
	_     structs.HostLayout
	Size  uint32 // bytes at Ubuf
	Count uint32
	Ubuf  *byte // NUL-terminated names
}

// Ifreq is struct ifreq as far as bpf(4) uses it: the interface's name.
type Ifreq struct {
	_     structs.HostLayout
	Name  [IFNAMSIZ]byte
	index uint16
	_     [14]byte
}

// Ts is struct bpf_ts. What Frac counts depends on the format: µs, ns or 2^-64 s.
type Ts struct {
	_    structs.HostLayout
	Sec  int64
	Frac uint64
}

const (
	sizeofIfreq   = 32
	sizeofStat    = 8
	sizeofVersion = 4
)
