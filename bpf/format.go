package bpf

// stamp is the form of the time in a record.
type stamp uint8

const (
	stampNano        stamp = iota // bpf_ts, ns
	stampMicro                    // timeval
	stampBinary                   // bpf_ts, 2^-64 s
	stampNone                     // not set
	stampNanoAsMicro              // bpf_ts, ns, to be cut to µs
)

// Offsets in a record. They are the same for struct bpf_xhdr everywhere and for struct bpf_hdr of
// 64-bit processes. The reader asks for no others.
const (
	offSec     = 0
	offFrac    = 8
	offCaplen  = 16
	offDatalen = 20
	offHdrlen  = 24
	minHdrlen  = 26 // up to the end of bh_hdrlen; padding may follow
)
