//go:build unix

package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Accelerators.
const (
	KVM = "kvm"
	HVF = "hvf"
	TCG = "tcg"
)

// Spec is a machine to start.
type Spec struct {
	Binary  string
	Accel   string
	Payload string // Multiboot image
	Disk    string // raw file shared with the guest
	MemMiB  int
	CPUs    int
}

// tcgCPU is the emulated processor. The model max has all that QEMU can emulate,
// which makes a FreeBSD kernel use features that are slow in software (SMAP,
// XSAVE, PCID); this has what GOAMD64=v2 asks for, random numbers and AES.
const tcgCPU = "qemu64,+rdrand,+lahf-lm,+popcnt,+ssse3,+sse4.1,+sse4.2,+aes,+pclmulqdq"

// Args is QEMU's command line without its name.
func (s Spec) Args() []string {
	accel, cpu := s.Accel, "host"
	if s.Accel == TCG {
		accel, cpu = "tcg,thread=multi", tcgCPU
	}
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "pc", "-accel", accel, "-cpu", cpu,
		"-m", strconv.Itoa(s.MemMiB), "-smp", strconv.Itoa(s.CPUs),
		"-kernel", s.Payload,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-drive", "if=none,id=shared,format=raw,cache=writeback,file=" + strings.ReplaceAll(s.Disk, ",", ",,"),
		"-device", "virtio-blk-pci,drive=shared",
		"-netdev", "user,id=host", "-device", "virtio-net-pci,netdev=host,romfile=",
	}
}

// MinVersion is the oldest QEMU release that is accepted.
const MinVersion = "5.2"

// ErrMissing is wrapped when there is no usable QEMU.
var ErrMissing = errors.New("QEMU is needed")

var versionRE = regexp.MustCompile(`version (\d+)\.(\d+)`)

// Find returns the path and version of the QEMU binary: name, or what PATH has
// for amd64 guests.
func Find(name string) (path, version string, err error) {
	if name == "" {
		name = "qemu-system-x86_64"
	}
	path, err = exec.LookPath(name)
	if err != nil {
		return "", "", fmt.Errorf("%w: %s is not in PATH (Debian: apt install qemu-system-x86; macOS: brew install qemu; FreeBSD: pkg install qemu)", ErrMissing, name)
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("%w: %s --version: %v", ErrMissing, path, err)
	}
	m := versionRE.FindSubmatch(out)
	if m == nil {
		return "", "", fmt.Errorf("%w: %s does not tell its version", ErrMissing, path)
	}
	version = string(m[1]) + "." + string(m[2])
	if older(version, MinVersion) {
		return "", "", fmt.Errorf("%w: %s is version %s, older than %s", ErrMissing, path, version, MinVersion)
	}
	return path, version, nil
}

func older(a, b string) bool {
	num := func(v string) int {
		major, minor, _ := strings.Cut(v, ".")
		x, _ := strconv.Atoi(major)
		y, _ := strconv.Atoi(minor)
		return x*1000 + y
	}
	return num(a) < num(b)
}

// Machine is a running QEMU.
type Machine struct {
	Console *Console

	cmd  *exec.Cmd
	life io.Closer // QEMU lives while this pipe is open

	stderr syncBuffer
	exited chan struct{}
	once   sync.Once
}

// Start runs QEMU under a watcher: the command watcher followed by QEMU's own
// command line, see [Watch].
func Start(s Spec, console *Console, watcher []string) (*Machine, error) {
	args := append(append([]string{}, watcher[1:]...), s.Binary)
	m := &Machine{Console: console, exited: make(chan struct{})}
	m.cmd = exec.Command(watcher[0], append(args, s.Args()...)...)
	m.cmd.Stdout = console
	m.cmd.Stderr = &m.stderr
	life, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	m.life = life
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	go func() {
		// The status is of no use: that it ended is the news.
		_ = m.cmd.Wait()
		close(m.exited)
	}()
	return m, nil
}

// Exited is closed when QEMU has ended.
func (m *Machine) Exited() <-chan struct{} { return m.exited }

// Errors returns what QEMU wrote to stderr.
func (m *Machine) Errors() string { return strings.TrimSpace(m.stderr.String()) }

// Kill ends QEMU and waits for it.
func (m *Machine) Kill() {
	m.once.Do(func() { m.life.Close() })
	select {
	case <-m.exited:
	case <-time.After(3 * time.Second):
		_ = m.cmd.Process.Kill() // the watcher hangs: its death takes QEMU along on Linux and FreeBSD
		<-m.exited
	}
}

// Watch is the body of the watcher process: it runs args and kills it when
// standard input ends, which it does whatever way the parent dies.
func Watch(args []string) int {
	lockThread()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = cmd.Process.Signal(syscall.SIGKILL)
	}()
	if err := cmd.Wait(); err != nil {
		return 1
	}
	return 0
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
