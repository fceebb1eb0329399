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

// Rate is how many packets a Writer makes in a second, when it makes them all.
const Rate = 100 * Frames

// tick is how often a Writer looks what is due.
const tick = 10 * time.Millisecond

// Writer writes the frames that a storm would carry, in the same order, at a steady rate. It is for machines with one processor,
// where a storm would leave nobody else time: a process of its own, which runs whenever it is due, before all others, and sleeps
// in between.
type Writer struct {
	cmd   *exec.Cmd
	share io.WriteCloser
	said  *bufio.Reader
}

// writerSpec is what its process is told.
type writerSpec struct {
	Size    int
	Ifname  string
	Stamped bool
}

// environment keeps Go's scheduler out of the loop, which does not tell it when it is in the kernel: it must not interrupt, and
// has a processor left for who listens to Share.
var environment = []string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=2"}

// variable passes the writerSpec.
const variable = "ZBUF_WRITER"

// NewWriter starts a writer of frames of size bytes on an interface. It writes none before Share. Main has to be called
// at the beginning of the program.
func NewWriter(size int, ifname string) (*Writer, error) {
	return start(writerSpec{Size: size, Ifname: ifname})
}

// NewStamped starts a writer of single frames of 64 bytes, each with the time at which it was sent (StampAt), from 2 to 8 ms after the
// last. It writes none before Share(1).
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

// Share makes it write n of the Frames frames, at that share of Rate.
func (w *Writer) Share(n int) error {
	if _, err := w.share.Write([]byte{byte(n)}); err != nil {
		return fmt.Errorf("the writer has ended: %w", err)
	}
	_, err := w.said.ReadByte()
	return err
}

// Close ends it.
func (w *Writer) Close() error { return errors.Join(w.share.Close(), w.cmd.Wait()) }

// Main is for TestMain: in a writer's process it writes, and exits; else it returns.
func Main() { child.Main(variable, write) }

func write(spec writerSpec) error {
	debug.SetGCPercent(-1) // a few seconds of nothing to collect
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

	var share atomic.Int64
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := os.Stdin.Read(b); err != nil {
				ended <- err
				return
			}
			share.Store(int64(b[0]))
			if _, err := os.Stdout.Write(b); err != nil {
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
		if err := next(share.Load()); err != nil {
			return err
		}
	}
}

// steady writes what is due of the Frames frames.
func steady(fd, size int) func(share int64) error {
	var frames [][]byte
	for i := range Frames {
		frames = append(frames, frame(i, size))
	}
	var due, n int64 // due in packets, times the nanoseconds of a second
	last := time.Now()
	return func(share int64) error {
		pause(tick)
		t := time.Now()
		due += int64(min(t.Sub(last), 10*tick)) * share * (Rate / Frames)
		for last = t; due >= int64(time.Second); due -= int64(time.Second) {
			if err := send(fd, frames[n%max(share, 1)]); err != nil {
				return err
			}
			n++
		}
		return nil
	}
}

// stamped writes one frame, after a while.
func stamped(fd, size int) func(share int64) error {
	f := frame(0, size)
	return func(share int64) error {
		pause(2*time.Millisecond + rand.N(6*time.Millisecond))
		if share == 0 {
			return nil
		}
		binary.LittleEndian.PutUint64(f[StampAt:], uint64(Now()))
		return send(fd, f)
	}
}
