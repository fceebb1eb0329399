package bpf

import (
	"sync"

	"github.com/zbuf-go/zbuf"
)

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

// A tally counts what iteration and reading have passed, but for what the state still counts.
type tally struct {
	mu             sync.Mutex
	packets, bytes uint64
	live           published // counts of a PacketReader's lease that is out
}

func (t *tally) add(packets, bytes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.packets += packets
	t.bytes += bytes
}

// fold takes over what the state counts. The caller owns the state.
func (t *tally) fold(a *atomicState) {
	s := a.load()
	packets, bytes := s.counts()
	if packets == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.packets += packets
	t.bytes += bytes
	a.store(s.phase())
}

// foldLive takes over what a PacketReader has published. The PacketReader calls it.
func (t *tally) foldLive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	packets, bytes := t.live.load().counts()
	t.packets += packets
	t.bytes += bytes
	t.live.word.Store(0)
}

// values returns all that was passed. What is folded is in one of both places, under the lock.
func (t *tally) values(a *atomicState) (packets, bytes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	packets, bytes = a.load().counts()
	livePackets, liveBytes := t.live.load().counts()
	return t.packets + packets + livePackets, t.bytes + bytes + liveBytes
}
