package conformance

import (
	"errors"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// seats is the number of descriptors in a sequence.
const seats = 3

// side is one of the two kernels that play the same sequence.
type side struct {
	w       lab.World
	p       *lab.Pair
	stamped bool
	seat    [seats]*seat
	sysctls map[string]int // as they were
}

// seat is a descriptor of a side.
type seat struct {
	lab.Desc
	buf  [2][]byte
	gens [2]uint32 // as compared last
	zero bool      // in zero-copy mode
	lent bool
	// timed says that a read timeout is set and has run out. An ioctl would let the next
	// poll start it again, and then results depended on time: it is unset first.
	timed bool
	// promisc and stale say that it put its interface into promiscuous mode, and that the interface
	// went afterwards. Where the mark stays, attaching it again ends in a panic.
	promisc, stale bool
}

func newSide(w lab.World, stamped bool) (*side, error) {
	s := &side{w: w, stamped: stamped, sysctls: map[string]int{}}
	for _, n := range sysctlNames {
		v, err := w.Sysctl(n)
		if err != nil {
			return nil, err
		}
		s.sysctls[n] = v
	}
	return s, s.plug()
}

var sysctlNames = []string{"net.bpf.zerocopy_enable", "net.bpf.maxinsns", "net.bpf.bufsize",
	"net.bpf.maxbufsize", "net.bpf.optimize_writers"}

// plug makes a wire that takes frames of nearly a page.
func (s *side) plug() error {
	p, err := s.w.NewPair()
	if err != nil {
		return err
	}
	s.p = p
	for _, ifname := range []string{p.A, p.B} {
		if err := s.w.SetMTU(ifname, 4082); err != nil {
			return err
		}
	}
	return nil
}

func (s *side) unplug() error {
	s.p.Close()
	return s.w.Destroy(s.p.A)
}

func (s *side) close() error {
	var errs []error
	for i := range s.seat {
		s.step(op{Do: "close", S: i})
	}
	errs = append(errs, s.unplug())
	for n, v := range s.sysctls {
		errs = append(errs, s.w.SetSysctl(n, v))
	}
	return errors.Join(errs...)
}

func (s *side) end(n uint32) string {
	switch n % 8 {
	case 0:
		return "nosuch0"
	case 1, 2:
		return s.p.B
	}
	return s.p.A
}
