// Package linktype translates between FreeBSD's link types and those of capture files.
package linktype

import "strconv"

// differ are the DLT_ numbers that mean something else in FreeBSD than in capture files, and
// what capture files call them. All other numbers are the same (pcap-common.c of libpcap).
var differ = map[uint32]uint16{
	11:  100, // DLT_ATM_RFC1483
	12:  101, // DLT_RAW
	13:  102, // DLT_SLIP_BSDOS
	14:  103, // DLT_PPP_BSDOS
	19:  106, // DLT_ATM_CLIP
	121: 246, // DLT_PFSYNC
}

// Of returns the LINKTYPE_ number of a DLT_ number.
func Of(dlt uint32) uint16 {
	if l, ok := differ[dlt]; ok {
		return l
	}
	return uint16(dlt)
}

// Name returns the name that <net/dlt.h> gives a link type of FreeBSD's interfaces, without
// DLT_.
func Name(dlt uint32) string {
	if name, ok := names[dlt]; ok {
		return name
	}
	return "DLT " + strconv.FormatUint(uint64(dlt), 10)
}

var names = map[uint32]string{
	0: "NULL", 1: "EN10MB", 6: "IEEE802", 8: "SLIP", 9: "PPP", 12: "RAW", 50: "PPP_SERIAL",
	51: "PPP_ETHER", 104: "C_HDLC", 105: "IEEE802_11", 107: "FRELAY", 108: "LOOP", 109: "ENC",
	117: "PFLOG", 121: "PFSYNC", 122: "APPLE_IP_OVER_IEEE1394", 127: "IEEE802_11_RADIO", 186: "USB",
	247: "INFINIBAND",
}
