package source

import (
	"errors"
	"fmt"
	"math"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// ErrFilterLength is in the error of [CheckFilter].
var ErrFilterLength = errors.New("filter program too long")

type filterLengthError string

func (e filterLengthError) Error() string        { return string(e) }
func (e filterLengthError) Is(target error) bool { return target == ErrFilterLength }

// maxFilterText is the length of the longest text that fits into an option of a pcapng file.
const maxFilterText = math.MaxUint16 - 1

// filtered notes in an interface's entry the filter that its packets had to pass.
func filtered(i *pcapio.Interface, cfg bpf.Config) {
	switch text := cfg.Expression; {
	case len(text) > maxFilterText:
		i.Filter, i.Program = "", nil
		i.Comment = fmt.Sprintf("captured by an expression of %d bytes, too long for this file",
			len(text))
	case text != "":
		i.Filter, i.Program = text, nil
	case len(cfg.Filter) > 0:
		i.Filter, i.Program = "", cfg.Filter
		i.Comment = fmt.Sprintf("captured through a filter program of %d instructions",
			len(cfg.Filter))
	}
}

const (
	opRetA     = 0x16 // BPF_RET|BPF_A
	snapLenAdd = 3    // instructions that bpf.Open adds for SnapLen
)

// CheckFilter returns nil if a kernel takes the configuration's filter. maxInsns is the kernel's
// limit of instructions, the sysctl net.bpf.maxinsns. The error of CheckFilter has the two numbers.
// The kernel itself says "invalid argument".
//
// Errors:
//   - [ErrFilterLength]: the program is too long.
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
