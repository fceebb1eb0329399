package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// inherited is the number of the first of exec.Cmd.ExtraFiles.
const inherited = 3

// nobody is the user that has no rights.
const nobody = 65534

// adopter captures, without any rights, with a descriptor that somebody else opened.
func adopter(args []string) error {
	mode, err := bpf.ParseMode(args[1])
	if err != nil {
		return err
	}
	if err := syscall.Setuid(nobody); err != nil {
		return err
	}
	if _, err := zbuf.Open(); !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("it could have opened a descriptor itself: %v", err)
	}
	b, err := zbuf.NewHostBackend(inherited)
	if err != nil {
		return err
	}
	d, err := zbuf.Adopt(b)
	if err != nil {
		return err
	}
	r, err := bpf.Open(args[0], bpf.Config{Device: d, Mode: mode, ReadTimeout: readTimeout})
	if err != nil {
		return err
	}
	if got, why := r.Mode(); got != mode {
		return fmt.Errorf("mode %v: %v", got, why)
	}
	return captureAndTell(r)
}

// heir goes on reading from a descriptor that captures already, in buffered mode.
func heir(args []string) error {
	b, err := zbuf.NewHostBackend(inherited)
	if err != nil {
		return err
	}
	d, err := zbuf.Adopt(b)
	if err != nil {
		return err
	}
	if name, err := d.Interface(); err != nil || name != args[0] {
		return fmt.Errorf("attached to %q: %v", name, err)
	}
	size, err := d.BufferLen()
	if err != nil {
		return err
	}
	say("ready")
	awaitStdin()
	var end told
	for buf := make([]byte, size); ; {
		n, err := d.Read(buf)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			return err
		}
		for at := 0; at < n; { // struct bpf_xhdr
			rec := buf[at:n]
			caplen := int(binary.NativeEndian.Uint32(rec[16:]))
			hdrlen := int(binary.NativeEndian.Uint16(rec[24:]))
			end.Tally.take(rec[hdrlen:][:caplen])
			at += (hdrlen + caplen + zbuf.Alignment - 1) &^ (zbuf.Alignment - 1)
		}
	}
	s, err := d.Stats()
	if err != nil {
		return err
	}
	end.Tally.Received, end.Tally.Dropped = uint64(s.Recv), uint64(s.Drop)
	say(end)
	return d.Close()
}

// forker forks while it captures, and reports the process id of the fork.
func forker(args []string) error {
	mode, err := bpf.ParseMode(args[1])
	if err != nil {
		return err
	}
	r, err := bpf.Open(args[0], bpf.Config{Mode: mode, BufferSize: largest, ReadTimeout: readTimeout})
	if err != nil {
		return err
	}
	pid, err := lab.Fork()
	if err != nil {
		return err
	}
	say(pid)
	awaitStdin()
	return r.Close()
}

// openFile opens a descriptor to be passed on.
func openFile(t *testing.T) *os.File {
	fd, err := unix.Open("/dev/bpf", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	return os.NewFile(uintptr(fd), "/dev/bpf")
}

// pass starts a child with a descriptor and closes its own.
func pass(t *testing.T, f *os.File, what string, args ...any) *child {
	c := prepare(t, what, args...)
	c.ExtraFiles = []*os.File{f}
	c.start()
	require.NoError(t, f.Close())
	c.ready()
	return c
}

func TestDescriptorPassedToAChild(t *testing.T) {
	t.Run("that opens a reader on it", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
			handOver(t, w, func(p *lab.Pair) (*child, uint32) {
				return pass(t, openFile(t), "adopter", p.A, mode), 0
			})
		})
	})
	t.Run("that goes on where it was", func(t *testing.T) {
		w := lab.OnKernel(t)
		handOver(t, w, func(p *lab.Pair) (*child, uint32) {
			f := openFile(t)
			dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			require.NoError(t, err)
			b, err := zbuf.NewHostBackend(dup)
			require.NoError(t, err)
			d, err := zbuf.Adopt(b)
			require.NoError(t, err)
			_, err = d.SetBufferLen(64 << 10)
			require.NoError(t, err)
			require.NoError(t, d.SetTimestampType(zbuf.BPF_T_NANOTIME))
			require.NoError(t, d.SetInterface(p.A))
			const already = 50
			for n := range uint32(already) {
				p.Inject(t, frame(n))
			}
			c := pass(t, f, "heir", p.A)
			require.NoError(t, d.Close())
			return c, already
		})
	})
}

// handOver makes children that capture numbered frames with the descriptor that they got, and
// requires that none is lost.
func handOver(t *testing.T, w lab.World, begin func(p *lab.Pair) (c *child, sent uint32)) {
	before := wired(t)
	var packets, lost uint64
	for range passed.n() {
		p := lab.NewPair(t, w)
		c, first := begin(p)
		on := listeners(t, p.A)
		require.Len(t, on, 1)
		tr := &traffic{p: p}
		tr.sent.Store(first)
		for range 8 {
			require.NoError(t, tr.once(batch))
		}
		c.release()
		var end told
		c.hear(&end)
		c.finish()
		end.Tally.Sent = uint64(tr.sent.Load())
		requireNothingLost(t, end.Tally)
		packets, lost = packets+end.Tally.Delivered, lost+end.Tally.lost()
		requireNobodyLeft(t, p.A)
	}
	requireWiredBack(t, before)
	lab.Report(t, lab.Faults, uint64(passed.n()))
	lab.Report(t, lab.Packets, packets)
	lab.Report(t, lab.Lost, lost)
}

// A fork has the descriptor, too. The capture goes on when one of the processes closes it or dies,
// and ends with the last of them. A program that exec started does not have the descriptor.
func TestDescriptorKeptByAChild(t *testing.T) {
	inBothModes(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		before := wired(t)
		// alone checks that the session goes on for the fork, and ends with it.
		alone := func(fork int) {
			on := listeners(t, p.A)
			require.Len(t, on, 1)
			p.Inject(t, frame(1), frame(2))
			now := listeners(t, p.A)
			require.Len(t, now, 1)
			require.Equal(t, on[0].Received+2, now[0].Received)
			held := wired(t)
			require.NoError(t, unix.Kill(fork, unix.SIGKILL))
			requireNobodyLeft(t, p.A)
			if mode == bpf.ZeroCopy {
				// Other pages are wired and given back all the time, so the time between is short.
				require.NoError(t, lab.Until(func() (bool, error) {
					return held-wired(t) > 2*largest/os.Getpagesize()-256, nil
				}), "what was lent was the kernel's until then: %d pages were wired", held)
			}
		}
		for range passed.n() {
			r := open(t, p.A, bpf.Config{Mode: mode, BufferSize: largest, ReadTimeout: readTimeout})
			fork, err := lab.Fork()
			require.NoError(t, err)
			p.Inject(t, frame(0))
			data, _, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.Equal(t, frame(0), data)
			require.NoError(t, r.Close())
			alone(fork)
			_, err = unix.Wait4(fork, nil, 0, nil)
			require.NoError(t, err)

			c := startChild(t, "forker", p.A, mode)
			c.hear(&fork)
			require.NoError(t, c.Process.Kill())
			_, err = c.Process.Wait() // not for its output, which the fork has, too
			require.NoError(t, err)
			alone(fork)

			r = open(t, p.A, bpf.Config{Mode: mode, BufferSize: largest, ReadTimeout: readTimeout})
			s := startChild(t, "sleeper")
			s.ready()
			require.NoError(t, r.Close())
			requireNobodyLeft(t, p.A)
			s.release()
			s.finish()
		}
		requireWiredBack(t, before)
		lab.Report(t, lab.Faults, 3*uint64(passed.n()))
	})
}

// The buffers of a descriptor in zero-copy mode are in the memory of the process that lent them.
// Any other process that has the descriptor gets an error that says so.
func TestLentDescriptorPassedToAChild(t *testing.T) {
	w := lab.OnKernel(t)
	lab.WantZeroCopy(t, w)
	p := lab.NewPair(t, w)
	f := openFile(t)
	dup := func() *zbuf.Device {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		b, err := zbuf.NewHostBackend(fd)
		require.NoError(t, err)
		d, err := zbuf.Adopt(b)
		require.NoError(t, err)
		return d
	}
	watched(t, p, bpf.Config{Device: dup(), Mode: bpf.ZeroCopy, ReadTimeout: readTimeout},
		func(c *capture, sent func() uint32) int {
			for range passed.n() {
				_, err := bpf.Open(p.A, bpf.Config{Device: dup(), Mode: bpf.ZeroCopy})
				require.Error(t, err)
				t.Log(err)
				d := dup()
				_, err = d.SetBuffers(4096)
				require.ErrorIs(t, err, zbuf.ErrNotOurBuffers)
				s, err := d.Stats()
				require.NoError(t, err)
				require.LessOrEqual(t, s.Recv, sent()+batch)
				require.NoError(t, d.Close())
				at := sent()
				require.NoError(t, lab.Until(func() (bool, error) { return c.taken.Load() > uint64(at), nil }),
					"the capture goes on")
			}
			return 2 * passed.n()
		})
	require.NoError(t, f.Close())
	requireNobodyLeft(t, p.A)
}
