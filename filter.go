package zbuf

import (
	"errors"
	"runtime"
)

// SetFilter sets the read filter and resets the descriptor. An empty program accepts every packet.
// Request: [BIOCSETF], before or after attach.
//
// Since FreeBSD 13 the kernel does not wait for packets that are in flight. A packet that only the
// old filter accepted may still arrive after SetFilter has returned.
//
// Errors:
//   - EINVAL: [Validate] refuses the program, or it is longer than the sysctl net.bpf.maxinsns.
//   - [ErrResetUnsafe]: the descriptor is in zero-copy mode and has no buffers.
func (d *Device) SetFilter(prog []Insn) error { return d.program(BIOCSETF, prog) }

// SetFilterNoReset sets the read filter and does not reset the descriptor. Request: [BIOCSETFNR].
//
// Errors:
//   - EINVAL: as for [Device.SetFilter].
func (d *Device) SetFilterNoReset(prog []Insn) error { return d.program(BIOCSETFNR, prog) }

// SetWriteFilter sets the filter that written packets must pass. The kernel refuses other packets
// with EPERM. Request: [BIOCSETWF].
//
// Errors:
//   - EINVAL: as for [Device.SetFilter].
func (d *Device) SetWriteFilter(prog []Insn) error { return d.program(BIOCSETWF, prog) }

func (d *Device) program(req Request, prog []Insn) error {
	p := Program{Len: uint32(len(prog))}
	if len(prog) > 0 {
		p.Insns = &prog[0]
	}
	err := d.ioctl(req, &p)
	runtime.KeepAlive(prog)
	return err
}

// MaxInstructions returns the length of the longest program that the kernel takes: the sysctl
// net.bpf.maxinsns.
//
// Errors:
//   - [errors.ErrUnsupported]: the backend has no [FilterFacts].
//   - Any other errno comes from sysctl(3).
func (d *Device) MaxInstructions() (n int, err error) {
	err = d.fact("net.bpf.maxinsns", func(f FilterFacts) (err error) {
		n, err = f.MaxInstructions()
		return err
	})
	return n, err
}

// Netmask returns the netmask of the attached interface's first IPv4 address, which the expression
// "ip broadcast" needs. It returns 0 if the interface has no such address. Netmask stops the read
// timeout.
//
// Errors:
//   - ENXIO: the process's network stack does not have the interface, as for
//     [Device.InterfaceIndex].
//   - [errors.ErrUnsupported]: the backend has no [FilterFacts].
func (d *Device) Netmask() (mask uint32, err error) {
	err = d.fact("netmask", func(f FilterFacts) (err error) {
		mask, err = f.Netmask()
		return err
	})
	return mask, err
}

func (d *Device) fact(op string, ask func(FilterFacts) error) error {
	if err := d.enter(op); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	facts, ok := d.res.b.(FilterFacts)
	if !ok {
		return opError(op, d.iface, errors.ErrUnsupported)
	}
	return opError(op, d.iface, ask(facts))
}

// FilterVersion returns the version of the filter language. Request: [BIOCVERSION], legal when
// locked.
func (d *Device) FilterVersion() (v Version, err error) {
	err = d.ioctl(BIOCVERSION, &v)
	return v, err
}

// Lock makes the kernel refuse every request that is not legal when locked. The kernel answers such
// a request with EPERM. [Request.LegalWhenLocked] tells which requests are legal then. Nobody can
// undo Lock. Request: [BIOCLOCK], legal when locked.
func (d *Device) Lock() error { return d.ioctl(BIOCLOCK, nil) }
