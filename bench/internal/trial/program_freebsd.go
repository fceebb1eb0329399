package trial

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bench/internal/contestant"
	"github.com/zbuf-go/zbuf/bench/internal/ktrace"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/sysctl"
)

// Folder has the programs. It belongs to the tests of a package, so vmtest takes it along.
const Folder = "testdata/programs"

// program is a contestant that runs, and answers commands.
type program struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// greeting is the first line of a program.
type greeting struct {
	Version string
	Lent    bool
}

var errStuck = errors.New("it did not return")

// openProgram starts the program. missing says why it can't run here.
func openProgram(s Spec, c contestant.Program) (
	p *program, hi greeting, missing string, err error,
) {
	file := filepath.Join(Folder, c.File)
	if _, err := os.Stat(file); err != nil {
		return nil, hi, "its program was not built", nil
	}
	flag := func(on bool) string {
		if on {
			return "1"
		}
		return "0"
	}
	args := []string{c.Loop, s.Interface, strconv.Itoa(s.Memory),
		strconv.FormatInt(s.Timeout.Milliseconds(), 10), flag(s.Immediate),
		strconv.FormatInt(int64(s.Work), 10), strconv.Itoa(s.Delays)}
	for _, i := range filter(s) {
		args = append(args, strconv.Itoa(int(i.Op)), strconv.Itoa(int(i.Jt)), strconv.Itoa(int(i.Jf)),
			strconv.FormatUint(uint64(i.K), 10))
	}
	p = &program{cmd: exec.Command("./"+file, args...)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, hi, "", err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, hi, "", err
	}
	p.out = bufio.NewReader(out)
	w, why := lab.Kernel()
	if w == nil {
		return nil, hi, "", errors.New(why)
	}
	if err := w.SetSysctl("net.bpf.zerocopy_enable", map[bool]int{true: 1}[c.Lent]); err != nil {
		return nil, hi, "", err
	}
	if err = p.cmd.Start(); err == nil {
		err = p.answer(grace, &hi)
	}
	err = errors.Join(err, w.SetSysctl("net.bpf.zerocopy_enable", 1))
	if err == nil && hi.Lent != c.Lent {
		missing = fmt.Sprintf("%s has no zero-copy mode", hi.Version)
	}
	return p, hi, missing, err
}

// answer reads an answer. It fails with errStuck if none comes in time.
func (p *program) answer(limit time.Duration, to any) error {
	type read struct {
		line []byte
		err  error
	}
	got := make(chan read, 1)
	go func() {
		line, err := p.out.ReadBytes('\n')
		got <- read{line, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			return fmt.Errorf("the program has ended: %w", errors.Join(r.err, p.cmd.Wait()))
		}
		return json.Unmarshal(r.line, to)
	case <-time.After(limit):
		return errStuck
	}
}

func (p *program) ask(limit time.Duration, to any, format string, args ...any) error {
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		return err
	}
	return p.answer(limit, to)
}

func (p *program) run(d time.Duration, to *Result) error {
	return p.ask(d+grace, to, "run %d", d.Milliseconds())
}

// kill ends the program and returns its CPU time.
func (p *program) kill() time.Duration {
	p.cmd.Process.Kill()
	p.cmd.Wait()
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// TouchCost measures what it costs a program to count and touch a packet of size bytes.
func TouchCost(file string, size int) (c contestant.Cost, missing string, err error) {
	s := Spec{Interface: "lo0", Memory: 1 << 20, Timeout: time.Second}
	p, _, missing, err := openProgram(s, contestant.Program{File: file, Loop: "pcap_loop"})
	if missing != "" || err != nil {
		return c, missing, err
	}
	defer p.kill()
	return c, "", p.ask(time.Minute, &c, "touch %d", size)
}

func runProgram(s Spec, c contestant.Program) (r Result, err error) {
	begin := time.Now()
	p, hi, missing, err := openProgram(s, c)
	if p == nil {
		return Result{Missing: missing}, err
	}
	defer p.kill()
	if missing != "" {
		return Result{Missing: missing}, err
	}
	var seen [2]sysctl.Listener
	steps := []struct {
		name string
		do   func() error
	}{
		{"opening", func() error { return err }},
		{"the first run", func() error { return p.run(s.Warm, &Result{}) }},
		{"the run", func() error {
			if seen[0], err = listenerOf(p.cmd.Process.Pid); err != nil {
				return err
			}
			if err := p.run(s.Length, &r); err != nil {
				return err
			}
			if seen[1], err = listenerOf(p.cmd.Process.Pid); err != nil {
				return err
			}
			r.RSS, err = resident(p.cmd.Process.Pid, r.RSS)
			return err
		}},
		{"the run with system calls traced", func() error {
			if s.Trace > 0 {
				r.Traced, err = p.trace(s.Trace)
			}
			return err
		}},
	}
	for _, step := range steps {
		err := step.do()
		if errors.Is(err, errStuck) {
			r.Stuck, r.Elapsed, r.Version = step.name, time.Since(begin), hi.Version
			r.CPU = p.kill()
			return r, nil
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	r.Version = hi.Version
	r.Matched, r.Dropped = seen[1].Matched-seen[0].Matched, seen[1].Dropped-seen[0].Dropped
	r.Kernel = 2 * int64(seen[1].BufferSize)
	return r, nil
}

// resident returns the memory of a process, at least most. The kernel notes getrusage(2)'s maximum
// when its statistics clock meets the process. It may never meet one that sleeps most of the time.
func resident(pid int, most int64) (int64, error) {
	list, err := lab.Processes("kern.proc.pid", pid)
	if err != nil {
		return 0, err
	}
	if len(list) != 1 {
		return 0, fmt.Errorf("process %d is there %d times", pid, len(list))
	}
	return max(most, list[0].Resident()), nil
}

// frame has the calls that a program makes between a command and its answer, beside the loop.
var frame = []int{unix.SYS_READ, unix.SYS_SETITIMER, unix.SYS_GETRUSAGE,
	unix.SYS_CLOCK_GETTIME, unix.SYS_SIGRETURN}

// trace runs the program with its system calls traced. The answer to a further command shows that
// the records of the answer before were written.
func (p *program) trace(d time.Duration) (t Traced, err error) {
	var r Result
	calls, err := ktrace.CountOf(p.cmd.Process.Pid, unix.SYS_WRITE, func() error {
		if err := p.run(d, &r); err != nil {
			return err
		}
		return p.ask(grace, &struct{}{}, "mark")
	})
	if err != nil {
		return t, err
	}
	t = Traced{Elapsed: r.Elapsed, Packets: r.Packets, ByName: map[string]uint64{}}
	const stdin = 0
	for k, v := range calls {
		own := k.Number != unix.SYS_READ || k.First == stdin
		for _, n := range frame {
			if k.Number == n && own {
				v = 0
			}
		}
		name := names[k.Number]
		if name == "" {
			name = fmt.Sprint(k.Number)
		}
		t.Process += v
		t.ByName[name] += v
	}
	t.Reader = t.Process // it has one thread
	return t, nil
}
