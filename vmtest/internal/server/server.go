//go:build unix

package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/flock"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// server lends one guest to its clients.
type server struct {
	cfg      Config
	paths    paths
	listener net.Listener
	queue    chan *client
	self     []string // command of the watcher

	mu      sync.Mutex
	clients int
	idle    *time.Timer
	guest   *guest
}

// client is a runner that has joined.
type client struct {
	nc   net.Conn
	conn *wire.Conn
	join wire.JoinRequest
	in   chan frame // closed when the runner has gone
}

type frame struct {
	t    wire.Type
	body []byte
}

// Serve is the body of the server process. [Dial] has passed arg on. watcher is the command that
// watches over QEMU.
func Serve(arg string, watcher []string) error {
	const readyFD = 3
	ready := os.NewFile(readyFD, "ready")
	s := &server{queue: make(chan *client, 1024), self: watcher}
	if err := json.Unmarshal([]byte(arg), &s.cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var err error
	if s.paths, err = s.cfg.paths(); err != nil {
		return err
	}
	// The parent holds the lock. So if there is a socket, no server listens on it.
	if err := os.Remove(s.paths.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	sweep(dir(), time.Now())
	if s.listener, err = net.Listen("unix", s.paths.socket); err != nil {
		return err
	}
	s.idle = time.AfterFunc(startTimeout, s.finish)
	if _, err := ready.WriteString(listening); err != nil {
		return err
	}
	ready.Close()
	go s.accept()
	for c := range s.queue {
		s.lend(c)
	}
	return nil
}

// sweep removes boot images and disks that a killed server left in the middle of a boot. Files that
// are in use are younger.
func sweep(dir string, now time.Time) {
	for _, pattern := range []string{"boot-*", "disk-*", "tar-*", "overlay-*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			continue // the pattern is a constant
		}
		for _, n := range names {
			if fi, err := os.Stat(n); err == nil && now.Sub(fi.ModTime()) > 2*imagePatience.limit {
				os.Remove(n)
			}
		}
	}
}

func (s *server) accept() {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			log.Print(err)
			s.exit(1)
		}
		go s.welcome(nc)
	}
}

// welcome takes a runner into the queue. It counts the runner before it welcomes it, and holds the
// lock until then. So finish can't miss the runner.
func (s *server) welcome(nc net.Conn) {
	c := &client{nc: nc, conn: wire.NewConn(bufio.NewReaderSize(nc, 256<<10), nc),
		in: make(chan frame, 4)}
	t, body, err := c.conn.Read()
	if err != nil || t != wire.Join || json.Unmarshal(body, &c.join) != nil {
		nc.Close()
		return
	}
	s.count(+1)
	if err := c.conn.Write(wire.Welcome, nil); err != nil {
		log.Print(err)
	}
	s.queue <- c
	defer s.count(-1)
	defer nc.Close()
	defer close(c.in)
	for {
		t, body, err := c.conn.Read()
		if err != nil {
			return
		}
		c.in <- frame{t, append([]byte(nil), body...)}
	}
}

// count keeps the number of runners. While there are none, the time runs after which the server
// ends.
func (s *server) count(d int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients += d
	if s.clients == 0 {
		s.idle.Reset(s.cfg.Idle)
	} else {
		s.idle.Stop()
	}
}

// finish ends the process, unless a runner has come in the meantime.
func (s *server) finish() {
	unlock, err := flock.Lock(s.paths.lock)
	if err != nil {
		log.Print(err)
		s.exit(1)
	}
	s.mu.Lock()
	n := s.clients
	s.mu.Unlock()
	if n > 0 {
		unlock()
		return
	}
	// The server holds the lock to its end. So the next runner finds no socket, and starts another
	// server.
	s.exit(0)
}

func (s *server) exit(code int) {
	s.listener.Close()
	s.mu.Lock()
	g := s.guest
	s.mu.Unlock()
	if g != nil {
		g.kill()
	}
	if s.cfg.Private != "" {
		os.Remove(s.paths.lock)
		os.Remove(s.paths.log)
	}
	os.Exit(code)
}

// lend gives the guest to c until its program has ended.
func (s *server) lend(c *client) {
	defer c.nc.Close()
	if c.gone() {
		return
	}
	reused := s.guest != nil
	if reused {
		if why := s.guest.check(); why != nil {
			c.notice("the guest is not used again: %v", why)
			s.drop()
			reused = false
		}
	}
	if !reused {
		g, err := s.boot(c)
		if err != nil {
			s.drop()
			c.fault(err)
			return
		}
		s.setGuest(g)
	}
	g := s.guest
	if err := c.conn.WriteJSON(wire.Ready, wire.ReadyReport{
		Reused: reused, Accel: g.accel, Kernel: g.kernel, BootNanoseconds: g.bootTime.Nanoseconds(),
	}); err != nil {
		return // the runner left before it had the guest
	}
	if err := g.serve(c); err != nil {
		log.Print(err)
		s.drop()
		c.fault(err)
	}
}

func (s *server) setGuest(g *guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guest = g
}

func (s *server) drop() {
	s.mu.Lock()
	g := s.guest
	s.guest = nil
	s.mu.Unlock()
	if g == nil {
		return
	}
	g.kill()
	if g.nc != nil {
		g.nc.Close()
	}
	g.disk.Close()
}

// gone reports whether the runner has left.
func (c *client) gone() bool {
	select {
	case _, ok := <-c.in:
		return !ok
	default:
		return false
	}
}

func (c *client) note(format string, a ...any) {
	// the runner's reader notices that it has gone
	_ = c.conn.Write(wire.Note, fmt.Appendf(nil, format, a...))
}

func (c *client) notice(format string, a ...any) {
	_ = c.conn.Write(wire.Notice, fmt.Appendf(nil, format, a...))
}

func (c *client) fault(err error) {
	r := wire.FaultReport{Sentence: err.Error()}
	var f *fault
	if errors.As(err, &f) {
		r.Console = f.console
	}
	_ = c.conn.WriteJSON(wire.Fault, r)
}

// fault describes the end of a guest, with the end of its console.
type fault struct {
	sentence, console string
	again             bool // another boot may help
}

func (f *fault) Error() string { return f.sentence }
