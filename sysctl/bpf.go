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

// BPF is what lies below net.bpf. Setting needs root; so does reading the statistics.
type BPF struct{ t Tree }

// BPF returns the sysctls of bpf(4).
func (t Tree) BPF() BPF { return BPF{t} }

// ZeroCopyEnabled reports whether descriptors may go into zero-copy mode (net.bpf.zerocopy_enable).
func (b BPF) ZeroCopyEnabled() (bool, error) {
	v, err := b.t.Int64(zeroCopyEnable)
	return v != 0, err
}

// SetZeroCopyEnabled allows zero-copy mode or forbids it. Descriptors that are in it stay in it.
func (b BPF) SetZeroCopyEnabled(on bool) error { return b.t.Set(zeroCopyEnable, on) }

// BufSize is how many bytes a descriptor's buffers have unless it asks for
// others (net.bpf.bufsize).
func (b BPF) BufSize() (int32, error) { return b.t.Int32(bufSize) }

// SetBufSize sets BufSize. The kernel takes any value and keeps it within limits
// when it allocates a buffer.
func (b BPF) SetBufSize(n int32) error { return b.t.Set(bufSize, n) }

// MaxBufSize is how many bytes a descriptor's buffers can have in buffered mode
// (net.bpf.maxbufsize). It does not limit zero-copy buffers.
func (b BPF) MaxBufSize() (int32, error) { return b.t.Int32(maxBufSize) }

// SetMaxBufSize sets MaxBufSize. The kernel takes any value.
func (b BPF) SetMaxBufSize(n int32) error { return b.t.Set(maxBufSize, n) }

// MaxInsns is how many instructions a filter can have (net.bpf.maxinsns).
func (b BPF) MaxInsns() (int32, error) { return b.t.Int32(maxInsns) }

// SetMaxInsns sets MaxInsns. The kernel takes any value.
func (b BPF) SetMaxInsns(n int32) error { return b.t.Set(maxInsns, n) }

// OptimizeWriters reports whether a descriptor receives nothing until a filter is set on it when it has an
// interface (net.bpf.optimize_writers, one for each vnet). Loader tunable since 14.
func (b BPF) OptimizeWriters() (bool, error) {
	v, err := b.t.Int64(optimizeWriters)
	return v != 0, err
}

// SetOptimizeWriters sets OptimizeWriters, for descriptors that get an interface from now on.
func (b BPF) SetOptimizeWriters(on bool) error { return b.t.Set(optimizeWriters, on) }

// Stats returns every descriptor that has an interface: interface by interface, writers first, then
// the latest first (bpf_stats_sysctl). Descriptors without an interface are not known to it.
//
// It needs root: else fs.ErrPermission, also for a process in capability mode. When the
// only trouble is with the name of a process, the listeners are returned together with
// the error.
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

// ResetStats zeroes the counters of every reading descriptor, for all users of them: Received, Matched, Dropped,
// Written, WrittenMatched and ZeroCopyAppends. WriteErrors stays, and so do all counters of
// descriptors that only write (bpf_zero_counters).
func (b BPF) ResetStats() error {
	// The kernel wants one struct of zeroes, of its own size, which is not this process's when that is a
	// 32-bit one on a 64-bit kernel. A wrong size is refused and does nothing.
	err := error(syscall.EINVAL)
	for _, l := range xbpfdLayouts {
		if err = b.t.Set(bpfStats, make([]byte, l.size)); !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	return fmt.Errorf("no known size of struct xbpf_d will do: %w", err)
}
