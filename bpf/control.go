package bpf

import (
	"errors"
	"fmt"
	"syscall"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// touched wakes the reader, which then asks the kernel for packets. Every ioctl stops the kernel's
// read timeout, so after one the reader must not sleep on.
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

// dropPending gives back the batch that the engine has taken and nobody looks at. So the kernel has
// room for new packets. If a reading method is at work, or a lease is out, the engine does that
// itself before it takes anything else. The gate is locked.
func (r *Reader) dropPending() {
	s := r.state.load()
	if s != stateIdle && s.phase() != stateCopied || !r.state.move(s, s.in(stateReset)) {
		return
	}
	if s != stateIdle {
		r.release()
		r.dev.Unpin() // reset has a pin of its own
	}
	r.eng.catchUp()
	r.state.store(stateIdle)
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

// controlError adds ErrSandboxed if Sandbox made the request impossible. A locked descriptor
// answers EPERM, and a limited one ENOTCAPABLE.
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

// Flush discards every packet that the kernel has captured and the reader has not delivered yet.
// The kernel does not wait for a packet that has passed the filter and is on its way to the buffer.
// The reader may still deliver such a packet. If Flush returns an error, nothing is discarded. Any
// goroutine may call Flush, also while another one reads or a lease is out.
//
// Errors:
//   - [os.ErrClosed]: the reader is closed.
//   - Those of [zbuf.Device.Flush].
func (r *Reader) Flush() error { return r.reset(r.dev.Flush) }

// SetFilter replaces the filter by a program, such as one that package filter has compiled. nil
// passes every packet. If flush is true, SetFilter also discards
// every packet that the reader has not delivered yet. If flush is false, the reader still delivers
// those packets, even if the new filter would reject them. If SetFilter returns an error, the old
// filter stays in force, and nothing is discarded. The kernel captures at most [Config].SnapLen
// bytes of a packet, whatever the filter returns.
//
// Errors:
//   - [ErrConfig]: [zbuf.Validate] refuses the filter.
//   - [ErrSandboxed]: [Reader.Sandbox] has given up SetFilter.
//   - [os.ErrClosed]: the reader is closed.
//   - Those of [zbuf.Device.SetFilter], such as EINVAL if the filter is too long for the kernel.
//
// Since FreeBSD 13 the kernel runs the filter without a lock. A packet that the old filter has just
// passed may then be stored after SetFilter has returned, and the reader delivers it.
func (r *Reader) SetFilter(filter []xbpf.RawInstruction, flush bool) error {
	if err := (&Config{Filter: filter}).check(); err != nil {
		return err
	}
	return r.install(r.snap.program(filter), flush)
}

func (r *Reader) install(prog []xbpf.RawInstruction, flush bool) error {
	if flush {
		return r.reset(func() error { return r.dev.SetFilter(prog) })
	}
	return r.change(func() error { return r.dev.SetFilterNoReset(prog) })
}

// LinkTypes returns the DLT_ numbers that the interface offers.
//
// Errors:
//   - [os.ErrClosed]: the reader is closed.
//   - Those of [zbuf.Device.LinkTypes], such as EINVAL when the interface has gone.
func (r *Reader) LinkTypes() (list []uint32, err error) {
	err = r.change(func() error {
		list, err = r.dev.LinkTypes()
		return err
	})
	return list, err
}

// SetWriteFilter replaces the filter that written packets must pass. nil passes everything. If
// SetWriteFilter returns an error, the old filter stays in force.
//
// Errors:
//   - [ErrConfig]: [zbuf.Validate] refuses the filter.
//   - [ErrSandboxed]: [Reader.Sandbox] has given up SetWriteFilter.
//   - [os.ErrClosed]: the reader is closed.
//   - Those of [zbuf.Device.SetWriteFilter].
func (r *Reader) SetWriteFilter(filter []xbpf.RawInstruction) error {
	if err := (&Config{WriteFilter: filter}).check(); err != nil {
		return err
	}
	return r.change(func() error { return r.dev.SetWriteFilter(filter) })
}

// SetDirection sets which packets the reader sees from now on. The reader may still deliver a
// packet that is on its way to the buffer.
//
// Errors:
//   - [ErrConfig]: d is no [Direction].
//   - [ErrSandboxed]: [Reader.Sandbox] has given up SetDirection.
//   - [os.ErrClosed]: the reader is closed.
//   - Those of [zbuf.Device.SetDirection].
func (r *Reader) SetDirection(d Direction) error {
	if err := (&Config{Direction: d}).check(); err != nil {
		return err
	}
	kernel := map[Direction]uint32{InOut: zbuf.BPF_D_INOUT, In: zbuf.BPF_D_IN, Out: zbuf.BPF_D_OUT}[d]
	return r.change(func() error { return r.dev.SetDirection(kernel) })
}

// Write sends one packet, link header included, out of the interface. It returns the number of
// bytes of the packet.
//
// Errors:
//   - [ErrSandboxed]: [Reader.Sandbox] has given up Write.
//   - [os.ErrClosed]: the reader is closed.
//   - Those of [zbuf.Device.Write], such as EPERM if the write filter refuses the packet.
func (r *Reader) Write(packet []byte) (int, error) {
	n, err := r.dev.Write(packet)
	return n, r.writeError(err)
}

// Sandbox says what [Reader.Sandbox] keeps and what it enters.
type Sandbox struct {
	Write bool // keeps the right to write packets
	Enter bool // makes the whole process enter capability mode (cap_enter(2)), for good
}

// allowed lists the requests of the reader and of the methods that go on after Sandbox.
var allowed = []zbuf.Request{
	zbuf.BIOCROTZBUF, zbuf.FIONREAD, zbuf.BIOCIMMEDIATE, zbuf.BIOCGDLT,
	zbuf.BIOCGETIF, zbuf.BIOCGSTATS, zbuf.BIOCFLUSH, zbuf.BIOCGDLTLIST,
}

// Sandbox gives up, for good, every right to the descriptor that capturing does not need. It locks
// the descriptor (BIOCLOCK), and leaves these Capsicum rights:
//   - CAP_READ and CAP_EVENT.
//   - CAP_IOCTL for the requests BIOCROTZBUF, FIONREAD, BIOCIMMEDIATE, BIOCGDLT, BIOCGETIF,
//     BIOCGSTATS, BIOCFLUSH and BIOCGDLTLIST.
//   - CAP_WRITE if s.Write is true.
//
// Afterwards the reading methods, Stats, Flush, LinkTypes, SetReadDeadline and Close work as
// before, and Write does so if s.Write is true. So do the methods that make no request, such as
// LinkType. The other methods return [ErrSandboxed].
//
// Errors:
//   - ENOSYS: the kernel has no Capsicum. The descriptor is locked nevertheless.
//   - [ErrSandboxed]: an earlier Sandbox has given up these rights.
//   - [zbuf.ErrForeignOS]: s.Enter is true, and this system is not FreeBSD.
//   - [os.ErrClosed]: the reader is closed.
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
