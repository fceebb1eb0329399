package zbuf

import (
	"fmt"
	"maps"
	"slices"
)

// Request is the number of an ioctl(2) request as FreeBSD's <sys/ioccom.h>
// builds it: direction, argument size, group and number.
type Request uint32

const (
	iocVoid Request = 0x20000000 // no argument
	iocOut  Request = 0x40000000 // the kernel writes the argument
	iocIn   Request = 0x80000000 // the kernel reads the argument
)

const (
	groupBPF  = Request('B') << 8
	groupFile = Request('f') << 8
	groupTTY  = Request('t') << 8
)

// The requests that bpf(4) answers (sys/net/bpf.h, bpfioctl in
// sys/net/bpf.c), with the type of the argument that [Backend.Ioctl] is given.
// Those whose argument holds a pointer or a long differ in number between
// architectures.
const (
	BIOCGBLEN      = iocOut | 4<<16 | groupBPF | 102                     // *uint32
	BIOCSBLEN      = iocIn | iocOut | 4<<16 | groupBPF | 102             // *uint32
	BIOCSETF       = iocIn | sizeofProgram<<16 | groupBPF | 103          // *Program
	BIOCFLUSH      = iocVoid | groupBPF | 104                            // nil
	BIOCPROMISC    = iocVoid | groupBPF | 105                            // nil
	BIOCGDLT       = iocOut | 4<<16 | groupBPF | 106                     // *uint32
	BIOCGETIF      = iocOut | sizeofIfreq<<16 | groupBPF | 107           // *Ifreq
	BIOCSETIF      = iocIn | sizeofIfreq<<16 | groupBPF | 108            // *Ifreq
	BIOCSRTIMEOUT  = iocIn | sizeofTimeval<<16 | groupBPF | 109          // *Timeval
	BIOCGRTIMEOUT  = iocOut | sizeofTimeval<<16 | groupBPF | 110         // *Timeval
	BIOCGSTATS     = iocOut | sizeofStat<<16 | groupBPF | 111            // *Stat
	BIOCIMMEDIATE  = iocIn | 4<<16 | groupBPF | 112                      // *uint32
	BIOCVERSION    = iocOut | sizeofVersion<<16 | groupBPF | 113         // *Version
	BIOCGRSIG      = iocOut | 4<<16 | groupBPF | 114                     // *uint32
	BIOCSRSIG      = iocIn | 4<<16 | groupBPF | 115                      // *uint32
	BIOCGHDRCMPLT  = iocOut | 4<<16 | groupBPF | 116                     // *uint32
	BIOCSHDRCMPLT  = iocIn | 4<<16 | groupBPF | 117                      // *uint32
	BIOCGDIRECTION = iocOut | 4<<16 | groupBPF | 118                     // *uint32
	BIOCSDIRECTION = iocIn | 4<<16 | groupBPF | 119                      // *uint32
	BIOCSDLT       = iocIn | 4<<16 | groupBPF | 120                      // *uint32
	BIOCGDLTLIST   = iocIn | iocOut | sizeofDLTList<<16 | groupBPF | 121 // *DLTList
	BIOCLOCK       = iocVoid | groupBPF | 122                            // nil
	BIOCSETWF      = iocIn | sizeofProgram<<16 | groupBPF | 123          // *Program
	BIOCFEEDBACK   = iocIn | 4<<16 | groupBPF | 124                      // *uint32
	BIOCGETBUFMODE = iocOut | 4<<16 | groupBPF | 125                     // *uint32
	BIOCSETBUFMODE = iocIn | 4<<16 | groupBPF | 126                      // *uint32
	BIOCGETZMAX    = iocOut | sizeofPointer<<16 | groupBPF | 127         // *uintptr
	BIOCROTZBUF    = iocOut | sizeofZbuf<<16 | groupBPF | 128            // *Zbuf
	BIOCSETZBUF    = iocIn | sizeofZbuf<<16 | groupBPF | 129             // *Zbuf
	BIOCSETFNR     = iocIn | sizeofProgram<<16 | groupBPF | 130          // *Program
	BIOCGTSTAMP    = iocOut | 4<<16 | groupBPF | 131                     // *uint32
	BIOCSTSTAMP    = iocIn | 4<<16 | groupBPF | 132                      // *uint32
	BIOCSETVLANPCP = iocIn | 4<<16 | groupBPF | 133                      // *uint32
	BIOCGETIFLIST  = iocIn | iocOut | sizeofIfList<<16 | groupBPF | 134  // *IfList
	FIONREAD       = iocOut | 4<<16 | groupFile | 127                    // *int32
	FIONBIO        = iocIn | 4<<16 | groupFile | 126                     // *int32
	FIOASYNC       = iocIn | 4<<16 | groupFile | 125                     // *int32
	FIOSETOWN      = iocIn | 4<<16 | groupFile | 124                     // *int32
	FIOGETOWN      = iocOut | 4<<16 | groupFile | 123                    // *int32
	TIOCSPGRP      = iocIn | 4<<16 | groupTTY | 118                      // *int32
	TIOCGPGRP      = iocOut | 4<<16 | groupTTY | 119                     // *int32
)

// BIOCGSEESENT and BIOCSSEESENT are the older names of the direction requests.
const (
	BIOCGSEESENT = BIOCGDIRECTION
	BIOCSSEESENT = BIOCSDIRECTION
)

var requestNames = map[Request]string{
	BIOCGBLEN: "BIOCGBLEN", BIOCSBLEN: "BIOCSBLEN", BIOCSETF: "BIOCSETF",
	BIOCFLUSH: "BIOCFLUSH", BIOCPROMISC: "BIOCPROMISC", BIOCGDLT: "BIOCGDLT",
	BIOCGETIF: "BIOCGETIF", BIOCSETIF: "BIOCSETIF", BIOCSRTIMEOUT: "BIOCSRTIMEOUT",
	BIOCGRTIMEOUT: "BIOCGRTIMEOUT", BIOCGSTATS: "BIOCGSTATS", BIOCIMMEDIATE: "BIOCIMMEDIATE",
	BIOCVERSION: "BIOCVERSION", BIOCGRSIG: "BIOCGRSIG", BIOCSRSIG: "BIOCSRSIG",
	BIOCGHDRCMPLT: "BIOCGHDRCMPLT", BIOCSHDRCMPLT: "BIOCSHDRCMPLT",
	BIOCGDIRECTION: "BIOCGDIRECTION", BIOCSDIRECTION: "BIOCSDIRECTION",
	BIOCSDLT: "BIOCSDLT", BIOCGDLTLIST: "BIOCGDLTLIST", BIOCLOCK: "BIOCLOCK",
	BIOCSETWF: "BIOCSETWF", BIOCFEEDBACK: "BIOCFEEDBACK",
	BIOCGETBUFMODE: "BIOCGETBUFMODE", BIOCSETBUFMODE: "BIOCSETBUFMODE",
	BIOCGETZMAX: "BIOCGETZMAX", BIOCROTZBUF: "BIOCROTZBUF", BIOCSETZBUF: "BIOCSETZBUF",
	BIOCSETFNR: "BIOCSETFNR", BIOCGTSTAMP: "BIOCGTSTAMP", BIOCSTSTAMP: "BIOCSTSTAMP",
	BIOCSETVLANPCP: "BIOCSETVLANPCP", BIOCGETIFLIST: "BIOCGETIFLIST",
	FIONREAD: "FIONREAD", FIONBIO: "FIONBIO", FIOASYNC: "FIOASYNC",
	FIOSETOWN: "FIOSETOWN", FIOGETOWN: "FIOGETOWN",
	TIOCSPGRP: "TIOCSPGRP", TIOCGPGRP: "TIOCGPGRP",
}

// String returns the name that <net/bpf.h> gives the request.
func (r Request) String() string {
	if s, ok := requestNames[r]; ok {
		return s
	}
	return fmt.Sprintf("Request(%#x)", uint32(r))
}

// Requests returns every request in this list, in no order.
func Requests() []Request { return slices.Collect(maps.Keys(requestNames)) }
