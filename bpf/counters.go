package bpf

import "github.com/zbuf-go/zbuf"

// kernelCounters carry the kernel's 32-bit counters on in 64 bits. The gate's lock guards them.
type kernelCounters struct {
	recv, drop         uint64
	lastRecv, lastDrop uint32
}

// advance returns how far a counter has come from last to now. A counter that has gone back was
// zeroed, unless the step is short enough to be the wrap from 2^32-1 to 0.
func advance(last, now uint32) uint64 {
	if step := now - last; now >= last || step < 1<<31 && last >= 1<<31 {
		return uint64(step)
	}
	return uint64(now)
}

// sample reads the counters of dev.
func (k *kernelCounters) sample(dev *zbuf.Device) error {
	s, err := dev.Stats()
	if err != nil {
		return err
	}
	k.recv += advance(k.lastRecv, s.Recv)
	k.drop += advance(k.lastDrop, s.Drop)
	k.lastRecv, k.lastDrop = s.Recv, s.Drop
	return nil
}

// zeroed notes that a reset has zeroed the kernel's counters.
func (k *kernelCounters) zeroed() { k.lastRecv, k.lastDrop = 0, 0 }
