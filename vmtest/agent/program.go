//go:build freebsd

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// agent serves one host.
type agent struct {
	conn *wire.Conn
	in   inbox
	base *baseline
}

// serve runs one program, from the Run frame to the Idle frame. It returns an error if the host is
// gone. It reports a failure of the program to the host.
func (a *agent) serve(body []byte) error {
	var req wire.RunRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return fmt.Errorf("run request: %w", err)
	}
	if err := a.serveProgram(&req); err != nil {
		var lost *lostError
		if errors.As(err, &lost) {
			return err
		}
		if werr := a.conn.Write(wire.Fail, []byte(err.Error())); werr != nil {
			return werr
		}
	}
	report := wire.IdleReport{Clean: true}
	if err := a.base.restore(); err != nil {
		report = wire.IdleReport{Reason: err.Error()}
	}
	return a.conn.WriteJSON(wire.Idle, report)
}

// lostError marks the errors of the connection itself.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func lost(err error) error {
	if err == nil {
		return nil
	}
	return &lostError{err}
}

func (a *agent) serveProgram(req *wire.RunRequest) error {
	setupErr := a.setup(req)
	if err := a.receive(setupErr != nil); err != nil {
		return err
	}
	if setupErr != nil {
		return setupErr
	}
	before, err := scan(req.Collect)
	if err != nil {
		return err
	}
	st, err := a.execute(req)
	if err != nil {
		return err
	}
	if err := a.conn.WriteJSON(wire.Exit, st); err != nil {
		return lost(err)
	}
	after, err := scan(req.Collect)
	if err != nil {
		return err
	}
	for _, path := range changed(before, after) {
		if err := a.sendBack(path); err != nil {
			return err
		}
	}
	return lost(a.conn.Write(wire.End, nil))
}

// setup makes the program's root: a tmpfs with devfs and a few files that programs expect.
func (a *agent) setup(req *wire.RunRequest) error {
	if d := time.Until(time.Unix(0, req.UnixNano)); d > time.Second || d < -time.Second {
		if err := settimeofday(syscall.NsecToTimeval(req.UnixNano)); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
	}
	if err := mount("tmpfs", rootDir); err != nil {
		return err
	}
	for _, d := range append([]string{"/dev", "/etc", "/tmp", "/var/tmp", "/root", req.Dir},
		req.Dirs...) {
		if err := os.MkdirAll(rootDir+d, 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"/tmp", "/var/tmp"} {
		if err := os.Chmod(rootDir+d, 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"/etc/passwd": "root:*:0:0:root:/root:/bin/sh\n" +
			"nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"/etc/group": "wheel:*:0:root\nnobody:*:65534:\n",
		"/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
	} {
		if err := os.WriteFile(rootDir+name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := mount("devfs", rootDir+"/dev"); err != nil {
		return err
	}
	for _, s := range req.Sysctls {
		if err := setSysctl(s.Name, s.Value); err != nil {
			return err
		}
	}
	return nil
}

// receive receives files until Start. If discard is true, it reads them and drops them.
func (a *agent) receive(discard bool) error {
	var failed error
	for {
		t, body, err := a.in.Read()
		if err != nil {
			return lost(err)
		}
		switch t {
		case wire.Start:
			return failed
		case wire.File:
			var h wire.FileHeader
			if err := json.Unmarshal(body, &h); err != nil {
				return lost(err)
			}
			err := a.receiveFile(h, discard || failed != nil)
			var werr *wire.WriteError
			if err != nil && !errors.As(err, &werr) {
				return lost(err)
			}
			if err != nil && failed == nil {
				failed = fmt.Errorf("no room for the test's files in the guest's memory (raise --mem): %w", err)
			}
		}
	}
}

func (a *agent) receiveFile(h wire.FileHeader, discard bool) error {
	if discard {
		return wire.ReceiveFile(a.in, h, io.Discard)
	}
	f, err := create(rootDir+h.Path, h.Mode)
	if err != nil {
		if rerr := wire.ReceiveFile(a.in, h, io.Discard); rerr != nil {
			return rerr
		}
		return &wire.WriteError{Err: err}
	}
	err = wire.ReceiveFile(a.in, h, f)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = &wire.WriteError{Err: cerr}
	}
	return err
}

func create(path string, mode uint32) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, os.FileMode(mode).Perm())
}

func (a *agent) sendBack(path string) error {
	f, err := os.Open(rootDir + path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h := wire.FileHeader{Path: path, Mode: uint32(fi.Mode().Perm()), Size: fi.Size()}
	return lost(a.conn.SendFile(h, f))
}

// execute runs the program and forwards its output until all its processes have ended.
func (a *agent) execute(req *wire.RunRequest) (wire.ExitStatus, error) {
	var st wire.ExitStatus
	stdin, feed, err := openStdin(req)
	if err != nil {
		return st, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return st, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return st, err
	}
	began := time.Now()
	pid, err := syscall.ForkExec(req.Path, append([]string{req.Path}, req.Args...), &syscall.ProcAttr{
		Dir:   req.Dir,
		Env:   req.Env,
		Files: []uintptr{stdin.Fd(), outW.Fd(), errW.Fd()},
		Sys:   &syscall.SysProcAttr{Chroot: rootDir, Setsid: true},
	})
	stdin.Close()
	outW.Close()
	errW.Close()
	if err != nil {
		return st, fmt.Errorf("start %s: %w", req.Path, err)
	}
	var wg sync.WaitGroup
	var werr [2]error
	for i, s := range []struct {
		t wire.Type
		r *os.File
	}{{wire.Stdout, outR}, {wire.Stderr, errR}} {
		wg.Go(func() {
			defer s.r.Close()
			werr[i] = a.forward(s.t, s.r)
		})
	}
	stop := a.control(pid, feed)
	ws, err := reap(pid)
	st.Nanoseconds = time.Since(began).Nanoseconds()
	// Processes that the program left running would keep its output open.
	kerr := killAll()
	if kerr == nil {
		wg.Wait()
	}
	stop()
	if err := errors.Join(werr[0], werr[1]); err != nil {
		return st, lost(err)
	}
	if err := errors.Join(err, kerr); err != nil {
		return st, err
	}
	st.Code = ws.ExitStatus()
	if ws.Signaled() {
		st.Code = 128 + int(ws.Signal())
		st.Signal = int(ws.Signal())
	}
	return st, nil
}

// forward sends the bytes that it reads from r. It does not hold small writes back.
func (a *agent) forward(t wire.Type, r io.Reader) error {
	buf := make([]byte, 128<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if werr := a.conn.Write(t, buf[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			return nil // io.EOF: the last writer has gone
		}
	}
}

// reap waits for pid. It also reaps the children of other processes, because that is the task of
// pid 1.
func reap(pid int) (syscall.WaitStatus, error) {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return ws, fmt.Errorf("wait: %w", err)
		}
		if got == pid && (ws.Exited() || ws.Signaled()) {
			return ws, nil
		}
	}
}

// killAll kills every process of the program and waits until all have ended. On a busy host that
// may take many seconds: a process that is killed needs a processor to end.
func killAll() error {
	const patience = time.Minute
	for until := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if err := killDescendants(); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill what the program left running: %w", err)
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.ECHILD) {
				return nil
			}
			if pid <= 0 {
				break
			}
		}
		if time.Now().After(until) {
			return errors.New("a process of the program cannot be killed")
		}
	}
}

// openStdin returns the file that the program reads from. If the runner forwards its standard
// input, openStdin also returns the file to write that input to.
func openStdin(req *wire.RunRequest) (r, feed *os.File, err error) {
	if req.Stdin {
		return os.Pipe()
	}
	r, err = os.Open(os.DevNull)
	return r, nil, err
}

// control passes signals and input on to the running program until the caller calls the returned
// function. If the host goes away, control kills the program.
func (a *agent) control(pid int, feed *os.File) (stop func()) {
	done, finished := make(chan struct{}), make(chan struct{})
	input := make(chan []byte, 1)
	if feed != nil {
		go a.feed(feed, input)
	}
	go func() {
		defer close(finished)
		defer close(input)
		for {
			select {
			case <-done:
				return
			case f, ok := <-a.in:
				if !ok {
					_ = killDescendants() // they end with the machine anyway
					return
				}
				switch f.t {
				case wire.Signal:
					var s wire.SignalRequest
					if json.Unmarshal(f.body, &s) == nil {
						syscall.Kill(pid, syscall.Signal(s.Number))
					}
				case wire.Stdin:
					select {
					case input <- f.body:
					case <-done:
						return
					}
				}
			}
		}
	}()
	return func() { close(done); <-finished }
}

// feed writes the runner's input to the program. An empty piece ends it.
func (a *agent) feed(w *os.File, input <-chan []byte) {
	defer w.Close()
	for b := range input {
		if len(b) == 0 {
			return
		}
		if _, err := w.Write(b); err != nil {
			return // the program reads no more
		}
		if a.conn.Write(wire.StdinTaken, nil) != nil {
			return
		}
	}
}

// inbox is the stream of frames from the host. It closes when the host goes away.
type inbox chan frame

type frame struct {
	t    wire.Type
	body []byte
}

// Read returns the next frame. It makes inbox a [wire.Reader].
func (in inbox) Read() (wire.Type, []byte, error) {
	f, ok := <-in
	if !ok {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return f.t, f.body, nil
}

// fill reads frames until the host goes away.
func (in inbox) fill(c *wire.Conn) {
	defer close(in)
	for {
		t, body, err := c.Read()
		if err != nil {
			return
		}
		in <- frame{t, append([]byte(nil), body...)}
	}
}
