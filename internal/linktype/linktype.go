// Package linktype translates between FreeBSD's link types and those of capture files.
package linktype

import "github.com/zbuf-go/zbuf"

// Of returns the LINKTYPE_ number of a DLT_ number.
func Of(dlt uint32) uint16 { return zbuf.DLTToLinkType(dlt) }

// Name returns the name that <net/dlt.h> gives a link type, without DLT_.
func Name(dlt uint32) string { return zbuf.DLTName(dlt) }
