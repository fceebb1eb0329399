//go:build unix

package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/flock"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// startTimeout is the longest time from the start of a server to its first word.
const startTimeout = 10 * time.Second

// paths has the files of one configuration.
type paths struct{ socket, call, lock, log string }

func (c Config) paths() (paths, error) {
	d := dir()
	if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return paths{}, err
	}
	// Everybody may write to the folder above. So this folder must belong to this user alone.
	fi, err := os.Lstat(d)
	if err != nil {
		return paths{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.IsDir() || int(st.Uid) != os.Getuid() || fi.Mode().Perm()&0o077 != 0 {
		return paths{}, fmt.Errorf("%s is not a folder that only you can use: remove it", d)
	}
	k := filepath.Join(d, c.Key())
	return paths{socket: k + ".sock", call: k + ".call", lock: k + ".lock", log: k + ".log"}, nil
}

// Dial joins the server for c. If there is none, Dial starts one by the command self, with the
// configuration as one more argument.
func Dial(c Config, self []string, join wire.JoinRequest) (net.Conn, *wire.Conn, error) {
	p, err := c.paths()
	if err != nil {
		return nil, nil, err
	}
	// A runner holds this lock while it dials, and a server while it decides to end.
	unlock, err := flock.Lock(p.lock)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	nc, err := net.Dial("unix", p.socket)
	if err != nil {
		if err := spawn(c, p, self); err != nil {
			return nil, nil, err
		}
		if nc, err = net.Dial("unix", p.socket); err != nil {
			return nil, nil, fmt.Errorf("reach the guest's server: %w", err)
		}
	}
	conn := wire.NewConn(bufio.NewReaderSize(nc, 256<<10), nc)
	err = conn.WriteJSON(wire.Join, join)
	if err == nil {
		err = nc.SetReadDeadline(time.Now().Add(startTimeout))
	}
	var t wire.Type
	if err == nil {
		t, _, err = conn.Read()
	}
	if err == nil && t != wire.Welcome {
		err = fmt.Errorf("it answers %q", t)
	}
	if err == nil {
		err = nc.SetReadDeadline(time.Time{})
	}
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("the guest's server does not answer: %w", err)
	}
	return nc, conn, nil
}

// spawn starts a detached server and waits until it listens. The server inherits no open file of
// the caller. The go command waits until every process has closed the output of its test.
func spawn(c Config, p paths, self []string) error {
	arg, err := json.Marshal(c)
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("start the guest's server: %w", err)
	}
	defer logFile.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the guest's server: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(self[0], append(append([]string{}, self[1:]...), string(arg))...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the guest's server: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	if err := r.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("start the guest's server: %w", err)
	}
	word, err := io.ReadAll(r)
	if err == nil && string(word) == listening {
		return nil
	}
	text, _ := os.ReadFile(p.log)
	return fmt.Errorf("the guest's server did not start: %v %s %s", err, word,
		strings.TrimSpace(string(text)))
}

// listening is the message that a server sends to the process that started it.
const listening = "listening"
