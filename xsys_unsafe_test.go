//go:build freebsd

package zbuf

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

// Where x/sys has a number or a struct, ours is the same.
func TestSameAsXSys(t *testing.T) {
	for _, c := range []struct {
		name       string
		ours, xsys uint64
	}{
		{"BIOCGSEESENT", uint64(BIOCGSEESENT), unix.BIOCGSEESENT},
		{"BIOCSSEESENT", uint64(BIOCSSEESENT), unix.BIOCSSEESENT},
		{"BUFMODE_BUFFER", BPF_BUFMODE_BUFFER, unix.BPF_BUFMODE_BUFFER},
		{"BUFMODE_ZBUF", BPF_BUFMODE_ZBUF, unix.BPF_BUFMODE_ZBUF},
		{"T_MICROTIME", BPF_T_MICROTIME, unix.BPF_T_MICROTIME},
		{"T_NANOTIME", BPF_T_NANOTIME, unix.BPF_T_NANOTIME},
		{"T_BINTIME", BPF_T_BINTIME, unix.BPF_T_BINTIME},
		{"T_NONE", BPF_T_NONE, unix.BPF_T_NONE},
		{"T_FORMAT_MASK", BPF_T_FORMAT_MASK, unix.BPF_T_FORMAT_MASK},
		{"T_FLAG_MASK", BPF_T_FLAG_MASK, unix.BPF_T_FLAG_MASK},
		{"T_NORMAL", BPF_T_NORMAL, unix.BPF_T_NORMAL},
		{"T_FAST", BPF_T_FAST, unix.BPF_T_FAST},
		{"T_MONOTONIC", BPF_T_MONOTONIC, unix.BPF_T_MONOTONIC},
		{"T_MONOTONIC_FAST", BPF_T_MONOTONIC_FAST, unix.BPF_T_MONOTONIC_FAST},
		{"ALIGNMENT", Alignment, unix.BPF_ALIGNMENT},
		{"MAXINSNS", BPF_MAXINSNS, unix.BPF_MAXINSNS},
		{"MAXBUFSIZE", BPF_MAXBUFSIZE, unix.BPF_MAXBUFSIZE},
		{"MINBUFSIZE", BPF_MINBUFSIZE, unix.BPF_MINBUFSIZE},
		{"MAJOR_VERSION", BPF_MAJOR_VERSION, unix.BPF_MAJOR_VERSION},
		{"MINOR_VERSION", BPF_MINOR_VERSION, unix.BPF_MINOR_VERSION},
		{"sizeof(zbuf)", uint64(unsafe.Sizeof(Zbuf{})), uint64(unsafe.Sizeof(unix.BpfZbuf{}))},
		{"sizeof(zbuf_header)", uint64(unsafe.Sizeof(ZbufHeader{})),
			uint64(unsafe.Sizeof(unix.BpfZbufHeader{}))},
		{"sizeof(hdr)", uint64(unsafe.Sizeof(Hdr{})), uint64(unsafe.Sizeof(unix.BpfHdr{}))},
		{"sizeof(program)", uint64(unsafe.Sizeof(Program{})), uint64(unsafe.Sizeof(unix.BpfProgram{}))},
		{"sizeof(stat)", uint64(unsafe.Sizeof(Stat{})), uint64(unsafe.Sizeof(unix.BpfStat{}))},
		{"sizeof(version)", uint64(unsafe.Sizeof(Version{})), uint64(unsafe.Sizeof(unix.BpfVersion{}))},
		{"sizeof(timeval)", uint64(unsafe.Sizeof(Timeval{})), uint64(unsafe.Sizeof(unix.Timeval{}))},
	} {
		assert.Equal(t, c.xsys, c.ours, c.name)
	}
	assert.Len(t, xsysRequests, 33)
	for req, number := range xsysRequests {
		assert.Equal(t, number, uint64(req), req.String())
	}
}
