//go:build unix

package vmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/agentbin"
	"github.com/zbuf-go/zbuf/vmtest/internal/kernelset"
	"github.com/zbuf-go/zbuf/vmtest/internal/printable"
	"github.com/zbuf-go/zbuf/vmtest/internal/server"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// Config says how [Run] runs a program. Begin with [DefaultConfig]: the zero value is not usable.
type Config struct {
	Kernel     string   // name or path of a kernel file or kernel.txz set: see [KernelPath]
	Release    string   // FreeBSD release such as 15.1, whose kernel Run fetches, instead of Kernel
	Mirror     string   // the server that releases come from: see [DefaultMirror]
	Image      string   // raw or qcow2 image, also with .xz, to boot instead of a kernel
	Arch       string   // amd64, arm64 or riscv64; empty takes that of the program or image
	Firmware   string   // file for QEMU's -bios; if empty, arm64 takes one in the usual places
	CPU        string   // QEMU's processor model; empty takes one that suits the guest
	Sysctls    []string // name=value, set before the program and restored after it
	Tunables   []string // name=value for the kernel environment, see loader(8)
	Modules    []string // kernel modules to load unless they are built in
	MemMiB     int      // memory of the guest
	CPUs       int      // processors of the guest
	NoReuse    bool     // boot a guest for this program alone
	Accel      string   // kvm, hvf or tcg; empty takes the best that works
	ICount     bool     // the guest's clock counts instructions; only in software emulation
	QEMU       string   // path or name of the QEMU binary; empty takes the usual one
	Copy       []string // paths that also go to the guest, with everything below them
	FilesLimit int64    // bytes of files that may go to the guest
	Stdin      bool     // forward standard input
	Verbose    bool     // print boot messages and times

	// Stall stops the guest now and then, for this long at most. 0 never does.
	Stall time.Duration

	// Self is the command line, without arguments, of a program that calls [Helper] first of all in
	// its main function. Run starts it as the guest's server and as QEMU's watcher.
	Self []string

	Stdout, Stderr io.Writer
	Input          io.Reader
}

// DefaultConfig returns the configuration of the command vmtest without flags.
func DefaultConfig() Config {
	return Config{
		Kernel: os.Getenv("VMTEST_KERNEL"), Image: os.Getenv("VMTEST_IMAGE"), Mirror: DefaultMirror(),
		MemMiB: 1024, CPUs: 2, FilesLimit: 64 << 20, Stdout: os.Stdout, Stderr: os.Stderr,
		Input: os.Stdin,
	}
}

// DefaultMirror returns the server that VMTEST_MIRROR names. If it names none, DefaultMirror
// returns FreeBSD's download server. The release 15.1 is below it at amd64/15.1-RELEASE.
func DefaultMirror() string {
	if m := os.Getenv("VMTEST_MIRROR"); m != "" {
		return m
	}
	return kernelset.Mirror
}

// idle is how long a guest waits for the next program. Ten seconds after the last program no
// process may be left.
const idle = 8 * time.Second

// version is that of the protocol between the runner and its server. It is part of the guest's
// name, so two versions of the runner never share a guest.
const version = "1"

// A Fault is the error of a run whose end says nothing about the program.
type Fault struct {
	Sentence string // the fault, and what to do
	Console  string // the guest's last lines, if there was a guest
}

// Error returns the sentence.
func (f *Fault) Error() string { return f.Sentence }

// Run runs the program at path in a guest and returns its exit code. If a signal killed the
// program, the code is 128 plus the number of the signal. Run forwards SIGINT, SIGTERM, SIGQUIT and
// SIGHUP to the program.
//
// Errors (after each of them the program's result is not known):
//   - [ErrProgram]: the file cannot run in the guest.
//   - [*Fault]: the guest failed.
//   - Any other error: Run could not start a guest, or could not read or write a file.
func Run(ctx context.Context, c Config, path string, args []string) (int, error) {
	start := time.Now()
	if _, err := safeCache(); err != nil {
		return 0, err
	}
	program, guest, err := CheckProgram(path, "")
	if err != nil {
		return 0, err
	}
	if err := c.check(guest); err != nil {
		return 0, err
	}
	if _, _, err := CheckProgram(path, c.Arch); err != nil {
		return 0, err
	}
	// A signal ends a download as it ends other programs. The part that has come stays.
	if err := c.prepareKernel(ctx); err != nil {
		return 0, err
	}
	if err := c.checkKernel(program); err != nil {
		return 0, err
	}
	r := &runner{cfg: c, start: start}
	return r.run(ctx, path, args)
}

type runner struct {
	cfg   Config
	start time.Time
	ready wire.ReadyReport
	first time.Duration // start to first byte of output
}

func (r *runner) logf(format string, a ...any) {
	if r.cfg.Verbose {
		r.noticef(format, a...)
	}
}

// noticef prints a line of the runner. Parts of it may come from the guest.
func (r *runner) noticef(format string, a ...any) {
	fmt.Fprintf(r.cfg.Stderr, "vmtest: %s\n", printable.Text(fmt.Sprintf(format, a...)))
}

func (r *runner) run(ctx context.Context, path string, args []string) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer signal.Stop(signals)

	path, err := filepath.Abs(path)
	if err != nil {
		return 0, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	req := wire.RunRequest{Path: path, Args: args, Env: os.Environ(), Dir: dir, Stdin: r.cfg.Stdin}
	for _, s := range r.cfg.Sysctls {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return 0, fmt.Errorf("sysctl %q: want name=value", s)
		}
		req.Sysctls = append(req.Sysctls, wire.Sysctl{Name: name, Value: value})
	}
	for _, t := range r.cfg.Tunables {
		if name, _, ok := strings.Cut(t, "="); !ok || name == "" {
			return 0, fmt.Errorf("tunable %q: want name=value", t)
		}
	}
	for _, m := range r.cfg.Modules {
		if !moduleName.MatchString(m) {
			return 0, fmt.Errorf("kernel module %q: want a name like if_bridge", m)
		}
	}
	p, err := makePlan(path, isTest(path, args), args, req.Env, dir, r.cfg.Copy, r.cfg.FilesLimit)
	if err != nil {
		return 0, err
	}
	req.Dirs, req.Collect = p.dirs, p.collect()

	sc, err := r.serverConfig()
	if err != nil {
		return 0, err
	}
	nc, conn, err := server.Dial(sc, append(append([]string{}, r.cfg.Self...), helperServe),
		wire.JoinRequest{Version: wire.Version, Verbose: r.cfg.Verbose})
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()

	in := make(chan received)
	quit := make(chan struct{})
	defer close(quit)
	go pump(conn, in, quit)

	code, err := r.talk(conn, in, signals, req, p)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return code, err
}

var moduleName = regexp.MustCompile(`^[a-z0-9_]+$`)

// isTest tells a test binary, which the go command runs in its package's
// folder, from other programs.
func isTest(path string, args []string) bool {
	if strings.HasSuffix(path, ".test") {
		return true
	}
	for _, a := range args {
		if strings.HasPrefix(a, "-test.") {
			return true
		}
	}
	return false
}

func (r *runner) serverConfig() (server.Config, error) {
	c := r.cfg
	file := c.Kernel
	if c.Image != "" {
		file = c.Image
	}
	fi, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		if c.Image != "" {
			return server.Config{}, fmt.Errorf("there is no image %s: official ones are named *-BASIC-CI*.raw.xz and lie below https://download.freebsd.org/releases/CI-IMAGES", file)
		}
		return server.Config{}, c.noKernel(c.Kernel)
	}
	if err != nil {
		return server.Config{}, err
	}
	if file, err = filepath.Abs(file); err != nil {
		return server.Config{}, err
	}
	agent, err := agentbin.Build(agentSource, "vmtest", CacheDir(), c.Arch)
	if err != nil {
		return server.Config{}, err
	}
	sc := server.Config{
		KernelTime: fi.ModTime(), Arch: c.Arch, Firmware: c.Firmware, CPU: c.CPU, Agent: agent,
		Modules: c.Modules, Tunables: c.Tunables, MemMiB: r.cfg.MemMiB, CPUs: r.cfg.CPUs,
		QEMU: r.cfg.QEMU, Accel: r.cfg.Accel, ICount: r.cfg.ICount, Stall: r.cfg.Stall,
		Version: version, Idle: idle, Cache: CacheDir(),
	}
	if c.Image != "" {
		sc.Image = file
	} else {
		sc.Kernel = file
	}
	if r.cfg.NoReuse {
		sc.Private = fmt.Sprint(os.Getpid(), time.Now().UnixNano())
		sc.Idle = 0
	}
	return sc, nil
}

type received struct {
	t    wire.Type
	body []byte
	err  error
}

// pump reads frames for talk. A body is valid until talk asks for the next one.
func pump(conn *wire.Conn, in chan<- received, quit <-chan struct{}) {
	for {
		t, body, err := conn.Read()
		if err == nil {
			body = append([]byte(nil), body...)
		}
		select {
		case in <- received{t, body, err}:
		case <-quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// errServerGone is the error of a run whose server was killed.
var errServerGone = errors.New("the guest's server is gone: the program did not reach its end")

// talk takes the run from the queue to the end mark.
func (r *runner) talk(
	conn *wire.Conn, in <-chan received, signals <-chan os.Signal, req wire.RunRequest, p *plan,
) (int, error) {
	var status *wire.ExitStatus
	files := &receiver{places: p.places, limit: r.cfg.FilesLimit, notice: r.noticef}
	defer files.drop()
	started := false
	inputTaken := make(chan struct{}, 1)
	interrupts := 0
	for {
		select {
		case s := <-signals:
			n := s.(syscall.Signal)
			if n == syscall.SIGINT || n == syscall.SIGTERM {
				interrupts++
			}
			if !started || interrupts > 2 {
				return 128 + int(n), nil
			}
			if err := conn.WriteJSON(wire.Signal, wire.SignalRequest{Number: int(n)}); err != nil {
				return 0, errServerGone
			}
		case f := <-in:
			if f.err != nil {
				return 0, errServerGone
			}
			switch f.t {
			case wire.Note:
				r.logf("%s", f.body)
			case wire.Notice:
				r.noticef("%s", f.body)
			case wire.Console:
				if r.cfg.Verbose {
					if _, err := io.WriteString(r.cfg.Stderr, printable.Text(string(f.body))); err != nil {
						return 0, err
					}
				}
			case wire.Ready:
				if err := json.Unmarshal(f.body, &r.ready); err != nil {
					return 0, err
				}
				r.logReady()
				if err := send(conn, req, p); err != nil {
					return 0, err
				}
				started = true
				if req.Stdin {
					go forwardInput(conn, r.cfg.Input, inputTaken)
				}
			case wire.Stdout, wire.Stderr:
				if r.first == 0 {
					r.first = time.Since(r.start)
				}
				w := r.cfg.Stdout
				if f.t == wire.Stderr {
					w = r.cfg.Stderr
				}
				if _, err := w.Write(f.body); err != nil {
					return 0, fmt.Errorf("write the program's output: %w", err)
				}
			case wire.StdinTaken:
				select {
				case inputTaken <- struct{}{}:
				default:
				}
			case wire.Exit:
				status = &wire.ExitStatus{}
				if err := json.Unmarshal(f.body, status); err != nil {
					return 0, err
				}
			case wire.File:
				if err := files.file(f.body); err != nil {
					return 0, err
				}
			case wire.Data:
				if err := files.data(f.body); err != nil {
					return 0, err
				}
			case wire.End:
				if status == nil {
					return 0, errors.New("the guest's end mark came without an exit status")
				}
				if status.Code < 0 || status.Code > 255 { // exit(256) would be exit(0)
					return 0, fmt.Errorf("%w: exit code %d", wire.ErrFrame, status.Code)
				}
				r.logEnd(status)
				if status.Signal != 0 {
					fmt.Fprintf(r.cfg.Stderr, "vmtest: the program was killed by signal %d (%v)\n", status.Signal,
						syscall.Signal(status.Signal))
				}
				return status.Code, nil
			case wire.Fail:
				return 0, errors.New(printable.Text(string(f.body)))
			case wire.Fault:
				var fr wire.FaultReport
				if err := json.Unmarshal(f.body, &fr); err != nil {
					return 0, err
				}
				return 0, &Fault{printable.Text(fr.Sentence), printable.Text(fr.Console)}
			}
		}
	}
}

func (r *runner) logReady() {
	if r.ready.Reused {
		r.logf("guest ready after %s, used again (%s, %s)", seconds(time.Since(r.start)), r.ready.Kernel,
			r.ready.Accel)
		return
	}
	r.logf("guest ready after %s, boot %s (%s, %s)", seconds(time.Since(r.start)),
		seconds(time.Duration(r.ready.BootNanoseconds)), r.ready.Kernel, r.ready.Accel)
}

func (r *runner) logEnd(st *wire.ExitStatus) {
	first := "no output"
	if r.first != 0 {
		first = "first byte after " + seconds(r.first)
	}
	r.logf("%s, program %s, total %s, exit code %d", first, seconds(time.Duration(st.Nanoseconds)),
		seconds(time.Since(r.start)), st.Code)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// send sends the request and the files to the agent.
func send(conn *wire.Conn, req wire.RunRequest, p *plan) error {
	req.UnixNano = time.Now().UnixNano()
	if err := conn.WriteJSON(wire.Run, req); err != nil {
		return errServerGone
	}
	for _, f := range p.files {
		if err := sendOne(conn, f); err != nil {
			return err
		}
	}
	if err := conn.Write(wire.Start, nil); err != nil {
		return errServerGone
	}
	return nil
}

func sendOne(conn *wire.Conn, f sendFile) error {
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	fi, err := r.Stat()
	if err != nil {
		return err
	}
	return conn.SendFile(wire.FileHeader{Path: f.path, Mode: uint32(fi.Mode().Perm()),
		Size: fi.Size()}, r)
}

// forwardInput sends standard input piece by piece. It sends a piece when the guest has taken the
// last one, because signals must not wait behind input that nobody reads.
func forwardInput(conn *wire.Conn, r io.Reader, taken <-chan struct{}) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if conn.Write(wire.Stdin, buf[:n]) != nil {
				return
			}
			<-taken
		}
		if err != nil {
			_ = conn.Write(wire.Stdin, nil) // a server that is gone is noticed by talk
			return
		}
	}
}
