package load

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/zbuf-go/zbuf/bench/internal/child"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// Rate is the number of packets that a Writer makes in a second, when it makes all of them.
const Rate = 100 * Frames

// A Writer sends the packets that are due at this interval. Tests that compare packets need smaller
// bursts.
const (
	tick     = 10 * time.Millisecond
	fineTick = 2 * time.Millisecond
)

// Writer writes the frames that a storm would carry, in the same order, at a steady rate. It is for
// machines with one processor, where a storm would leave no time to other threads. It is a separate
// process. That process runs before all others whenever packets are due, and sleeps in between.
type Writer struct {
	cmd   *exec.Cmd
	share io.WriteCloser
	said  *bufio.Reader
}

// writerSpec tells the process of a Writer what to do.
type writerSpec struct {
	Size    int
	Ifname  string
	Stamped bool
}

// environment keeps Go's scheduler out of the loop, because the loop does not tell it when it is in
// the kernel. The scheduler must not interrupt the loop. The loop leaves a processor to the readers
// of Share.
var environment = []string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=2"}

// variable passes the writerSpec.
const variable = "ZBUF_WRITER"

// NewWriter starts a writer of frames of size bytes on an interface. It writes none before Share.
// The program must call Main at its beginning.
func NewWriter(size int, ifname string) (*Writer, error) {
	return start(writerSpec{Size: size, Ifname: ifname})
}

// NewStamped starts a writer of single frames of 64 bytes. Each frame has the time at which it was
// sent (StampAt). It comes 2 to 8 ms after the last one. The writer writes none before Share(1).
func NewStamped(ifname string) (*Writer, error) {
	return start(writerSpec{Size: 64, Ifname: ifname, Stamped: true})
}

func start(spec writerSpec) (*Writer, error) {
	cmd, err := child.Command(variable, spec)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, environment...)
	w := &Writer{cmd: cmd}
	w.cmd.Stderr = os.Stderr
	if w.share, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	said, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.said = bufio.NewReader(said)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	return w, w.Share(0)
}

// Share makes the writer write n of the Frames frames, at that share of Rate.
func (w *Writer) Share(n int) error {
	return w.order(order{share: n})
}

// ShareOfTheRest does the same as Share, by another clock. That clock does not count the processor
// time of this writer and of the kernel's interrupt threads, which carry the packets. So the reader
// gets as many packets as if it had one processor to itself, and the packets had another.
func (w *Writer) ShareOfTheRest(n int) error { return w.order(order{share: n, rest: true}) }

// order is a command to a writer, of two bytes. The writer answers with one byte.
type order struct {
	share int
	rest  bool
}

func (w *Writer) order(o order) error {
	b := []byte{byte(o.share), 0}
	if o.rest {
		b[1] = 1
	}
	if _, err := w.share.Write(b); err != nil {
		return fmt.Errorf("the writer has ended: %w", err)
	}
	_, err := w.said.ReadByte()
	return err
}

// Close ends the writer.
func (w *Writer) Close() error { return errors.Join(w.share.Close(), w.cmd.Wait()) }

// Main is for TestMain. In a writer's process it writes, and exits. Otherwise it returns.
func Main() { child.Main(variable, write) }

func write(spec writerSpec) error {
	// Collect rarely. Only carriers allocates: without a limit it fills the memory in minutes.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(32 << 20)
	if err := realTime(); err != nil {
		return fmt.Errorf("real-time priority: %w", err)
	}
	fd, d, err := lab.OpenHost()
	if err != nil {
		return err
	}
	defer d.Close()
	if err := mute(d, spec.Ifname); err != nil {
		return err
	}

	var told atomic.Pointer[order]
	told.Store(&order{})
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, 2)
		for {
			if _, err := io.ReadFull(os.Stdin, b); err != nil {
				ended <- err
				return
			}
			told.Store(&order{share: int(b[0]), rest: b[1] != 0})
			if _, err := os.Stdout.Write(b[:1]); err != nil {
				ended <- err
				return
			}
		}
	}()

	next := steady(fd, spec.Size)
	if spec.Stamped {
		next = stamped(fd, spec.Size)
	}
	for {
		select {
		case err := <-ended:
			if err == io.EOF {
				return nil
			}
			return err
		default:
		}
		if err := next(*told.Load()); err != nil {
			return err
		}
	}
}

// steady writes the frames that are due, of the Frames frames. Each has the time at which it was
// sent (StampAt).
func steady(fd, size int) func(order) error {
	var frames [][]byte
	for i := range Frames {
		frames = append(frames, frame(i, size))
	}
	var due, n int64 // due in packets, times the nanoseconds of a second
	var was order
	var last time.Duration
	return func(o order) error {
		if !o.rest {
			pause(tick)
		} else {
			pause(fineTick)
		}
		t := time.Duration(Now())
		if o.rest {
			used, err := carriers()
			if err != nil {
				return err
			}
			t -= used
		}
		if o != was {
			was, last, due = o, t, 0
		}
		due += int64(min(t-last, 10*tick)) * int64(o.share) * (Rate / Frames)
		for last = t; due >= int64(time.Second); due -= int64(time.Second) {
			f := frames[n%int64(o.share)]
			binary.LittleEndian.PutUint64(f[StampAt:], uint64(Now()))
			if err := send(fd, f); err != nil {
				return err
			}
			n++
		}
		return nil
	}
}

// stamped writes one frame, after a while.
func stamped(fd, size int) func(order) error {
	f := frame(0, size)
	return func(o order) error {
		pause(2*time.Millisecond + rand.N(6*time.Millisecond))
		if o.share == 0 {
			return nil
		}
		binary.LittleEndian.PutUint64(f[StampAt:], uint64(Now()))
		return send(fd, f)
	}
}
