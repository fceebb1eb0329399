package bpftest

import (
	"time"
)

// States of the read timeout (bd_state).
type timeoutState uint8

const (
	idle     timeoutState = iota // nobody waits
	waiting                      // the timeout runs
	timedOut                     // it ran out, and nothing reset it: as good as immediate mode
)

// startTimeout lets the read timeout run if there is one and nothing else has used it.
func (d *Descriptor) startTimeout() {
	if d.rtout == 0 || d.state != idle {
		return
	}
	d.state = waiting
	d.timerID++
	id := d.timerID
	d.timer = time.AfterFunc(d.k.ticks(d.rtout), func() { d.timeout(id) })
}

// ticks returns the duration of n ticks of the kernel's clock.
func (k *Kernel) ticks(n int64) time.Duration {
	return time.Duration(n) * (time.Second / time.Duration(k.hz))
}

// stopTimeout stops the read timeout. Every ioctl and read does that first.
func (d *Descriptor) stopTimeout() {
	if d.state == waiting {
		d.timer.Stop()
		d.timerID++
	}
	d.state = idle
}

// timeout is bpf_timed_out.
func (d *Descriptor) timeout(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timerID != id || d.state != waiting {
		return
	}
	d.state = timedOut
	if d.slen != 0 {
		d.wakeup()
	}
}

// wakeup is bpf_wakeup.
func (d *Descriptor) wakeup() {
	if d.state == waiting {
		d.stopTimeout()
	}
	d.broadcast()
	d.knote()
}
