package lab

import "sync/atomic"

// Header is the start of a lent buffer as both sides see it.
type Header struct {
	KernelGen atomic.Uint32
	KernelLen atomic.Uint32
	UserGen   atomic.Uint32
	_         [5]uint32
}

// Owned reports whether the process owns the buffer.
func (h *Header) Owned() bool { return h.KernelGen.Load() != h.UserGen.Load() }

// Ack acknowledges the buffer.
func (h *Header) Ack() { h.UserGen.Store(h.KernelGen.Load()) }
