// Package wire is the protocol between a runner on the host and the agent in the guest. A frame has
// a type, a length and a body, and goes over any byte stream.
//
// The agent is compiled from a copy of this package, so the package imports only the standard
// library. See docs/vmtest.md for the order of frames.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Version grows with every change of the protocol. Both ends must have the same version.
const Version = 3

// AlivePeriod is the interval at which the agent says that it is alive.
const AlivePeriod = 2 * time.Second

// SilenceLimit is the time for which the host waits for a frame. After that the guest counts as
// dead.
const SilenceLimit = 15 * time.Second

// Type says which body a frame has.
type Type byte

// Frames towards the guest.
const (
	// Run carries a [RunRequest]. The files for it follow as File and Data.
	Run Type = 'R'
	// Start says that all files have come: run the program.
	Start Type = 'S'
	// Signal carries a [SignalRequest] for the running program.
	Signal Type = 'K'
	// Stdin carries bytes for the program's standard input. An empty body ends the input. The next
	// Stdin may follow when StdinTaken has come.
	Stdin Type = 'I'
)

// Frames towards the host.
const (
	// Hello carries a [Greeting]. It is the first frame.
	Hello Type = 'h'
	// Alive comes every [AlivePeriod], whether or not a program runs.
	Alive Type = 'a'
	// Stdout and Stderr carry the program's output.
	Stdout Type = 'o'
	Stderr Type = 'e'
	// StdinTaken says that the program took the last Stdin.
	StdinTaken Type = 'i'
	// Exit carries an [ExitStatus]. No output comes after it.
	Exit Type = 'x'
	// End is the end mark: output, status and files are complete.
	End Type = 'z'
	// Idle carries an [IdleReport]. It says whether the agent could put the state back.
	Idle Type = 'c'
	// Fail carries a sentence: the agent could not do its task.
	Fail Type = 'f'
)

// Frames both ways.
const (
	// File carries a [FileHeader]; its bytes follow in Data frames.
	File Type = 'F'
	// Data carries the next bytes of the file that File announced.
	Data Type = 'D'
)

// Frames between runner and server, see the package vmtest/internal/server.
const (
	// Welcome says that the server has the runner in its queue.
	Welcome Type = 'w'
	// Note carries a sentence about the progress, for -v.
	Note Type = 'n'
	// Notice carries a sentence for everybody.
	Notice Type = 'N'
	// Ready carries a [ReadyReport]. From now on the runner has the guest.
	Ready Type = 'r'
	// Fault carries a [FaultReport]. The guest is lost.
	Fault Type = '!'
	// Console carries bytes of the guest's console.
	Console Type = 'k'
	// Join carries a [JoinRequest], a runner's first frame.
	Join Type = 'J'
)

// Settings are in the file [SettingsFile] in the agent's folder. The agent reads them there.
type Settings struct {
	Token string // for the greeting
	Addr  string // where the guest's network leads to the host
	Disk  string // device of the shared disk
	// Load lists kernel modules in the order of loading. Required lists those that must be there
	// afterwards, loaded or built in.
	Load, Required []string
}

// SettingsFile is the name of the file that holds [Settings] as JSON.
const SettingsFile = "settings"

// RunRequest describes a program to run.
type RunRequest struct {
	Path string   // of the program in the guest
	Args []string // without argv[0]
	Env  []string
	Dir  string
	// Dirs are folders to make before the run.
	Dirs []string
	// Sysctls are set in order before the run, and put back after it.
	Sysctls []Sysctl
	// Collect lists the files and folders whose new and changed files go
	// back to the host.
	Collect []string
	// Stdin says that the runner forwards its standard input.
	Stdin bool
	// UnixNano is the host's time.
	UnixNano int64
}

// Sysctl is a value for one MIB entry.
type Sysctl struct{ Name, Value string }

// FileHeader announces a file.
type FileHeader struct {
	Path string
	Mode uint32 // permission bits
	Size int64
}

// SignalRequest is a signal by number; FreeBSD's numbers.
type SignalRequest struct{ Number int }

// Greeting opens the agent's side.
type Greeting struct {
	Version int
	Token   string
	Kernel  string // kern.version's first line
	// Disk says that large bodies go by the shared disk from now on.
	Disk bool
	// Missing has a sentence for each wanted kernel module that could not be loaded.
	Missing []string
}

// ExitStatus says how a program ended.
type ExitStatus struct {
	Code   int
	Signal int // if not 0, the signal that killed it
	// Nanoseconds is the time that the program ran.
	Nanoseconds int64
}

// IdleReport says whether the guest can serve another program.
type IdleReport struct {
	Clean  bool
	Reason string // why it can't
}

// JoinRequest is the message of a runner that joins a server.
type JoinRequest struct {
	Version int
	Verbose bool
}

// ReadyReport is the message of the server to a runner when the guest is free for it.
type ReadyReport struct {
	Reused bool
	Accel  string
	Kernel string
	// BootNanoseconds is the time from QEMU's start to the agent's greeting.
	BootNanoseconds int64
}

// FaultReport describes the unexpected end of a guest.
type FaultReport struct {
	Sentence string
	Console  string // the last lines
}

// MaxBody is the length of the longest body of a frame. The sender cuts longer data into several
// bodies.
const MaxBody = 1 << 20

// ErrFrame is in the error for bytes that can't be a frame.
var ErrFrame = errors.New("broken frame")

const headerSize = 5

// Conn reads and writes frames. One goroutine may read while others write.
type Conn struct {
	r io.Reader

	mu  sync.Mutex
	w   io.Writer
	buf []byte

	// bulk is nil without a shared disk. Readers look at it without the lock, because a writer
	// holds the lock while it waits for the other end to read.
	bulk atomic.Pointer[bulk]
	gone chan struct{}
	once sync.Once

	body []byte
}

// NewConn returns a Conn over rw. If reads are costly, the caller should buffer them. Each frame is
// written by one Write.
func NewConn(r io.Reader, w io.Writer) *Conn { return &Conn{r: r, w: w, gone: make(chan struct{})} }

// Write sends one frame. With a shared disk it may wait for a slot, until the other end has read
// one.
func (c *Conn) Write(t Type, body []byte) error {
	if len(body) > MaxBody {
		return fmt.Errorf("%w: %d bytes", ErrFrame, len(body))
	}
	if b := c.bulk.Load(); b != nil && len(body) >= bulkMin {
		return c.writeBulk(b, t, body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(t, body)
}

// writeBulk sends body through the disk, in as many frames as it needs.
func (c *Conn) writeBulk(b *bulk, t Type, body []byte) error {
	for len(body) > 0 {
		n := min(len(body), slotSize)
		// The writer waits for the token without the lock, so small frames pass.
		select {
		case <-b.free:
		case <-c.gone:
			return io.ErrClosedPipe
		}
		c.mu.Lock()
		ref, err := b.put(body[:n])
		if err == nil {
			err = c.write(t|bulkBit, ref)
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// write sends one frame over the stream. The caller holds the lock.
func (c *Conn) write(t Type, body []byte) error {
	c.buf = append(c.buf[:0], byte(t))
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(body)))
	c.buf = append(c.buf, body...)
	_, err := c.w.Write(c.buf)
	return err
}

// WriteJSON sends one frame with v as its body.
func (c *Conn) WriteJSON(t Type, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Write(t, b)
}

// Read returns the next frame. The body is valid until the next Read. io.EOF means that the other
// end closed the stream between two frames. After an error, writers that wait for a slot give up.
func (c *Conn) Read() (Type, []byte, error) {
	for {
		t, body, err := c.read()
		if err != nil {
			c.once.Do(func() { close(c.gone) })
			return 0, nil, err
		}
		if t == slotFree {
			if err := c.bulk.Load().release(); err != nil {
				return 0, nil, err
			}
			continue
		}
		return t, body, nil
	}
}

func (c *Conn) read() (Type, []byte, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	t := Type(head[0])
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxBody {
		return 0, nil, fmt.Errorf("%w: type %q, %d bytes", ErrFrame, t, n)
	}
	if cap(c.body) < int(n) {
		c.body = make([]byte, max(int(n), slotSize))
	}
	body := c.body[:n]
	if _, err := io.ReadFull(c.r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if t&bulkBit == 0 {
		return t, body, nil
	}
	b := c.bulk.Load()
	body, err := b.get(append([]byte(nil), body...), c.body)
	if err != nil {
		return 0, nil, err
	}
	if b.read++; b.read == freeBatch {
		b.read = 0
		err = c.Write(slotFree, nil)
	}
	return t &^ bulkBit, body, err
}

// SendFile sends a file's header and n bytes of r.
func (c *Conn) SendFile(h FileHeader, r io.Reader) error {
	if err := c.WriteJSON(File, h); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for left := h.Size; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("send %s: it became shorter while it was read: %w", h.Path, err)
		}
		if err := c.Write(Data, buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// Reader is a source of frames.
type Reader interface {
	Read() (Type, []byte, error)
}

// ReceiveFile writes the file announced by h to w. The file's Data frames come next on r. If w
// fails, ReceiveFile first reads the rest of the file's frames, and then returns the error.
func ReceiveFile(r Reader, h FileHeader, w io.Writer) error {
	var werr error
	for left := h.Size; left > 0; {
		t, body, err := r.Read()
		if err != nil {
			return err
		}
		if t == Alive {
			continue
		}
		if t != Data || int64(len(body)) > left {
			return fmt.Errorf("%w: %q in the midst of file %s", ErrFrame, t, h.Path)
		}
		left -= int64(len(body))
		if werr == nil {
			if _, err := w.Write(body); err != nil {
				werr = &WriteError{err}
			}
		}
	}
	return werr
}

// WriteError is in the error of ReceiveFile when it could not write the file. The stream of frames
// is still in order.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return e.Err.Error() }
func (e *WriteError) Unwrap() error { return e.Err }
