package bpf

import "github.com/zbuf-go/zbuf"

// memory gives an engine the memory for packets that it copies. With Config.Guard that memory is
// inaccessible except while the engine or a batch uses it.
type memory struct {
	dev   *zbuf.Device
	guard bool
}

func (m memory) alloc(size int) ([]byte, error) {
	if m.guard {
		return m.dev.GuardedMemory(size)
	}
	return make([]byte, size), nil
}

// open makes mem accessible.
func (m memory) open(mem []byte) error {
	if m.guard {
		return m.dev.Protect(mem, true)
	}
	return nil
}

// shut makes mem inaccessible. Protect fails only if the kernel is short of memory. Then mem stays
// accessible.
func (m memory) shut(mem []byte) {
	if m.guard {
		m.dev.Protect(mem, false)
	}
}
