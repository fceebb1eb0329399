package bpf

import (
	"errors"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// buffered is the engine that copies a kernel buffer at a time with read(2).
//
// A reset can't come between read(2) and the stamping of what it returned with an epoch, because
// fetch holds the gate for the call. The call never blocks.
type buffered struct {
	n       engineCounters
	dev     *zbuf.Device
	gate    *gate
	mem     memory
	mapping []byte
	buf     []byte // the part of mapping that read(2) must be given
	full    bool   // the last read filled at least half of buf
}

func newBuffered(dev *zbuf.Device, g *gate, mem memory) (*buffered, error) {
	n, err := dev.BufferLen()
	if err != nil {
		return nil, err
	}
	mapping, err := mem.alloc(int(n))
	if err != nil {
		return nil, err
	}
	return &buffered{dev: dev, gate: g, mem: mem, mapping: mapping, buf: mapping[:n]}, nil
}

func (e *buffered) take() (batch, bool) { return batch{}, false }

func (e *buffered) fetch(bool) (batch, bool, error) {
	if err := e.mem.open(e.mapping); err != nil {
		return batch{}, false, err
	}
	b, ok, err := e.read()
	if !ok {
		e.mem.shut(e.mapping)
	}
	return b, ok, err
}

func (e *buffered) read() (batch, bool, error) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.n.syscalls.Add(1)
	n, err := e.dev.Read(e.buf)
	e.full = n >= len(e.buf)/2
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return batch{}, false, nil
	case errors.Is(err, syscall.ENXIO):
		return batch{}, false, ErrInterfaceGone
	case err != nil || n == 0:
		return batch{}, false, err
	}
	e.n.copiedOut.Add(1)
	return batch{buf: e.buf[:n], epoch: e.gate.epoch.Load(), idx: copied}, true, nil
}

func (e *buffered) release(batch)       { e.mem.shut(e.mapping) }
func (e *buffered) expose(*batch) error { return nil } // fetch has opened it
func (e *buffered) behind() bool        { return e.full }
func (e *buffered) awaited()            {}
func (e *buffered) rearm() bool         { return true }
func (e *buffered) empty() bool         { return false }
func (e *buffered) discard()            {}
func (e *buffered) catchUp()            {}
func (e *buffered) counts() engineStats { return e.n.values() }
func (e *buffered) forget()             { e.mapping, e.buf = nil, nil }
