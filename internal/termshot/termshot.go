//go:build unix

// Package termshot runs a program on a terminal and returns what is on the screen. It is for tests,
// and for pictures in documents.
package termshot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/creack/pty"
)

// ErrEnded is in the error of Run if the program ended before until returned true.
var ErrEnded = errors.New("the program has ended")

// Run starts a program on a terminal. It calls until with each picture of the screen, and with all
// that the program has written so far. When until returns true, Run interrupts the program (SIGINT)
// and waits for its end. If until is nil, Run only waits for the end. It returns the exit code, and
// the last screen that until got. If until is nil, that is the last screen of the program.
func Run(
	c *exec.Cmd, columns, lines int, until func(screen, written string) bool,
) (screen, written string, exit int, err error) {
	tty, err := pty.StartWithSize(c, &pty.Winsize{Rows: uint16(lines), Cols: uint16(columns)})
	if err != nil {
		return "", "", 0, err
	}
	defer tty.Close()
	s := NewScreen(columns, lines)
	var all []byte
	buf := make([]byte, 4096)
	found := until == nil
	var fault error
	for {
		n, rerr := tty.Read(buf)
		all = append(all, buf[:n]...)
		if fault == nil {
			fault = s.Write(buf[:n])
		}
		if until == nil || !found {
			screen, written = s.String(), string(all)
		}
		if !found && (fault != nil || until(screen, written)) {
			found = true
			c.Process.Signal(os.Interrupt)
		}
		if rerr == io.EOF || errors.Is(rerr, syscall.EIO) { // Linux says EIO
			break
		}
		if rerr != nil {
			fault = errors.Join(fault, rerr)
			c.Process.Kill()
			break
		}
	}
	err = c.Wait()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		exit, err = ee.ExitCode(), nil
	}
	if err == nil {
		err = fault
	}
	if err == nil && !found {
		err = fmt.Errorf("%w, with exit code %d", ErrEnded, exit)
	}
	return screen, written, exit, err
}
