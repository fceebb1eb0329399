package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
)

// Open opens a descriptor and captures from the named interface from then on.
//
// Errors:
//   - [ErrConfig]: cfg is wrong. If the expression is wrong, a [filter.Error] is in it.
//   - [ErrZeroCopyRefused]: the mode is [ZeroCopy], and the kernel does not grant it.
//   - [ErrLinkType]: the interface offers none of the link types.
//   - fs.ErrPermission: the user may not open /dev/bpf.
//   - ENXIO: there is no such interface, or it has no bpf tap.
//   - [errors.ErrUnsupported]: this system is not FreeBSD, or the kernel is a model and Guard is
//     set.
//   - Those of [zbuf.Open], and of the requests that set the descriptor up.
//
// An error of the kernel is a [zbuf.Error]. It names the request and what to do next.
func Open(iface string, cfg Config) (*Reader, error) {
	dev := cfg.Device
	fail := func(err error) (*Reader, error) {
		if dev != nil {
			dev.Close()
		}
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return fail(err)
	}
	if dev == nil {
		sys := cfg.System
		if sys == nil {
			sys = zbuf.Host()
		}
		var err error
		if dev, err = zbuf.OpenOn(sys); err != nil {
			return nil, err
		}
	}
	r := &Reader{dev: dev, iface: iface, guard: cfg.Guard, snap: Config{SnapLen: cfg.SnapLen}}
	r.sig.dev = dev
	if err := r.setUp(&cfg); err != nil {
		return fail(err)
	}
	return r, nil
}

// setUp brings the descriptor from open to attached: mode, buffers, filter, interface. No other
// order is safe and lets no packet pass unfiltered.
func (r *Reader) setUp(cfg *Config) error {
	bufs, err := r.settleMode(cfg)
	if err != nil {
		return err
	}
	kernelStamp, s := cfg.timestamp(zbuf.WordSize)
	r.stamp = s
	prog := cfg.program(cfg.Filter)
	first := prog
	if len(cfg.LinkTypes) > 0 || cfg.Expression != "" {
		// Since 13 the kernel may store a packet of the old link type after BIOCSDLT, if the filter had
		// passed it before. So no packet passes before the link type is chosen. An expression can't be
		// compiled before that.
		first = []xbpf.RawInstruction{{Op: opRetK}}
	}
	timeout := cfg.ReadTimeout
	switch {
	case cfg.Immediate || timeout == NoTimeout:
		timeout = 0
	case timeout == 0:
		timeout = DefaultReadTimeout
	}
	dir := map[Direction]uint32{InOut: zbuf.BPF_D_INOUT, In: zbuf.BPF_D_IN,
		Out: zbuf.BPF_D_OUT}[cfg.Direction]
	dev := r.dev
	steps := []func() error{
		func() error { return dev.SetTimestampType(kernelStamp) },
		func() error { return dev.SetDirection(dir) },
		func() error { return setReadTimeout(dev, timeout) },
		func() error { return dev.SetFilter(first) },
		func() error { return dev.SetInterface(r.iface) },
	}
	if cfg.Immediate {
		steps = append(steps, func() error { return dev.SetImmediate(true) })
	}
	if cfg.HeaderComplete {
		steps = append(steps, func() error { return dev.SetHeaderComplete(true) })
	}
	if len(cfg.WriteFilter) > 0 {
		steps = append(steps, func() error { return dev.SetWriteFilter(cfg.WriteFilter) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if err := r.startEngine(cfg, bufs); err != nil {
		return err
	}
	if err := r.chooseLinkType(cfg.LinkTypes); err != nil {
		return err
	}
	if cfg.Expression != "" {
		if prog, err = r.compile(cfg.Expression); err != nil {
			return err
		}
	}
	if cfg.Promiscuous {
		if err := dev.SetPromiscuous(); err != nil {
			return err
		}
	}
	// With net.bpf.optimize_writers a descriptor sleeps until a filter is set after attaching.
	if err := dev.SetFilterNoReset(prog); err != nil {
		return err
	}
	if r.ifindex, err = dev.InterfaceIndex(); err != nil {
		return err
	}
	_, polled := dev.Polled()
	begin := time.Now()
	r.wait = waiter{
		dev: dev, eng: r.eng, sig: &r.sig, ifindex: r.ifindex, timeout: timeout, polled: polled,
		begin: begin,
	}
	r.wait.lookAt = untilLook(begin, r.wait.every())
	return nil
}

// setReadTimeout sets a read timeout of t or a little more. 12.1 rounds up to clock ticks
// (1/kern.hz s). 14 rounds down, and less than a tick becomes no timeout at all. So setReadTimeout
// reads the timeout back, and asks for more until it is enough. Nobody waits yet, so no request
// disturbs a timeout that runs.
func setReadTimeout(dev *zbuf.Device, t time.Duration) error {
	for more := time.Duration(0); ; {
		if err := dev.SetReadTimeout(t + more); err != nil {
			return err
		}
		got, err := dev.ReadTimeout()
		if err != nil || got >= t {
			return err
		}
		more = max(2*more, t-got)
	}
}

// sticky reports whether the kernel can't switch BIOCIMMEDIATE off again. It needs a second
// descriptor to find out. If it gets none, it returns true. That is right for every kernel, but
// costs wake-ups.
func sticky(dev *zbuf.Device, sys zbuf.System) bool {
	if sys == nil {
		sys = zbuf.Host()
	}
	scratch, err := zbuf.OpenOn(sys)
	if err != nil {
		return true
	}
	defer scratch.Close()
	ok, err := dev.CanClear(scratch)
	return err != nil || !ok
}

func (r *Reader) startEngine(cfg *Config, bufs *zbuf.Buffers) error {
	mem := memory{dev: r.dev, guard: cfg.Guard}
	if bufs != nil {
		stays := !cfg.Immediate && sticky(r.dev, cfg.System)
		e, err := newLent(r.dev, &r.gate, mem, bufs, cfg.Immediate, stays)
		r.eng = e
		return err
	}
	e, err := newBuffered(r.dev, &r.gate, mem)
	if err != nil {
		return err
	}
	r.eng, r.size = e, len(e.buf)
	return nil
}

// settleMode asks for zero-copy unless the mode is Buffered. If the kernel refuses zero-copy,
// ZeroCopy is an error, and Auto becomes Buffered.
func (r *Reader) settleMode(cfg *Config) (*zbuf.Buffers, error) {
	size := cfg.BufferSize
	if size == 0 {
		size = DefaultBufferSize
	}
	if cfg.Mode != Buffered {
		bufs, refused, err := lendBuffers(r.dev, size, cfg.BufferSize == 0, cfg.Guard)
		if err != nil {
			return nil, err
		}
		if refused == nil {
			r.mode, r.size = ZeroCopy, bufs.Size()
			return bufs, nil
		}
		refused = fmt.Errorf("%w: %w", ErrZeroCopyRefused, refused)
		if cfg.Mode == ZeroCopy {
			return nil, refused
		}
		r.reason = refused
		if err := r.dev.SetBufferMode(zbuf.BPF_BUFMODE_BUFFER); err != nil &&
			!errors.Is(err, syscall.EBUSY) {
			return nil, err
		}
	} else {
		r.reason = errBufferedAsked
	}
	r.mode = Buffered
	if _, err := r.dev.SetBufferLen(uint32(size)); err != nil {
		return nil, err
	}
	return nil, nil
}

var errBufferedAsked = errors.New("bpf: buffered mode was asked for")

// lendBuffers sets zero-copy mode and lends two buffers. It returns a refusal of the kernel in
// refused, because Auto then goes on with read(2). It returns any other failure in err.
func lendBuffers(
	dev *zbuf.Device, size int, shrink, guard bool,
) (bufs *zbuf.Buffers, refused, err error) {
	refusal := func(err error) bool {
		for _, e := range []syscall.Errno{syscall.EINVAL, syscall.EBUSY, syscall.EOPNOTSUPP,
			syscall.EFAULT} {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	if err := dev.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF); err != nil {
		if refusal(err) {
			return nil, err, nil
		}
		return nil, nil, err
	}
	most, err := dev.MaxBufferSize()
	if err != nil {
		if refusal(err) {
			return nil, fmt.Errorf("a 32-bit program can't lend buffers to a 64-bit kernel: %w", err), nil
		}
		return nil, nil, err
	}
	if size > most {
		if !shrink {
			return nil, nil, fmt.Errorf("%w: BufferSize %d: the kernel takes at most %d bytes", ErrConfig,
				size, most)
		}
		size = most
	}
	set := dev.SetBuffers
	if guard {
		set = dev.SetGuardedBuffers
	}
	bufs, err = set(size)
	if err != nil {
		if refusal(err) {
			return nil, err, nil
		}
		return nil, nil, err
	}
	return bufs, nil, nil
}

func (r *Reader) chooseLinkType(want []uint32) error {
	if len(want) > 0 {
		have, err := r.dev.LinkTypes()
		if err != nil {
			return err
		}
		dlt, ok := firstOf(want, have)
		if !ok {
			return fmt.Errorf("%w: %s offers %s, not %s", ErrLinkType, r.iface, namesOf(have, " and "),
				namesOf(want, " or "))
		}
		if err := r.reset(func() error { return r.dev.SetLinkType(dlt) }); err != nil {
			return err
		}
	}
	dlt, err := r.dev.LinkType()
	r.dlt = dlt
	return err
}

// namesOf returns the names of link types, with a word between two.
func namesOf(dlts []uint32, between string) string {
	var names []string
	for _, d := range slices.Sorted(slices.Values(dlts)) {
		names = append(names, zbuf.DLTName(d))
	}
	return strings.Join(names, between)
}

func firstOf(want, have []uint32) (uint32, bool) {
	for _, w := range want {
		for _, h := range have {
			if w == h {
				return w, true
			}
		}
	}
	return 0, false
}
