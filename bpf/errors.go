package bpf

import (
	"errors"
	"fmt"
	"os"
)

var (
	// ErrConfig is in the error of [Open] when the [Config] is wrong. It is in the error of
	// [Reader.SetFilter] and its like when their argument is wrong. The text names the field.
	ErrConfig = errors.New("bpf: configuration")

	// ErrZeroCopyRefused is in the error of [Open] when [Config].Mode is [ZeroCopy] and the kernel
	// does not grant it. The error wraps the cause. [Reader.Mode] returns it as the reason for
	// [Buffered].
	ErrZeroCopyRefused = errors.New("bpf: zero-copy refused")

	// ErrLinkType is in the error of [Open] when the interface offers none of [Config].LinkTypes.
	ErrLinkType = errors.New("bpf: link type not offered")

	// ErrLeaseOut is the error of [Reader.Lease] and the other reading methods while a lease is out,
	// or while another goroutine is in such a method.
	ErrLeaseOut = errors.New("bpf: a lease is out: release it first")

	// ErrReleased is the error of the second [Lease.Release].
	ErrReleased = errors.New("bpf: lease released already")

	// ErrInterfaceGone is the error of the reading methods when the interface was destroyed or moved
	// to another vnet. They first return everything that was captured. A reader notices within 0.1 s
	// where the kernel tells of interfaces (FreeBSD 14), else within a second. The error is final:
	// open a new Reader.
	ErrInterfaceGone = errors.New("bpf: interface gone")

	// ErrCorrupt is in the error of [Lease.Err] and the reading methods when a record does not fit
	// into its buffer. The packets before it are good. The reader does not look at the rest of the
	// buffer.
	ErrCorrupt = errors.New("bpf: corrupt buffer")

	// ErrSandboxed is in the error of methods that [Reader.Sandbox] has given up.
	ErrSandboxed = errors.New("bpf: given up by Sandbox")

	errClosed   = fmt.Errorf("bpf: %w", os.ErrClosed)
	errDeadline = fmt.Errorf("bpf: %w", os.ErrDeadlineExceeded)
)

// CorruptError says which record does not fit into its buffer. errors.Is finds [ErrCorrupt] in it.
type CorruptError struct {
	Offset int    // bytes from the first record
	Length int    // bytes of records in the buffer
	Why    string // the part that does not fit
}

// Error returns the place of the record and the part that does not fit.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v at byte %d of %d: %s", ErrCorrupt, e.Offset, e.Length, e.Why)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
