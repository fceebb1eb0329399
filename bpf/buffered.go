package bpf

import (
	"errors"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// readSource reads a buffer at a time with read(2).
type readSource struct {
	r    *Reader
	dev  *zbuf.Device
	mem  []byte
	buf  []byte // as much of it as read(2) must be given
	full bool   // the last read nearly filled buf
}

func newReadSource(r *Reader) (*readSource, error) {
	n, err := r.dev.BufferLen()
	if err != nil {
		return nil, err
	}
	r.size = int(n)
	mem, err := r.memory(r.size)
	if err != nil {
		return nil, err
	}
	return &readSource{r: r, dev: r.dev, mem: mem, buf: mem[:r.size]}, nil
}

func (s *readSource) take() (held, bool) { return held{}, false }

func (s *readSource) harvest(bool) (held, bool, error) {
	if err := s.r.writable(s.mem); err != nil {
		return held{}, false, err
	}
	s.r.stats.syscalls.Add(1)
	n, err := s.dev.Read(s.buf)
	s.full = n >= len(s.buf)/2
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return held{}, false, nil
	case errors.Is(err, syscall.ENXIO):
		return held{}, false, ErrInterfaceGone
	case err != nil || n == 0:
		return held{}, false, err
	}
	s.r.stats.copiedOut.Add(1)
	return held{buf: s.buf[:n], idx: own}, true, nil
}

func (s *readSource) guarded(h held) (mapping, buf []byte) { return s.mem, h.buf }

func (s *readSource) empty() bool  { return false }
func (s *readSource) awaited()     {}
func (s *readSource) release(held) {}
func (s *readSource) rearm() bool  { return true }
func (s *readSource) behind() bool { return s.full }
func (s *readSource) reset()       {}
func (s *readSource) catchUp()     {}
