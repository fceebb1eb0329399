package bpf

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// touched wakes the reader, which then asks for what there is. Every ioctl stops the kernel's read
// timeout, so after one the reader must not sleep on.
func (r *Reader) touched() { r.dev.Wake() }

// reset makes an ioctl that empties the kernel's buffers. Once it has returned nil, no reading
// method that is called then delivers anything captured before. If it returns an error, nothing is
// discarded.
func (r *Reader) reset(op func() error) error {
	if !r.dev.Pin() {
		return errClosed
	}
	defer r.dev.Unpin()
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	defer r.touched()
	r.kernel.sample(r.dev) // op itself says what is wrong, if anything
	if err := r.gate.reset(op, r.eng.discard); err != nil {
		return r.controlError(err)
	}
	r.kernel.zeroed()
	r.dropPending()
	return nil
}

// dropPending gives back what the engine has taken and nobody looks at, so the kernel has room for
// what comes now. If a reading method is at work, or a lease is out, the engine does that itself
// before it takes anything else. The gate is locked.
func (r *Reader) dropPending() {
	switch {
	case r.state.CompareAndSwap(stateIdle, stateReset):
	case r.state.CompareAndSwap(stateCopied, stateReset):
		r.release()
		r.dev.Unpin() // reset has a pin of its own
	default:
		return
	}
	r.eng.catchUp()
	r.state.Store(stateIdle)
	if r.sig.closed.Load() {
		r.forget()
	}
}

// change makes an ioctl that empties nothing.
func (r *Reader) change(op func() error) error {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	defer r.touched()
	return r.controlError(op())
}

// controlError says so if it was Sandbox that made a request impossible. A locked descriptor
// answers EPERM, a limited one ENOTCAPABLE.
func (r *Reader) controlError(err error) error {
	switch {
	case err == nil:
		return nil
	case r.sig.closed.Load():
		return errClosed
	case r.sandbox.Load() && (refusedByCapsicum(err) || errors.Is(err, syscall.EPERM)):
		return fmt.Errorf("%w: %w", ErrSandboxed, err)
	}
	return err
}

// writeError is controlError for write(2), where EPERM is the answer of the write filter.
func (r *Reader) writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case r.sig.closed.Load():
		return errClosed
	case r.sandbox.Load() && refusedByCapsicum(err):
		return fmt.Errorf("%w: %w", ErrSandboxed, err)
	}
	return err
}

func refusedByCapsicum(err error) bool {
	return errors.Is(err, enotcapable) || errors.Is(err, ecapmode)
}

// Flush discards everything that was captured and is not delivered yet. The kernel does not wait
// for a packet that has passed the filter and is on its way to the buffer. Such a packet may still
// come. Errors: os.ErrClosed.
func (r *Reader) Flush() error { return r.reset(r.dev.Flush) }

// SetFilter replaces the filter. nil passes every packet. If flush is true, SetFilter also discards
// every packet that the reader has not delivered yet. If flush is false, the reader still delivers
// those packets, even if the new filter would reject them. If SetFilter returns an error, the old
// filter stays in force, and nothing is discarded. Errors: ErrConfig; ErrSandboxed; those of the
// ioctl.
//
// Since FreeBSD 13 the kernel runs the filter without a lock. A packet that the old filter has just
// passed may then be stored after SetFilter has returned, and the reader delivers it.
func (r *Reader) SetFilter(filter []bpf.RawInstruction, flush bool) error {
	if err := (&Config{Filter: filter}).check(); err != nil {
		return err
	}
	return r.install(r.snap.program(filter), flush)
}

func (r *Reader) install(prog []bpf.RawInstruction, flush bool) error {
	if flush {
		return r.reset(func() error { return r.dev.SetFilter(prog) })
	}
	return r.change(func() error { return r.dev.SetFilterNoReset(prog) })
}

// LinkTypes returns the DLT_ numbers that the interface offers. Errors: those of the ioctl.
func (r *Reader) LinkTypes() (list []uint32, err error) {
	err = r.change(func() error {
		list, err = r.dev.LinkTypes()
		return err
	})
	return list, err
}

// SetWriteFilter replaces the filter that packets written must pass; nil passes everything.
func (r *Reader) SetWriteFilter(filter []bpf.RawInstruction) error {
	if err := (&Config{WriteFilter: filter}).check(); err != nil {
		return err
	}
	return r.change(func() error { return r.dev.SetWriteFilter(filter) })
}

// SetDirection sets which packets the reader sees from now on. A packet that is on its way to the
// buffer may still come. Errors: ErrConfig; ErrSandboxed; those of the ioctl.
func (r *Reader) SetDirection(d Direction) error {
	if err := (&Config{Direction: d}).check(); err != nil {
		return err
	}
	kernel := map[Direction]uint32{InOut: zbuf.BPF_D_INOUT, In: zbuf.BPF_D_IN, Out: zbuf.BPF_D_OUT}[d]
	return r.change(func() error { return r.dev.SetDirection(kernel) })
}

// Write sends one packet, link header included, out of the interface. Errors: see
// [zbuf.Device.Write].
func (r *Reader) Write(packet []byte) (int, error) {
	n, err := r.dev.Write(packet)
	return n, r.writeError(err)
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
// BIOCROTZBUF, FIONREAD, BIOCIMMEDIATE, BIOCGDLT, BIOCGETIF, BIOCGSTATS, BIOCFLUSH and
// BIOCGDLTLIST, and CAP_WRITE if s.Write. Afterwards reading, Stats, Flush, LinkType, LinkTypes,
// SetReadDeadline, Close and, if s.Write, Write work as before; the other methods return
// ErrSandboxed. Errors: ENOSYS on a kernel without Capsicum, when the descriptor is locked
// nevertheless.
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
