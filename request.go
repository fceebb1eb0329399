package zbuf

import (
	"fmt"
	"slices"
)

//go:generate go run ./internal/abi/gen

// Request is the number of an ioctl(2) request as FreeBSD's <sys/ioccom.h> builds it: direction,
// argument size, group and number.
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

// BIOCGSEESENT and BIOCSSEESENT are the older names of the direction requests.
const (
	BIOCGSEESENT = BIOCGDIRECTION
	BIOCSSEESENT = BIOCSDIRECTION
)

// String returns the name that <net/bpf.h> gives the request.
func (r Request) String() string {
	if s := r.name(); s != "" {
		return s
	}
	return fmt.Sprintf("Request(%#x)", uint32(r))
}

// Requests returns every request that bpf(4) answers.
func Requests() []Request { return slices.Clone(allRequests) }
