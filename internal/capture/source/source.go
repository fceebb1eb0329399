// Package source has the sources of a capture: an interface, or a file that is replayed through a
// model of the kernel.
package source

import (
	"errors"
	"fmt"
	"strings"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
)

// ErrBufferSize is in the error of [OpenLive] and [OpenReplay] when the kernel has no buffers as
// large as [bpf.Config].BufferSize.
var ErrBufferSize = errors.New("buffer size")

// bufferSizeError names the limit in its text.
type bufferSizeError string

func (e bufferSizeError) Error() string        { return string(e) }
func (e bufferSizeError) Is(target error) bool { return target == ErrBufferSize }

// describeMode names the mode in force and the reason.
func describeMode(r *bpf.Reader) string {
	mode, reason := r.Mode()
	if mode == bpf.Buffered {
		return fmt.Sprintf("buffered mode, because %s, buffers of %s",
			Refusal(reason), human.Size(r.BufferSize()))
	}
	return fmt.Sprintf("zero-copy mode, granted by the kernel, two buffers of %s",
		human.Size(r.BufferSize()))
}

// Refusal returns the reason why the kernel does not grant zero-copy mode, in one line.
func Refusal(err error) string {
	if errors.Is(err, zbuf.ErrZeroCopyDisabled) {
		err = zbuf.ErrZeroCopyDisabled
	}
	return strings.TrimPrefix(human.OneLine(err), "zero-copy refused: ")
}

// fill adds at most n packets of an interface to a batch, until it is full.
func fill(b *capture.Batch, iface int, c *bpf.Cursor, n int) {
	n = min(n, cap(b.Packets)-len(b.Packets))
	at := *c // in registers
	for ; n > 0 && at.Next(); n-- {
		b.Packets = append(b.Packets, capture.PacketOf(iface, at.Packet()))
	}
	*c = at
}
