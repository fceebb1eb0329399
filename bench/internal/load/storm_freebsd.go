package load

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// Frames is the number of frames that go round. A filter can pass any number of them, and so that
// share of the full rate.
const Frames = 64

const (
	etherType = 0x88b5 // for experiments
	tagAt     = 14     // the number of a frame follows the Ethernet header
)

// Storm has broadcasts that go round for ever between two bridges.
type Storm struct {
	*lab.Storm
	dev *zbuf.Device
}

// NewStorm builds the loop. Nothing goes round before Fill.
func NewStorm() (*Storm, error) {
	l, err := lab.NewStorm()
	if err != nil {
		return nil, err
	}
	s := &Storm{Storm: l}
	if s.dev, err = zbuf.Open(); err == nil {
		err = mute(s.dev, l.Ifname)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Fill sends n frames of size bytes round.
func (s *Storm) Fill(n, size int) error {
	for i := range n {
		if _, err := s.dev.Write(frame(i, size)); err != nil {
			return fmt.Errorf("start frame %d: %w", i, err)
		}
	}
	return nil
}

// frame returns a broadcast with number i.
func frame(i, size int) []byte {
	f := lab.Frame(size, uint32(i))
	for j := range 6 {
		f[j] = 0xff
	}
	f[tagAt] = byte(i)
	return f
}

// Now returns the time of the clock of stamps. All processes have the same clock.
func Now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// mute attaches a descriptor that receives nothing. It is for writing to an interface.
func mute(d *zbuf.Device, ifname string) error {
	return errors.Join(d.SetFilter(Nothing()), d.SetHeaderComplete(true), d.SetInterface(ifname))
}

// Close removes the storm and its interfaces.
func (s *Storm) Close() error {
	var errs []error
	if s.dev != nil {
		errs = append(errs, s.dev.Close())
	}
	return errors.Join(append(errs, s.Storm.Close())...)
}

// Nothing returns a filter that passes nothing.
func Nothing() []bpf.RawInstruction { return []bpf.RawInstruction{{Op: 0x06}} }

// Share returns a filter that passes n of the Frames frames, whole.
func Share(n int) []bpf.RawInstruction {
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherType, SkipTrue: 3},
		bpf.LoadAbsolute{Off: tagAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: uint32(n), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		panic(err)
	}
	return prog
}
