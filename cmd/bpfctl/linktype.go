package main

// linkTypes are the DLT_ numbers that FreeBSD gives another meaning than capture files do
// (LINKTYPE_, which pcap-common.c of libpcap translates from). The others are the same.
var linkTypes = map[uint32]uint16{
	11:  100, // DLT_ATM_RFC1483
	12:  101, // DLT_RAW
	13:  102, // DLT_SLIP_BSDOS
	14:  103, // DLT_PPP_BSDOS
	19:  106, // DLT_ATM_CLIP
	121: 246, // DLT_PFSYNC
}

func linkTypeOf(dlt uint32) uint16 {
	if l, ok := linkTypes[dlt]; ok {
		return l
	}
	return uint16(dlt)
}
