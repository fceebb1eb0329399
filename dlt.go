package zbuf

import (
	"strconv"
	"strings"
)

// DLTName returns the name that <net/dlt.h> gives a link type, without "DLT_". It returns "DLT 500"
// for a number that has no name.
func DLTName(dlt uint32) string {
	for _, l := range linkTypes {
		if l.dlt == dlt {
			return l.name
		}
	}
	return "DLT " + strconv.FormatUint(uint64(dlt), 10)
}

// DLTByName returns the link type of a name, with or without "DLT_", in upper or lower case. It
// reports whether there is one.
func DLTByName(name string) (dlt uint32, ok bool) {
	name = strings.TrimPrefix(strings.ToUpper(name), "DLT_")
	for _, l := range linkTypes {
		if l.name == name {
			return l.dlt, true
		}
	}
	return 0, false
}

// DLTToLinkType returns the number that capture files give a link type, a LINKTYPE_ number. FreeBSD
// gives some link types another number than capture files do: DLT_RAW is 12, LINKTYPE_RAW is 101.
func DLTToLinkType(dlt uint32) uint16 {
	for _, l := range linkTypesInFiles {
		if l.dlt == dlt {
			return l.file
		}
	}
	return uint16(dlt)
}

// LinkTypeToDLT returns the link type of a LINKTYPE_ number, the reverse of [DLTToLinkType].
func LinkTypeToDLT(linkType uint16) uint32 {
	for _, l := range linkTypesInFiles {
		if l.file == linkType {
			return l.dlt
		}
	}
	return uint32(linkType)
}
