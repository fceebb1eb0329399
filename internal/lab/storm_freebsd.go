package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
)

// Storm is a broadcast that goes round for ever between two bridges joined by two wires. It is load
// that costs no system call, as fast as the machine can go.
type Storm struct {
	// Ifname is the interface on which tests capture it.
	Ifname string
	// Sink is the address of the other end of Ifname's wire. Frames for it end there. A frame that a
	// Feeder writes comes in on Ifname once, in order, and never again. Do not count the frames that
	// go out: when an epair's queue has overflowed, the kernel shows the frames that had to wait a
	// second time.
	Sink net.HardwareAddr

	made  []string // the wires, then the bridges while there are any
	wires [2][2]string
	pair  *Pair
	sunk  *zbuf.Device // its drops count the frames that reach Sink: it has room for two
	fed   atomic.Uint32
}

// NewStorm builds the loop. Until Close, processes have all processors but the last. Nothing goes
// round before Start.
func NewStorm() (*Storm, error) {
	if err := separate(); err != nil {
		return nil, err
	}
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
	s.wires = [2][2]string{{p.A, p.B}, {q, q[:len(q)-1] + "b"}}
	if err := s.bridge(); err != nil {
		return err
	}
	end, err := net.InterfaceByName(p.B)
	if err != nil {
		return err
	}
	s.Ifname, s.Sink = p.A, end.HardwareAddr
	if s.sunk, err = zbuf.Open(); err != nil {
		return err
	}
	if _, err := s.sunk.SetBufferLen(zbuf.BPF_MINBUFSIZE); err != nil {
		return err
	}
	return errors.Join(s.sunk.SetFilter(to(s.Sink)), s.sunk.SetDirection(zbuf.BPF_D_IN),
		s.sunk.SetInterface(p.B))
}

// to returns a filter for frames to an address.
func to(addr net.HardwareAddr) []zbuf.Insn {
	return []zbuf.Insn{
		{Op: 0x20, K: 0}, // ld [0]
		{Op: 0x15, Jf: 3, K: binary.BigEndian.Uint32(addr)},
		{Op: 0x28, K: 4}, // ldh [4]
		{Op: 0x15, Jf: 1, K: uint32(binary.BigEndian.Uint16(addr[4:]))},
		{Op: 0x06, K: 1},
		{Op: 0x06},
	}
}

// Feeder writes frames that come in on a storm's interface.
type Feeder struct {
	storm *Storm
	d     *zbuf.Device
	n     int
}

// NewFeeder opens a descriptor that writes to the storm's interface. It gets no packets itself.
func (s *Storm) NewFeeder() (*Feeder, error) {
	d, err := zbuf.Open()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(d.SetFilter([]zbuf.Insn{{Op: 0x06}}), d.SetHeaderComplete(true),
		d.SetFeedback(true), d.SetInterface(s.Ifname)); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &Feeder{storm: s, d: d}, nil
}

// Write writes a frame to Sink. It first waits while too many are on the way: see window. A frame
// becomes three on the wires. The bridge sends a written frame on both, and the copy that is fed
// back on the other.
func (f *Feeder) Write(frame []byte) error {
	const most = window / 3
	if f.n%(most/10) == 0 {
		err := Until(func() (bool, error) {
			st, err := f.storm.sunk.Stats()
			return int32(f.storm.fed.Load()-st.Drop) < most, err
		})
		if err != nil {
			return fmt.Errorf("%d frames and more are on the way to %s: %w", most, f.storm.Sink, err)
		}
	}
	_, err := f.d.Write(frame)
	if err == nil {
		f.n++
		f.storm.fed.Add(1)
	}
	return err
}

// Close closes the descriptor.
func (f *Feeder) Close() error { return f.d.Close() }

// bridge joins the ends of the two wires.
func (s *Storm) bridge() error {
	for end := range 2 {
		bridge, err := Create("bridge")
		if err != nil {
			return err
		}
		s.made = append(s.made, bridge)
		for _, wire := range s.wires {
			if err := (kernel{}).SetUp(wire[end], true); err != nil {
				return err
			}
			if err := addMember(bridge, wire[end]); err != nil {
				return err
			}
		}
		if err := (kernel{}).SetUp(bridge, true); err != nil {
			return err
		}
	}
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

// StormFrame returns the frame that goes round.
func StormFrame() []byte {
	f := Frame(64, 0)
	for i := range 6 {
		f[i] = 0xff
	}
	return f
}

// Start sends the one broadcast that never dies. After Stop it joins the wires anew.
func (s *Storm) Start() error {
	if err := s.Ready(); err != nil {
		return err
	}
	_, err := s.pair.write[s.pair.A].Write(StormFrame())
	return err
}

// Ready makes everything ready for a storm. Frames can be written, and nothing storms before Start.
func (s *Storm) Ready() error {
	if len(s.made) > len(s.wires) {
		return nil
	}
	return s.bridge()
}

// hush ends the storm. It comes before anything is destroyed. The thread that destroys may have to
// run on each processor once, and the processor of the storm has no room as long as it goes on.
func (s *Storm) hush() error {
	if len(s.made) == 0 {
		return nil
	}
	return kernel{}.SetUp(s.made[0], false)
}

// Stop ends the storm. The wires stay. Ifname is down until Start.
func (s *Storm) Stop() error {
	errs := []error{s.hush()}
	for _, bridge := range s.made[len(s.wires):] {
		errs = append(errs, kernel{}.Destroy(bridge))
	}
	s.made = s.made[:len(s.wires)]
	return errors.Join(errs...)
}

// Close removes everything. Call it once.
func (s *Storm) Close() error {
	errs := []error{s.hush()}
	if s.pair != nil {
		s.pair.Close()
	}
	if s.sunk != nil {
		errs = append(errs, s.sunk.Close())
	}
	for len(s.made) > 0 {
		errs = append(errs, kernel{}.Destroy(s.made[len(s.made)-1]))
		s.made = s.made[:len(s.made)-1]
	}
	return errors.Join(append(errs, join())...)
}
