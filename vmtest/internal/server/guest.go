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
	// bootTries is the number of times that the server boots a guest for one program, if the guest
	// dies while it boots. On a busy host, kernels take a trap now and then while they look for
	// devices.
	bootTries = 3
	// settle is the longest time that a dying guest may go on printing. The backtrace of a panic
	// comes after the line of the panic.
	settle = 700 * time.Millisecond
	// killNotice is the longest time until the line comes in which the kernel says why it killed a
	// program.
	killNotice = 2 * time.Second
	// sigKill is FreeBSD's number of SIGKILL.
	sigKill = 9
	// tailLines is the number of lines of the console in a report.
	tailLines = 25
)

// patience has the times that a booting guest gets.
type patience struct {
	// silence is the longest time for which the guest may print nothing. On a busy host the way
	// from the root file system to the agent takes long.
	silence time.Duration
	// hardware is the longest time for which a guest on real hardware may print nothing at all.
	// After that it counts as not running there.
	hardware time.Duration
	// limit is the longest time of a boot, however much the guest prints.
	limit time.Duration
}

var (
	kernelPatience = patience{silence: 30 * time.Second, hardware: 5 * time.Second,
		limit: 2 * time.Minute}
	// A whole system has firmware and a loader before its kernel, and starts services after it.
	// That takes minutes in software emulation.
	imagePatience = patience{silence: 2 * time.Minute, hardware: 30 * time.Second,
		limit: 10 * time.Minute}
)

// countedSilence replaces wire.SilenceLimit where the guest's clock counts instructions. The agent
// speaks every two seconds of the guest. That takes as long as the host needs for 500 million
// instructions.
const countedSilence = 2 * time.Minute

// guest is a booted machine with its agent.
type guest struct {
	m        *qemu.Machine
	nc       net.Conn
	conn     *wire.Conn
	disk     *os.File // unlinked; large bodies go through it
	accel    string
	kernel   string
	bootTime time.Duration
	met      chan struct{} // closed when the boot is over, with or without success
	silence  time.Duration // see wire.SilenceLimit

	spoilt error // why nobody can use it again
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
			if failed != nil { // the guest did not cause the fault
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
		MemMiB: s.cfg.MemMiB, CPUs: s.cfg.CPUs, ICount: s.cfg.ICount,
		Stall: s.cfg.Stall}
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
	s.setGuest(g) // so the guest ends with the server
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
		err := g.fault(greeting.Missing[0]) // the kernel prints the reason on the console
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
	// The file is written out. So a full disk shows here, and not in the middle of the stream.
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
// speaks when it is up. Other processes of this user may connect too, but they lack the token. A
// process that says nothing does not delay the others.
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
				return // the listener closes with the end of the boot
			}
			go greet(nc)
		}
	}()
	return calls
}

// diedWhileBooting reports whether err is about a guest that had begun to boot, and that another
// boot may help.
func diedWhileBooting(err error) bool {
	var f *fault
	return errors.As(err, &f) && f.again
}

// bootFault returns the fault of a guest that ended before its agent called. Another boot does not
// help in two cases: the guest printed nothing, or its kernel printed what it lacks.
func (g *guest) bootFault() error {
	f := g.fault("")
	f.again = g.m.Console.Total() > 0 && g.m.Errors() == "" && !g.m.Console.Final()
	return f
}

// check returns the reason why an idle guest can't serve any more.
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

// errRunnerGone ends a guest whose runner left in the middle of a program.
var errRunnerGone = errors.New("the runner left before its program ended")

// serve connects c with the agent until the agent is idle again. After an error nobody can use the
// guest again.
func (g *guest) serve(c *client) error {
	mark := g.m.Console.Total()
	done := make(chan struct{})
	defer close(done)
	ended := make(chan struct{}) // the runner has everything that it needs
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
			if json.Unmarshal(body, &st) == nil && st.Signal == sigKill {
				// The serial port may be slower than the connection.
				if m := g.m.Console.Await(mark, outOfMemory, killNotice); m != "" {
					return &fault{sentence: "the guest ran out of memory and its kernel killed the program " +
						"(raise --mem): " + strings.TrimSpace(m), console: g.m.Console.Tail(tailLines)}
				}
			}
		case wire.End, wire.Fail:
			endOnce.Do(func() { close(ended) })
		case wire.Stdout, wire.Stderr, wire.StdinTaken, wire.File, wire.Data:
		default:
			// Only the server sends the other frames that a runner knows.
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

// outOfMemory is the kernel's message about a process that it killed for lack of memory.
var outOfMemory = regexp.MustCompile(`pid \d+ \([^)]*\).*was killed: ` +
	`(out of swap space|failed to reclaim memory|a thread waited too long to allocate a page)`)

// fault makes the report of the guest's end. If the caller gives no sentence, fault takes the best
// one that there is.
func (g *guest) fault(sentence string) *fault {
	// Wait for the output of the console that is still coming.
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

// kill ends QEMU. Any goroutine may call it, more than once.
func (g *guest) kill() { g.once.Do(g.m.Kill) }

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
