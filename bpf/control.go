package bpf

import (
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// touched has the reader look again: every ioctl stops the kernel's read timeout.
func (r *Reader) touched() { r.dev.Wake() }

// reset makes an ioctl that empties the kernel's buffers. When it returns nil, nothing that was captured
// before is delivered by a reading method called from then on.
func (r *Reader) reset(op func() error) error {
	if !r.dev.Pin() {
		return errClosed
	}
	defer r.dev.Unpin()
	r.control.Lock()
	defer r.control.Unlock()
	defer r.touched()
	r.sample() // what the reset zeroes; the reset itself says what is wrong, if anything
	r.flushes.Add(1)
	err := op()
	if err == nil {
		r.lost.lastRecv, r.lost.lastDrop = 0, 0
		r.src.reset()
	}
	r.flushes.Add(1)
	if err == nil {
		r.dropPending()
	}
	return r.controlError(err)
}

// dropPending gives the kernel back what the reader had taken over and not looked at, so that there
// is room for what comes now. If a reading method is at work, or a lease is out, the reader does that
// itself before it takes anything else. Reader.control is held.
func (r *Reader) dropPending() {
	switch {
	case r.state.CompareAndSwap(stateIdle, stateReset):
	case r.state.CompareAndSwap(stateCopied, stateReset):
		r.release(r.current)
		r.dev.Unpin() // reset has a pin of its own
	default:
		return
	}
	r.src.catchUp()
	r.state.Store(stateIdle)
}

// change makes an ioctl that empties nothing.
func (r *Reader) change(op func() error) error {
	r.control.Lock()
	defer r.control.Unlock()
	defer r.touched()
	return r.controlError(op())
}

// controlError says so when it was Sandbox that made a call impossible.
func (r *Reader) controlError(err error) error {
	switch {
	case err == nil:
		return nil
	case r.closed.Load():
		return errClosed
	case r.sandbox.Load():
		return fmt.Errorf("%w: %w", ErrSandboxed, err)
	}
	return err
}

// Flush drops everything captured and not delivered.
func (r *Reader) Flush() error { return r.reset(r.dev.Flush) }

// SetFilter replaces the filter; nil passes everything. With flush, packets that only the old one let through
// are not delivered any more once it has returned, nor is anything else captured before; without, what
// is captured already is. Errors: ErrConfig, ErrSandboxed, those of the ioctl.
func (r *Reader) SetFilter(filter []bpf.RawInstruction, flush bool) error {
	if err := (&Config{Filter: filter}).check(); err != nil {
		return err
	}
	prog := r.snap.program(filter)
	if flush {
		return r.reset(func() error { return r.dev.SetFilter(prog) })
	}
	return r.change(func() error { return r.dev.SetFilterNoReset(prog) })
}

// SetWriteFilter replaces the filter that packets written must pass; nil passes everything.
func (r *Reader) SetWriteFilter(filter []bpf.RawInstruction) error {
	if err := (&Config{WriteFilter: filter}).check(); err != nil {
		return err
	}
	return r.change(func() error { return r.dev.SetWriteFilter(filter) })
}

// SetDirection changes which packets are seen from now on.
func (r *Reader) SetDirection(d Direction) error {
	if err := (&Config{Direction: d}).check(); err != nil {
		return err
	}
	kernel := map[Direction]uint32{InOut: zbuf.BPF_D_INOUT, In: zbuf.BPF_D_IN, Out: zbuf.BPF_D_OUT}[d]
	return r.change(func() error { return r.dev.SetDirection(kernel) })
}

// Write sends one packet, link header included, out of the interface. Errors: see [zbuf.Device.Write].
func (r *Reader) Write(packet []byte) (int, error) {
	n, err := r.dev.Write(packet)
	return n, r.controlError(err)
}

// Sandbox says what Reader.Sandbox leaves.
type Sandbox struct {
	Write bool // packets can still be written
	Enter bool // the whole process enters capability mode (cap_enter(2)), for good
}

// allowed are the requests that the reader and the methods that Sandbox documents make.
var allowed = []zbuf.Request{
	zbuf.BIOCROTZBUF, zbuf.FIONREAD, zbuf.BIOCIMMEDIATE, zbuf.BIOCGDLT,
	zbuf.BIOCGETIF, zbuf.BIOCGSTATS, zbuf.BIOCFLUSH, zbuf.BIOCGDLTLIST,
}

// Sandbox gives up, for good, everything that capturing does not need: the descriptor is locked
// (BIOCLOCK) and its Capsicum rights are reduced to CAP_READ, CAP_EVENT, CAP_IOCTL for the requests
// BIOCROTZBUF, FIONREAD, BIOCIMMEDIATE, BIOCGDLT, BIOCGETIF, BIOCGSTATS, BIOCFLUSH and BIOCGDLTLIST, and
// CAP_WRITE if s.Write. Afterwards reading, Stats, Flush, LinkType, LinkTypes, SetReadDeadline, Close and, if
// s.Write, Write work as before; the other methods return ErrSandboxed. Errors: ENOSYS on a
// kernel without Capsicum, when the descriptor is locked nevertheless.
func (r *Reader) Sandbox(s Sandbox) error {
	err := r.change(func() error {
		if err := r.dev.Lock(); err != nil {
			return err
		}
		r.sandbox.Store(true)
		return r.dev.Limit(allowed, s.Write)
	})
	if err == nil && s.Enter {
		err = capEnter()
	}
	return err
}
