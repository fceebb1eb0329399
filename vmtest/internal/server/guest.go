//go:build unix

package server

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

const (
	// bootTries is how often a guest is booted in all for one program if it
	// dies on the way: kernels take a trap now and then while they look for
	// devices on a busy host.
	bootTries = 3
	// settle is how long a dying guest may go on printing: the backtrace of
	// a panic comes behind the panic's own line.
	settle = 700 * time.Millisecond
	// tailLines is how much of the console goes into a report.
	tailLines = 25
)

// patience is how long a booting guest is given.
type patience struct {
	// silence is how long it may print nothing. On a busy host the way from
	// the root file system to the agent takes long.
	silence time.Duration
	// hardware is how long a guest on real hardware may print nothing at all
	// before it is taken for not running there.
	hardware time.Duration
	// limit bounds the boot however much it prints.
	limit time.Duration
}

var (
	kernelPatience = patience{silence: 30 * time.Second, hardware: 5 * time.Second,
		limit: 2 * time.Minute}
	// A whole system has firmware and a loader before its kernel, and starts
	// services after it: minutes in software emulation.
	imagePatience = patience{silence: 2 * time.Minute, hardware: 30 * time.Second,
		limit: 10 * time.Minute}
)

// countedSilence takes the place of wire.SilenceLimit where the guest's clock counts instructions:
// two of its seconds, after which the agent speaks, take as long as the host needs for 500 million.
const countedSilence = 2 * time.Minute

// guest is a booted machine with its agent.
type guest struct {
	m        *qemu.Machine
	nc       net.Conn
	conn     *wire.Conn
	disk     *os.File // unlinked; large bodies go by it
	accel    string
	kernel   string
	bootTime time.Duration
	met      chan struct{} // closed when the boot is over, well or not
	silence  time.Duration // see wire.SilenceLimit

	spoilt error // why it cannot be used again
	once   sync.Once
}

// boot starts a guest for c.
func (s *server) boot(c *client) (*guest, error) {
	name := s.cfg.QEMU
	if name == "" {
		name = qemu.Binary(s.cfg.Arch)
	}
	binary, version, err := qemu.Find(name)
	if err != nil {
		return nil, err
	}
	accels := []string{s.cfg.Accel}
	if s.cfg.Accel == "" {
		accels = candidates(s.cfg, version)
	}
	tries := 0
	var failed error // of the hardware
	for i, accel := range accels {
		g, err := s.bootWith(c, binary, accel)
		for tries++; diedWhileBooting(err) && tries < bootTries && !c.gone(); tries++ {
			c.notice("the guest died while it booted, booting it again (%v)", err)
			s.drop()
			g, err = s.bootWith(c, binary, accel)
		}
		if err == nil {
			if failed != nil { // the guest was not to blame
				remember(s.cfg, version, accels[0], failed)
			}
			if accel == qemu.TCG && s.cfg.Accel == "" {
				c.notice("no hardware acceleration that runs this guest (%s): QEMU emulates in software",
					reason(s.cfg, version))
			}
			return g, nil
		}
		if i == len(accels)-1 {
			return nil, err
		}
		c.note("%s does not run this guest: %v", accel, err)
		failed = err
	}
	return nil, errors.New("no accelerator")
}

func (s *server) bootWith(c *client, binary, accel string) (*guest, error) {
	if err := os.Remove(s.paths.call); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for the guest: %w", err)
	}
	l, err := net.Listen("unix", s.paths.call)
	if err != nil {
		return nil, fmt.Errorf("listen for the guest: %w", err)
	}
	defer l.Close() // which removes the socket
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	token := hex.EncodeToString(secret)
	spec := qemu.Spec{Binary: binary, Arch: s.cfg.Arch, Accel: accel, CPU: s.cfg.CPU,
		MemMiB: s.cfg.MemMiB, CPUs: s.cfg.CPUs, ICount: s.cfg.ICount}
	// QEMU has read or opened these files by the time the agent calls.
	if s.cfg.Image != "" {
		spec.Image, err = s.prepareImage(token)
		if spec.Image != nil {
			defer os.Remove(spec.Image.Tar)
			if !spec.Image.Snapshot {
				defer os.Remove(spec.Image.File)
			}
		}
	} else {
		var made []string
		made, err = s.prepareKernel(&spec, token)
		for _, f := range made {
			defer os.Remove(f)
		}
	}
	if err != nil {
		return nil, err
	}

	disk, err := sharedDisk()
	if err != nil {
		return nil, err
	}
	defer os.Remove(disk.Name())

	console := qemu.NewConsole()
	if c.join.Verbose {
		console.Tee(func(b []byte) { _ = c.conn.Write(wire.Console, b) })
	}
	start := time.Now()
	spec.Disk, spec.Call = disk.Name(), s.paths.call
	m, err := qemu.Start(spec, console, s.self)
	if err != nil {
		disk.Close()
		return nil, err
	}
	g := &guest{m: m, accel: accel, disk: disk, met: make(chan struct{}), silence: wire.SilenceLimit}
	if spec.ICount {
		g.silence = countedSilence
	}
	defer close(g.met)
	s.setGuest(g) // so that the end of the server is its end
	patience := kernelPatience
	var login <-chan error
	if spec.Image != nil {
		patience = imagePatience
		login = g.login()
	}
	greeting, err := g.meet(l, token, accel, patience, login)
	if err != nil {
		g.kill()
		return nil, err
	}
	g.bootTime = time.Since(start)
	g.kernel = greeting.Kernel
	if len(greeting.Missing) > 0 {
		err := g.fault(greeting.Missing[0]) // the kernel says on the console what it dislikes
		g.kill()
		return nil, err
	}
	console.Tee(nil)
	return g, nil
}

// sharedDisk makes the file behind the disk that guest and host share.
func sharedDisk() (*os.File, error) {
	f, err := os.CreateTemp(dir(), "disk-*")
	if err != nil {
		return nil, fmt.Errorf("shared disk: %w", err)
	}
	// Written out, so that a full disk shows here and not in mid-stream.
	if _, err := f.Write(make([]byte, wire.BulkSize)); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, fmt.Errorf("shared disk: %w", err)
	}
	return f, nil
}

// meet waits for the agent's call.
func (g *guest) meet(
	l net.Listener, token, accel string, p patience, login <-chan error,
) (*wire.Greeting, error) {
	calls := answer(l, token, p.limit)
	limit := time.After(p.limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case got := <-calls:
			if got.g.Version != wire.Version {
				return nil, fmt.Errorf("the agent speaks version %d of the protocol, this runner %d",
					got.g.Version, wire.Version)
			}
			g.nc, g.conn = got.nc, got.conn
			if got.g.Disk {
				g.conn.ShareDisk(g.disk, true)
			}
			return &got.g, nil
		case <-g.m.Console.Died():
			return nil, g.bootFault()
		case <-g.m.Exited():
			return nil, g.bootFault()
		case err := <-login:
			return nil, g.fault(err.Error())
		case <-limit:
			return nil, g.fault(fmt.Sprintf("the guest did not finish its boot in %v", p.limit))
		case <-tick.C:
			if accel != qemu.TCG && strings.Contains(g.m.Errors(), "internal error") {
				return nil, g.fault(firstLine(g.m.Errors()))
			}
			if accel != qemu.TCG && g.m.Console.Total() == 0 && g.m.Console.Quiet() > p.hardware {
				return nil, g.fault(fmt.Sprintf("the kernel printed nothing in %v", p.hardware))
			}
			if g.m.Console.Quiet() > p.silence {
				return nil, g.fault(fmt.Sprintf("the guest has printed nothing for %v while it should boot",
					p.silence))
			}
		}
	}
}

// call is a connection to the agent.
type call struct {
	nc   net.Conn
	conn *wire.Conn
	g    wire.Greeting
}

// answer waits for the agent's call until l is closed. QEMU connects when it starts, and the agent
// speaks when it is up. Other processes of this user may connect too: they lack the token, and one
// that says nothing keeps nobody waiting.
func answer(l net.Listener, token string, limit time.Duration) <-chan call {
	calls := make(chan call)
	over := make(chan struct{})
	greet := func(nc net.Conn) {
		conn := wire.NewConn(bufio.NewReaderSize(nc, 256<<10), nc)
		var greeting wire.Greeting
		_ = nc.SetReadDeadline(time.Now().Add(limit))
		t, body, err := conn.Read()
		if err == nil && t == wire.Hello && json.Unmarshal(body, &greeting) == nil &&
			greeting.Token == token {
			select {
			case calls <- call{nc, conn, greeting}:
				return
			case <-over:
			}
		}
		nc.Close()
	}
	go func() {
		defer close(over)
		for {
			nc, err := l.Accept()
			if err != nil {
				return // the listener is closed with the end of the boot
			}
			go greet(nc)
		}
	}()
	return calls
}

// diedWhileBooting reports whether err is about a guest that had begun to boot
// and may do better the next time.
func diedWhileBooting(err error) bool {
	var f *fault
	return errors.As(err, &f) && f.again
}

// bootFault is the fault of a guest that ended before its agent called. One that
// printed nothing, or whose kernel came as far as saying what it lacks, would do
// no better the next time.
func (g *guest) bootFault() error {
	f := g.fault("")
	f.again = g.m.Console.Total() > 0 && g.m.Errors() == "" && !g.m.Console.Final()
	return f
}

// check reports why an idle guest cannot serve any more.
func (g *guest) check() error {
	select {
	case <-g.m.Exited():
		return errors.New("QEMU has ended")
	case <-g.m.Console.Died():
		return errors.New(g.m.Console.Cause())
	default:
		return g.spoilt
	}
}

// errRunnerGone ends a guest whose runner left in the midst of a program.
var errRunnerGone = errors.New("the runner left before its program ended")

// serve connects c with the agent until the agent is idle again. After an error
// the guest is of no use any more.
func (g *guest) serve(c *client) error {
	mark := g.m.Console.Total()
	done := make(chan struct{})
	defer close(done)
	ended := make(chan struct{}) // the runner has all it needs
	var endOnce sync.Once
	left := make(chan struct{})
	go func() { // runner to agent
		for {
			select {
			case <-done:
				return
			case f, ok := <-c.in:
				if !ok {
					close(left)
					select {
					case <-ended:
					default:
						g.nc.Close() // wakes the other direction
					}
					return
				}
				if g.conn.Write(f.t, f.body) != nil {
					return // the other direction sees it too
				}
			}
		}
	}()
	go func() { // signs of death
		select {
		case <-done:
		case <-g.m.Console.Died():
			time.Sleep(settle)
			g.nc.Close()
		case <-g.m.Exited():
			g.nc.Close()
		}
	}()
	for {
		_ = g.nc.SetReadDeadline(time.Now().Add(g.silence))
		t, body, err := g.conn.Read()
		if err != nil {
			select {
			case <-left:
				return errRunnerGone
			default:
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return g.fault(fmt.Sprintf("the guest's agent has given no sign of life for %v", g.silence))
			}
			return g.fault("")
		}
		switch t {
		case wire.Alive:
			continue
		case wire.Idle:
			var r wire.IdleReport
			if err := json.Unmarshal(body, &r); err != nil {
				return err
			}
			if !r.Clean {
				g.spoilt = errors.New(r.Reason)
			}
			return nil
		case wire.Exit:
			var st wire.ExitStatus
			if json.Unmarshal(body, &st) == nil && st.Signal != 0 {
				if m := outOfMemory.FindString(g.m.Console.Since(mark)); m != "" {
					return &fault{sentence: "the guest ran out of memory and its kernel killed the program " +
						"(raise --mem): " + strings.TrimSpace(m), console: g.m.Console.Tail(tailLines)}
				}
			}
		case wire.End, wire.Fail:
			endOnce.Do(func() { close(ended) })
		case wire.Stdout, wire.Stderr, wire.StdinTaken, wire.File, wire.Data:
		default:
			// The other frames that a runner knows are ours alone to send.
			return g.fault(fmt.Sprintf("broken frame: the guest sends type %q", byte(t)))
		}
		if err := c.conn.Write(t, body); err != nil {
			select {
			case <-ended:
			default:
				return errRunnerGone
			}
		}
	}
}

// outOfMemory is the kernel's message about a process it killed for memory.
var outOfMemory = regexp.MustCompile(`pid \d+ \([^)]*\).*was killed: ` +
	`(out of swap space|failed to reclaim memory|a thread waited too long to allocate a page)`)

// fault makes the report of the guest's end. Without a sentence of its own it
// takes the best one that is to be had.
func (g *guest) fault(sentence string) *fault {
	// Wait for the console's output that is under way.
	select {
	case <-g.m.Exited():
	case <-time.After(settle):
	}
	if cause := g.m.Console.Cause(); cause != "" {
		sentence = cause
	}
	if sentence == "" {
		select {
		case <-g.m.Exited():
			sentence = "the guest ended without being asked to (triple fault, reset or power-off)"
			if e := g.m.Errors(); e != "" {
				sentence = "QEMU ended: " + firstLine(e)
			}
		default:
			sentence = "the connection to the guest broke"
		}
	}
	return &fault{sentence: sentence, console: g.m.Console.Tail(tailLines)}
}

// kill ends QEMU. It may be called from any goroutine, more than once.
func (g *guest) kill() { g.once.Do(g.m.Kill) }

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
