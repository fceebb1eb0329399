package bpf

import (
	"errors"
	"fmt"
	"os"
)

var (
	// ErrConfig is in the error of Open when the Config is wrong.
	ErrConfig = errors.New("bpf: configuration")

	// ErrZeroCopyRefused is in the error of Open when Config.Mode is ZeroCopy and the
	// kernel does not grant it; the error names the cause.
	ErrZeroCopyRefused = errors.New("bpf: zero-copy refused")

	// ErrLinkType is in the error of Open when the interface offers none of Config.LinkTypes.
	ErrLinkType = errors.New("bpf: link type not offered")

	// ErrLeaseOut is returned by Lease and the reading methods while a lease is out.
	ErrLeaseOut = errors.New("bpf: a lease is out: release it first")

	// ErrReleased is returned by the second Release of a lease.
	ErrReleased = errors.New("bpf: lease released already")

	// ErrInterfaceGone is returned, after everything that was captured, when the interface has
	// been destroyed or moved to another vnet. It is final.
	ErrInterfaceGone = errors.New("bpf: interface gone")

	// ErrCorrupt is in the error of Lease.Err when a record can't be one. What was
	// delivered before is good; the rest of the buffer is not looked at.
	ErrCorrupt = errors.New("bpf: corrupt buffer")

	// ErrSandboxed is in the error of methods that Sandbox has given up.
	ErrSandboxed = errors.New("bpf: given up by Sandbox")

	errClosed   = fmt.Errorf("bpf: %w", os.ErrClosed)
	errDeadline = fmt.Errorf("bpf: %w", os.ErrDeadlineExceeded)
)

// CorruptError says where a buffer stopped making sense. It is ErrCorrupt.
type CorruptError struct {
	Offset int    // bytes from the first record
	Length int    // bytes of records in the buffer
	Why    string // what does not fit
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v at byte %d of %d: %s", ErrCorrupt, e.Offset, e.Length, e.Why)
}

func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
