package zbuf

import "time"

// ReadTimeout returns the kernel's read timeout. 0 is no timeout. Request: [BIOCGRTIMEOUT], legal
// when locked.
func (d *Device) ReadTimeout() (time.Duration, error) {
	var tv Timeval
	err := d.ioctl(BIOCGRTIMEOUT, &tv)
	return time.Duration(tv.Sec)*time.Second + time.Duration(tv.Usec)*time.Microsecond, err
}

// SetReadTimeout sets the time after which the kernel wakes waiting readers although no buffer is
// full. 0 is no timeout. The time runs from the moment when a reader begins to wait. Every request
// on the descriptor stops it until a reader begins to wait again. Request: [BIOCSRTIMEOUT], legal
// when locked.
//
// SetReadTimeout rounds t up to a microsecond. The kernel then rounds it to whole clock ticks. A
// tick is 1/kern.hz seconds: 10 ms if kern.hz is 100, 1 ms if it is 1000.
//   - FreeBSD 12.1 rounds up. 15 ms are 20 ms at 100 Hz.
//   - FreeBSD 14 rounds down. 15 ms are 10 ms at 100 Hz. Less than one tick becomes 0, and that is
//     no timeout at all: a reader then waits until a buffer is full.
//
// So round t up to whole ticks yourself, and check what [Device.ReadTimeout] returns.
//
// Errors:
//   - EINVAL: t is negative.
func (d *Device) SetReadTimeout(t time.Duration) error {
	us := t / time.Microsecond
	if t%time.Microsecond > 0 {
		us++
	}
	if t < 0 {
		us = -1
	}
	return d.ioctl(BIOCSRTIMEOUT, newTimeval(int64(us)))
}

func newTimeval(us int64) *Timeval {
	var tv Timeval
	setTimeval(&tv.Sec, us/1e6)
	setTimeval(&tv.Usec, us%1e6)
	return &tv
}

func setTimeval[T int32 | int64](field *T, v int64) { *field = T(v) }

// Stats returns the counters since the last reset: the packets that the descriptor has seen, and
// the packets that the kernel dropped because no buffer had room. The kernel cuts both to 32 bits.
// Request: [BIOCGSTATS], legal when locked.
func (d *Device) Stats() (s Stat, err error) {
	err = d.ioctl(BIOCGSTATS, &s)
	return s, err
}

// Direction returns which packets the descriptor sees: BPF_D_IN, BPF_D_INOUT or BPF_D_OUT. Request:
// [BIOCGDIRECTION].
func (d *Device) Direction() (uint32, error) { return d.get(BIOCGDIRECTION) }

// SetDirection sets which packets the descriptor sees. With BPF_D_INOUT, the default, it also sees
// the packets that this host sends. Request: [BIOCSDIRECTION].
//
// Errors:
//   - EINVAL: dir is no BPF_D_ value.
func (d *Device) SetDirection(dir uint32) error { return d.set(BIOCSDIRECTION, dir) }

// TimestampType returns the BPF_T_ value in force. Request: [BIOCGTSTAMP].
func (d *Device) TimestampType() (uint32, error) { return d.get(BIOCGTSTAMP) }

// SetTimestampType sets the BPF_T_ value. Records that are already stored keep their form, so set
// it before you attach. Request: [BIOCSTSTAMP], legal when locked.
//
// Errors:
//   - EINVAL: t is no BPF_T_ value.
func (d *Device) SetTimestampType(t uint32) error { return d.set(BIOCSTSTAMP, t) }

// SetVLANPCP sets the 802.1p priority, 0 to 7, of written packets. Request: [BIOCSETVLANPCP], since
// 14.0.
//
// Errors:
//   - EINVAL: pcp is more than 7, or the kernel is older than 14.0.
func (d *Device) SetVLANPCP(pcp uint32) error { return d.set(BIOCSETVLANPCP, pcp) }

// SetNonblocking sets whether read(2) returns EAGAIN instead of waiting. The backends open
// descriptors non-blocking. Request: [FIONBIO].
func (d *Device) SetNonblocking(on bool) error { return d.setIntBool(FIONBIO, on) }

// SetAsync sets whether the kernel sends a signal when there is something to read. Request:
// [FIOASYNC].
func (d *Device) SetAsync(on bool) error { return d.setIntBool(FIOASYNC, on) }

// Signal returns the number of the signal that [Device.SetAsync] makes the kernel send. The default
// is SIGIO. Request: [BIOCGRSIG], legal when locked.
func (d *Device) Signal() (uint32, error) { return d.get(BIOCGRSIG) }

// SetSignal sets the number of the signal that [Device.SetAsync] makes the kernel send. Request:
// [BIOCSRSIG].
//
// Errors:
//   - EINVAL: sig is no signal's number.
func (d *Device) SetSignal(sig uint32) error { return d.set(BIOCSRSIG, sig) }

// Owner returns the process that gets the signals, or a process group as a negative number.
// Request: [FIOGETOWN].
func (d *Device) Owner() (int32, error) { return d.getInt(FIOGETOWN) }

// SetOwner sets the process that gets the signals. A negative number is a process group. If the
// kernel refuses pid, FreeBSD 12.1 keeps the old owner, and 14 has none. Request: [FIOSETOWN].
//
// Errors:
//   - ESRCH: there is no such process or process group.
//   - EPERM: it belongs to another session.
func (d *Device) SetOwner(pid int32) error { return d.setInt(FIOSETOWN, pid) }

// ProcessGroup returns the process group that gets the signals. Request: [TIOCGPGRP], legal when
// locked.
func (d *Device) ProcessGroup() (int32, error) { return d.getInt(TIOCGPGRP) }

// SetProcessGroup sets the process group that gets the signals. Request: [TIOCSPGRP].
//
// Errors:
//   - ESRCH, EPERM: as for [Device.SetOwner].
func (d *Device) SetProcessGroup(pgrp int32) error { return d.setInt(TIOCSPGRP, pgrp) }
