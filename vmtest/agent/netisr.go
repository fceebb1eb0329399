package main

import (
	"encoding/binary"
	"fmt"
)

// drops returns the number of frames that the queues of a protocol dropped, over all threads. work
// is the value of net.isr.work: structs sysctl_netisr_work, each of which begins with its length.
func drops(work []byte, proto uint32) (n uint64, err error) {
	const protoAt, dropsAt, least = 8, 48, 56 // snw_proto, snw_qdrops
	for len(work) > 0 {
		if len(work) < least {
			return 0, fmt.Errorf("net.isr.work: %d bytes are left", len(work))
		}
		size := binary.NativeEndian.Uint32(work)
		if size < least || int64(size) > int64(len(work)) {
			return 0, fmt.Errorf("net.isr.work: a record of %d bytes where %d are left", size, len(work))
		}
		if binary.NativeEndian.Uint32(work[protoAt:]) == proto {
			n += binary.NativeEndian.Uint64(work[dropsAt:])
		}
		work = work[size:]
	}
	return n, nil
}
