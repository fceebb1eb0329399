package sysctl

import (
	"errors"
	"fmt"
	"syscall"
)

// The sysctls of bpf(4) (sys/net/bpf.c, sys/net/bpf_buffer.c).
const (
	zeroCopyEnable  = "net.bpf.zerocopy_enable"
	bufSize         = "net.bpf.bufsize"
	maxBufSize      = "net.bpf.maxbufsize"
	maxInsns        = "net.bpf.maxinsns"
	optimizeWriters = "net.bpf.optimize_writers"
	bpfStats        = "net.bpf.stats"
)

// BPF reads and sets the sysctls below net.bpf. A set needs root, and so does [BPF.Stats]. The
// package documentation lists the errors of every call.
type BPF struct{ t Tree }

// BPF returns the sysctls of bpf(4).
func (t Tree) BPF() BPF { return BPF{t} }

// ZeroCopyEnabled reports whether the kernel lets a descriptor go into zero-copy mode
// (net.bpf.zerocopy_enable).
func (b BPF) ZeroCopyEnabled() (bool, error) {
	v, err := b.t.Int64(zeroCopyEnable)
	return v != 0, err
}

// SetZeroCopyEnabled allows or forbids zero-copy mode. A descriptor that is in this mode already
// stays in it.
func (b BPF) SetZeroCopyEnabled(on bool) error { return b.t.Set(zeroCopyEnable, on) }

// BufSize returns the bytes of each buffer of a descriptor that asks for no size
// (net.bpf.bufsize).
func (b BPF) BufSize() (int32, error) { return b.t.Int32(bufSize) }

// SetBufSize sets the number that [BPF.BufSize] returns. The kernel takes any value. It applies its
// limits when it allocates a buffer.
func (b BPF) SetBufSize(n int32) error { return b.t.Set(bufSize, n) }

// MaxBufSize returns the number of bytes that each buffer of a descriptor can have in buffered mode
// at most (net.bpf.maxbufsize). It does not limit lent buffers.
func (b BPF) MaxBufSize() (int32, error) { return b.t.Int32(maxBufSize) }

// SetMaxBufSize sets the number that [BPF.MaxBufSize] returns. The kernel takes any value.
func (b BPF) SetMaxBufSize(n int32) error { return b.t.Set(maxBufSize, n) }

// MaxInsns returns the number of instructions that a filter can have at most (net.bpf.maxinsns).
func (b BPF) MaxInsns() (int32, error) { return b.t.Int32(maxInsns) }

// SetMaxInsns sets the number that [BPF.MaxInsns] returns. The kernel takes any value.
func (b BPF) SetMaxInsns(n int32) error { return b.t.Set(maxInsns, n) }

// OptimizeWriters reports whether an attached descriptor receives nothing until a filter is set on
// it (net.bpf.optimize_writers). Each vnet has its own. Since 14 it is also a loader tunable.
func (b BPF) OptimizeWriters() (bool, error) {
	v, err := b.t.Int64(optimizeWriters)
	return v != 0, err
}

// SetOptimizeWriters sets whether descriptors that are attached from now on receive nothing until a
// filter is set on them. See [BPF.OptimizeWriters].
func (b BPF) SetOptimizeWriters(on bool) error { return b.t.Set(optimizeWriters, on) }

// Stats returns every descriptor that is attached to an interface, interface by interface. On each
// interface, descriptors that only write come first. Then the latest comes first
// (bpf_stats_sysctl). The kernel does not list descriptors that are not attached.
//
// If Stats cannot find the name of a process, it returns the listeners and the error.
//
// Errors:
//   - fs.ErrPermission: the process is not root, or it is in capability mode.
//   - [ErrType]: this package does not know the kernel's struct xbpf_d.
func (b BPF) Stats() ([]Listener, error) {
	raw, err := b.t.Raw(bpfStats)
	if err != nil {
		return nil, err
	}
	all, err := ParseListeners(raw)
	if err != nil {
		return nil, opError("get", bpfStats, err)
	}
	var errs []error
	names := make(map[int]string)
	for i := range all {
		pid := all[i].PID
		name, known := names[pid]
		if !known {
			if name, err = b.t.ProcessName(pid); err != nil {
				errs = append(errs, err)
			}
			names[pid] = name
		}
		all[i].Process = name
	}
	return all, errors.Join(errs...)
}

// ResetStats sets the counters of every reading descriptor to 0, for all programs that use them:
// Received, Matched, Dropped, Written, WrittenMatched and ZeroCopyAppends. It does not change
// WriteErrors, nor the counters of descriptors that only write (bpf_zero_counters).
func (b BPF) ResetStats() error {
	// The kernel wants one struct of zeroes that has the size of its own struct. A 32-bit process
	// on a 64-bit kernel has another size. The kernel refuses a wrong size and changes nothing.
	err := error(syscall.EINVAL)
	for _, l := range xbpfdLayouts {
		if err = b.t.Set(bpfStats, make([]byte, l.size)); !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	return fmt.Errorf("the kernel refuses every known size of struct xbpf_d: %w", err)
}
