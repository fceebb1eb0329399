//go:build 386

package zbuf

import "structs"

const (
	sizeofPointer = 4
	sizeofTimeval = 8
	sizeofProgram = 8
	sizeofZbuf    = 12
	sizeofDLTList = 8
	sizeofIfList  = 12
	sizeofHdr     = 20
	sizeofXhdr    = 28
	sizeofXbpfD   = 160

	xbpfdShift = 4
)

// WordSize is the size of a long, in bytes.
const WordSize = sizeofPointer

// Alignment is BPF_ALIGNMENT: every record begins at a multiple of it, counted
// from the first one.
const Alignment = 4

// Timeval is struct timeval.
type Timeval struct {
	_    structs.HostLayout
	Sec  int32
	Usec int32
}

// Hdr is struct bpf_hdr, in front of each packet when time stamps are in
// microseconds or off. The packet begins Hdrlen bytes behind the start of it,
// which is less than the size of the struct.
type Hdr struct {
	_       structs.HostLayout
	Tstamp  Timeval
	Caplen  uint32 // bytes captured
	Datalen uint32 // bytes on the wire
	Hdrlen  uint16 // bytes from the start of the header to the packet
	_       [2]byte
}

// Xhdr is struct bpf_xhdr, in front of each packet when time stamps are in
// nanoseconds or binary.
type Xhdr struct {
	_       structs.HostLayout
	Tstamp  Ts
	Caplen  uint32 // bytes captured
	Datalen uint32 // bytes on the wire
	Hdrlen  uint16 // bytes from the start of the header to the packet
	_       [2]byte
}

// XbpfD is struct xbpf_d, one listener in the answer of the sysctl
// net.bpf.stats.
type XbpfD struct {
	_          structs.HostLayout
	Structsize uint32
	Promisc    uint8
	Immediate  uint8
	_          [6]byte
	Hdrcmplt   int32
	Direction  int32
	Feedback   int32
	Async      int32
	Rcount     uint64 // packets seen, before the filter
	Dcount     uint64 // packets that matched and found no room
	Fcount     uint64 // packets that matched
	Sig        int32
	Slen       int32 // bytes in the store buffer
	Hlen       int32 // bytes in the hold buffer
	Bufsize    int32 // usable bytes of each buffer
	Pid        int32
	Ifname     [IFNAMSIZ]byte
	Locked     int32
	Wcount     uint64 // packets written
	Wfcount    uint64 // packets written that passed the write filter
	Wdcount    uint64 // packets written that the interface refused
	Zcopy      uint64 // appends in zero-copy mode, two or three for each packet
	Bufmode    int32
	Spare      [4]uint64
}
