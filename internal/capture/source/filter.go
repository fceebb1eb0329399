package source

import (
	"errors"
	"fmt"
	"math"

	"github.com/zbuf-go/zbuf/bpf"
)

// ErrFilterLength is in the error of CheckFilter.
var ErrFilterLength = errors.New("filter program too long")

type filterLengthError string

func (e filterLengthError) Error() string        { return string(e) }
func (e filterLengthError) Is(target error) bool { return target == ErrFilterLength }

const (
	opRetA     = 0x16 // BPF_RET|BPF_A
	snapLenAdd = 3    // instructions that bpf.Open adds for SnapLen
)

// CheckFilter reports whether a kernel that takes programs of so many instructions, the sysctl
// net.bpf.maxinsns, takes the configuration's filter. The kernel itself says "invalid argument".
func CheckFilter(cfg bpf.Config, maxInsns int32) error {
	n, why := len(cfg.Filter), ""
	for _, in := range cfg.Filter {
		if in.Op == opRetA && cfg.SnapLen > 0 && cfg.SnapLen < math.MaxInt32 {
			n += snapLenAdd
			why = fmt.Sprintf(" with the %d for --snaplen", snapLenAdd)
			break
		}
	}
	if n <= int(maxInsns) {
		return nil
	}
	return filterLengthError(fmt.Sprintf("%d instructions%s, the kernel takes %d (sysctl "+
		"net.bpf.maxinsns)",
		n, why, maxInsns))
}
