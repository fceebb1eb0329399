package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"
)

// A helper is a process that runs the command of --after. The capture starts it before it gives up
// the right to start one. The helper is told the last parts of files' names over a pipe, and
// nothing else. It reports how each command ended over another pipe. It ends when the first pipe
// does.
type helper struct {
	names  outbox
	done   chan struct{} // closed when the helper has ended
	failed int           // commands; valid when done is closed
	ran    int
}

// report is a line that the helper writes when a command has ended.
type report struct {
	Name  string
	Error string `json:",omitempty"`
}

// startHelper starts a helper as a user, which may be nil, for the files of a folder. The first
// word of a command is the path of a program.
func startHelper(
	command []string, folder string, as *account, say func(string),
) (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("--after: can't find this program: %w", err)
	}
	c := exec.Command(self, append([]string{afterCommand, "--", folder}, command...)...)
	c.Args[0] = os.Args[0]
	c.Stderr = os.Stderr
	apart(c, as)
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("--after: can't start a process: %w", err)
	}
	h := &helper{names: outbox{pipe: in}, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for reports := json.NewDecoder(out); ; {
			var r report
			if reports.Decode(&r) != nil {
				if !h.names.isClosed() {
					say("--after: the process that runs the commands has ended: none will run any more")
				}
				return
			}
			h.ran++
			if r.Error != "" {
				h.failed++
				say(fmt.Sprintf("--after: %s with %s: %s", filepath.Base(command[0]), r.Name, r.Error))
			}
		}
	}()
	return h, nil
}

// run has the command run with a file. It does not wait for the command. When it returns, the
// helper's pipe has the name, so the command runs even if the capture is killed then. The helper
// takes names at any time, so its pipe is full only if somebody has stopped it. The name then
// waits for it, and the capture does not.
func (h *helper) run(name string) {
	line, err := json.Marshal(name)
	if err != nil {
		panic(err) // a string
	}
	h.names.send(append(line, '\n'))
}

// end waits until all commands have ended. Nobody may call run any more. It can't use wait(2),
// which capability mode forbids.
func (h *helper) end() error {
	asked := h.names.close()
	<-h.done
	switch {
	case h.ran < asked:
		return fmt.Errorf("--after: the process that runs the commands ended before %d of %d had run",
			asked-h.ran, asked)
	case h.failed > 0:
		return fmt.Errorf("--after: %d of %d commands failed", h.failed, asked)
	}
	return nil
}

// afterCommand is the name of the command that is the helper.
const afterCommand = "run-after-files"

func newAfter() *cobra.Command {
	return &cobra.Command{
		Use: afterCommand + " FOLDER PROGRAM [WORD...]", Hidden: true,
		Short:   "Run a program with each file whose name comes in; for capture --after alone",
		Example: "  bpfctl " + afterCommand + " FOLDER PROGRAM",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runAfterFiles(c.InOrStdin(), c.OutOrStdout(), args[0], args[1:])
		},
	}
}

// runAfterFiles is the helper. Commands run one after another. It takes names at any time, so that
// the capture never waits for a command.
func runAfterFiles(in io.Reader, out io.Writer, folder string, command []string) error {
	ignoreEnds()
	names := newQueue()
	go func() {
		defer names.close()
		for told := json.NewDecoder(bufio.NewReader(in)); ; {
			var name string
			if told.Decode(&name) != nil {
				return
			}
			names.push(name)
		}
	}()
	answer := json.NewEncoder(out)
	for name, ok := names.pop(); ok; name, ok = names.pop() {
		r := report{Name: name}
		if name == "." || name != filepath.Base(name) || !filepath.IsLocal(name) {
			r.Error = "this is no name of a file in the folder"
		} else {
			c := exec.Command(command[0], append(command[1:len(command):len(command)],
				filepath.Join(folder, name))...)
			c.Stdout, c.Stderr = os.Stderr, os.Stderr
			if err := c.Run(); err != nil {
				r.Error = err.Error()
			}
		}
		answer.Encode(r) // with an error the capture was killed, and the commands still run
	}
	return nil
}

// outbox sends lines through a pipe, and nobody who sends waits.
type outbox struct {
	pipe io.WriteCloser

	mu     sync.Mutex
	late   []byte // lines, or the end of one, that the pipe had no room for
	sent   int    // lines
	closed bool
}

// send puts a line into the pipe, or keeps what the pipe has no room for.
func (o *outbox) send(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent++
	if len(o.late) > 0 {
		o.late = append(o.late, line...)
		return
	}
	if n := writeNow(o.pipe, line); n < len(line) {
		o.late = line[n:]
		go o.flush()
	}
}

// flush waits for room for everything that is late. It ends with an error when the helper has
// ended, and the other pipe says so.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.late) > 0 {
		late := o.late
		o.mu.Unlock()
		_, err := o.pipe.Write(late)
		o.mu.Lock()
		if err != nil {
			return
		}
		o.late = o.late[len(late):]
	}
	if o.closed {
		o.pipe.Close()
	}
}

func (o *outbox) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// close closes the pipe behind the last line, and returns how many lines there were.
func (o *outbox) close() (sent int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if len(o.late) == 0 {
		o.pipe.Close()
	}
	return o.sent
}

// queue has names in order. It has room for any number of them.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond
	names  []string
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.more.L = &q.mu
	return q
}

func (q *queue) push(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.names = append(q.names, name)
	q.more.Signal()
}

// pop waits for a name. ok is false when the queue is closed and empty.
func (q *queue) pop() (name string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.names) == 0 && !q.closed {
		q.more.Wait()
	}
	if len(q.names) == 0 {
		return "", false
	}
	name, q.names = q.names[0], q.names[1:]
	return name, true
}

// close lets pop end.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Signal()
}
