package bpftest

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// sysctls has the integer sysctls of a machine. To add one, change the type and its methods.
type sysctls struct {
	zerocopyEnable  atomic.Int32
	maxInsns        atomic.Int32
	bufSize         atomic.Int32
	maxBufSize      atomic.Int32
	optimizeWriters atomic.Int32
}

// boot sets the sysctls that are not 0 on a machine that has just started.
func (s *sysctls) boot() {
	s.maxInsns.Store(zbuf.BPF_MAXINSNS)
	s.bufSize.Store(4096)
	s.maxBufSize.Store(zbuf.BPF_MAXBUFSIZE)
}

func (s *sysctls) sysctl(name string) *atomic.Int32 {
	switch name {
	case "net.bpf.zerocopy_enable":
		return &s.zerocopyEnable
	case "net.bpf.maxinsns":
		return &s.maxInsns
	case "net.bpf.bufsize":
		return &s.bufSize
	case "net.bpf.maxbufsize":
		return &s.maxBufSize
	case "net.bpf.optimize_writers":
		return &s.optimizeWriters
	}
	return nil
}

// WithSysctl sets a sysctl as [Kernel.SetSysctl] does, with root's rights. It panics if there is no
// sysctl of that name.
func WithSysctl(name string, value int32) Option {
	return func(k *Kernel) {
		v := k.sysctl(name)
		if v == nil {
			panic("bpftest: no sysctl " + name)
		}
		v.Store(value)
	}
}

// hzName is the sysctl with the number of ticks in a second, in which read timeouts are counted
// ([WithHZ]).
const hzName = "kern.hz"

// Sysctl reads an integer sysctl: net.bpf.zerocopy_enable, net.bpf.maxinsns, net.bpf.bufsize
// (bytes), net.bpf.maxbufsize (bytes), net.bpf.optimize_writers or kern.hz.
//
// Errors:
//   - ENOENT: the model has no integer sysctl of that name.
func (k *Kernel) Sysctl(name string) (int32, error) {
	if err := k.Panicked(); err != nil {
		return 0, err
	}
	if v := k.sysctl(name); v != nil {
		return v.Load(), nil
	}
	if name == hzName {
		return int32(k.hz), nil
	}
	return 0, syscall.ENOENT
}

// SetSysctl writes an integer sysctl. The kernel takes any value.
//
// Errors:
//   - ENOENT: the model has no integer sysctl of that name.
//   - EPERM: the process has no root rights ([WithUnprivileged]), or the sysctl is kern.hz.
func (k *Kernel) SetSysctl(name string, value int32) error {
	if err := k.Panicked(); err != nil {
		return err
	}
	v := k.sysctl(name)
	switch {
	case v == nil && name != hzName:
		return syscall.ENOENT
	case v == nil, k.unprivileged:
		return syscall.EPERM
	}
	v.Store(value)
	return nil
}

// statsName is the sysctl that netstat -B reads.
const statsName = "net.bpf.stats"

// ReadSysctl reads a sysctl into p and returns its size in bytes, as sysctl(3) does. An integer is
// 4 bytes in host order. net.bpf.stats is an array of struct xbpf_d. If p is nil, ReadSysctl only
// returns the size.
//
// Errors:
//   - ENOMEM: p is too small.
//   - ENOENT: the model has no sysctl of that name.
//   - EPERM: the sysctl is net.bpf.stats, and the process has no root rights.
func (k *Kernel) ReadSysctl(name string, p []byte) (int, error) {
	var value []byte
	if name == statsName {
		if err := k.Panicked(); err != nil {
			return 0, err
		}
		if k.unprivileged {
			return 0, syscall.EPERM
		}
		var err error
		if value, err = binary.Append(nil, binary.NativeEndian, k.Stats()); err != nil {
			return 0, err
		}
	} else {
		v, err := k.Sysctl(name)
		if err != nil {
			return 0, err
		}
		value = binary.NativeEndian.AppendUint32(nil, uint32(v))
	}
	if p == nil {
		return len(value), nil
	}
	if len(p) < len(value) {
		return 0, syscall.ENOMEM
	}
	return copy(p, value), nil
}

// WriteSysctl writes a sysctl, as sysctl(3) does. value has the form that [Kernel.ReadSysctl]
// returns. One struct xbpf_d of zeroes written to net.bpf.stats zeroes the counters.
//
// Errors:
//   - EINVAL: value has another size, or net.bpf.stats gets other content.
//   - EPERM: the sysctl is net.bpf.stats, and the process has no root rights.
//   - Those of [Kernel.SetSysctl] for integers.
func (k *Kernel) WriteSysctl(name string, value []byte) error {
	if name != statsName {
		v := k.sysctl(name)
		if v != nil && !k.unprivileged && len(value) != 4 {
			return syscall.EINVAL
		}
		var word [4]byte
		copy(word[:], value)
		return k.SetSysctl(name, int32(binary.NativeEndian.Uint32(word[:])))
	}
	if err := k.Panicked(); err != nil {
		return err
	}
	if k.unprivileged {
		return syscall.EPERM
	}
	if len(value) != binary.Size(zbuf.XbpfD{}) || len(bytes.Trim(value, "\x00")) != 0 {
		return syscall.EINVAL
	}
	k.ResetStats()
	return nil
}
