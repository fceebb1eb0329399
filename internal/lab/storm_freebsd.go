package lab

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Storm is a broadcast that goes round for ever between two bridges joined by two wires:
// load that costs no system call, as fast as the machine can go.
type Storm struct {
	// Ifname is where to capture it.
	Ifname string
	// Sink is the address of the other end of Ifname's wire, where frames for it end: one that is
	// written with BIOCFEEDBACK comes in on Ifname once, in order, and never again. What goes out is
	// no measure: when an epair's queue has overflowed, the kernel shows the frames that had to
	// wait a second time.
	Sink net.HardwareAddr

	made []string
	pair *Pair
}

// NewStorm builds the loop. Nothing goes round before Start.
func NewStorm() (*Storm, error) {
	s := &Storm{}
	if err := s.build(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Storm) build() error {
	k := kernel{}
	p, err := k.NewPair()
	if err != nil {
		return err
	}
	s.pair = p
	s.made = append(s.made, p.A)
	q, err := Create("epair")
	if err != nil {
		return err
	}
	s.made = append(s.made, q)
	far := q[:len(q)-1] + "b"
	for _, members := range [][]string{{p.A, q}, {p.B, far}} {
		bridge, err := Create("bridge")
		if err != nil {
			return err
		}
		s.made = append(s.made, bridge)
		for _, m := range members {
			if err := k.SetUp(m, true); err != nil {
				return err
			}
			if err := addMember(bridge, m); err != nil {
				return err
			}
		}
		if err := k.SetUp(bridge, true); err != nil {
			return err
		}
	}
	end, err := net.InterfaceByName(p.B)
	if err != nil {
		return err
	}
	s.Ifname, s.Sink = p.A, end.HardwareAddr
	return nil
}

// addMember is BRDGADD.
func addMember(bridge, member string) error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	var req [80]byte // struct ifbreq
	copy(req[:unix.IFNAMSIZ-1], member)
	if err := ioctlDriver(sock, bridge, 0, req[:]); err != nil {
		return fmt.Errorf("add %s to %s: %w", member, bridge, err)
	}
	return nil
}

// Start sends the one broadcast that never dies.
func (s *Storm) Start() error {
	f := Frame(64, 0)
	for i := range 6 {
		f[i] = 0xff
	}
	_, err := s.pair.write[s.pair.A].Write(f)
	return err
}

// Stop ends it; the interfaces stay.
func (s *Storm) Stop() error {
	var errs []error
	for _, n := range s.made[2:] { // the bridges
		errs = append(errs, kernel{}.Destroy(n))
	}
	s.made = s.made[:2]
	return errors.Join(errs...)
}

// Close takes everything down.
func (s *Storm) Close() error {
	var errs []error
	if s.pair != nil {
		s.pair.Close()
	}
	for len(s.made) > 0 {
		errs = append(errs, kernel{}.Destroy(s.made[len(s.made)-1]))
		s.made = s.made[:len(s.made)-1]
	}
	return errors.Join(errs...)
}
