//go:build unix

package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// Spec describes a machine to start.
type Spec struct {
	Binary  string
	Accel   string
	Arch    string // amd64, arm64 or riscv64; empty for amd64
	Payload string // of a kernel boot: a Multiboot image, or a kernel that QEMU itself starts
	Append  string // command line of a kernel that QEMU itself starts
	Root    string // first disk of such a kernel, with the agent
	Image   *Image // of an image boot
	Disk    string // raw file shared with the guest
	Call    string // Unix socket that the guest reaches at AgentAddr
	CPU     string // model; empty for the default for Accel
	MemMiB  int
	CPUs    int
	ICount  bool // the guest's clock counts its instructions; needs TCG

	Stall time.Duration // the watcher stops QEMU now and then, for this long at most; 0 for never
}

// Image is a disk image that a machine boots in place of a kernel.
type Image struct {
	File     string
	Format   string // raw or qcow2
	Snapshot bool   // keep writes out of File; it is not an overlay
	Firmware string // for -bios; may be empty on amd64
	Tar      string // second disk
}

// tcgCPU is the emulated processor. The model max has every feature that QEMU can emulate. A
// FreeBSD kernel then uses features that are slow in software (SMAP, XSAVE, PCID). This model has
// the features that GOAMD64=v2 needs, random numbers and AES.
const tcgCPU = "qemu64,+rdrand,+lahf-lm,+popcnt,+ssse3,+sse4.1,+sse4.2,+aes,+pclmulqdq"

// icount makes each instruction take 2^2 ns. If the guest waits, its clock jumps to the next timer.
const icount = "shift=2,sleep=off,align=off"

// Args returns QEMU's command line without its name.
func (s Spec) Args() []string {
	accel, cpu := s.Accel, "host"
	if s.Accel == TCG {
		accel, cpu = "tcg,thread=multi", tcgCPU
		if s.ICount {
			accel = "tcg,thread=single"
		}
		switch s.Arch {
		case "arm64":
			cpu = "cortex-a72"
		case "riscv64":
			cpu = "rv64"
		}
	}
	if s.CPU != "" {
		cpu = s.CPU
	}
	machine := "pc"
	switch s.Arch {
	case "arm64":
		machine = "virt"
		if s.Accel != TCG {
			machine += ",gic-version=max"
		}
	case "riscv64":
		machine = "virt"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", machine, "-accel", accel, "-cpu", cpu,
		"-m", strconv.Itoa(s.MemMiB), "-smp", strconv.Itoa(s.CPUs),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
	}
	if s.ICount {
		args = append(args, "-icount", icount)
	}
	drive := func(id, file, more string) {
		args = append(args, "-drive", "if=none,id="+id+","+more+",file="+escape(file), "-device",
			"virtio-blk-pci,drive="+id)
	}
	// The guest numbers its disks in the order of the command line.
	if im := s.Image; im != nil {
		if im.Firmware != "" {
			args = append(args, "-bios", im.Firmware)
		}
		more := "format=" + im.Format
		if im.Snapshot {
			more += ",snapshot=on"
		}
		drive("image", im.File, more)
		drive("tar", im.Tar, "format=raw,readonly=on")
		args = append(args, "-device", "virtio-rng-pci")
	} else {
		args = append(args, "-kernel", s.Payload)
	}
	if s.Root != "" {
		args = append(args, "-append", s.Append)
		drive("root", s.Root, "format=raw,readonly=on")
		// these processors have no instruction for random numbers
		args = append(args, "-device", "virtio-rng-pci")
	}
	drive("shared", s.Disk, "format=raw,cache=writeback")
	// The network leads only to one socket of the runner: not to the host, and not through it.
	return append(args,
		"-chardev", "socket,id=agent,path="+escape(s.Call),
		"-netdev", "user,id=host,restrict=on,ipv6=off,guestfwd=tcp:"+AgentAddr+"-chardev:agent",
		"-device", "virtio-net-pci,netdev=host,romfile=")
}

// AgentAddr is the one address that a guest can reach.
const AgentAddr = "10.0.2.4:1"

// escape escapes a path for an option of QEMU.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// MinVersion is the oldest QEMU release that vmtest accepts.
const MinVersion = "5.2"

// ErrMissing is in the error when there is no usable QEMU.
var ErrMissing = errors.New("QEMU is needed")

var versionRE = regexp.MustCompile(`version (\d+)\.(\d+)`)

// Binary returns the usual name of the QEMU for guests of an architecture.
func Binary(arch string) string {
	switch arch {
	case "arm64":
		return "qemu-system-aarch64"
	case "riscv64":
		return "qemu-system-riscv64"
	}
	return "qemu-system-x86_64"
}

// Find returns the path and the version of the QEMU binary. If name is empty, it looks in PATH for
// the binary for amd64 guests.
func Find(name string) (path, version string, err error) {
	if name == "" {
		name = Binary("amd64")
	}
	path, err = exec.LookPath(name)
	if err != nil {
		return "", "", fmt.Errorf("%w: %s is not in PATH (Debian: apt install qemu-system-x86, "+
			"qemu-system-arm, or qemu-system-misc and opensbi for riscv64; macOS: brew install qemu; "+
			"FreeBSD: pkg install qemu)", ErrMissing, name)
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
		return "", "", fmt.Errorf("%w: %s is version %s, older than %s", ErrMissing, path, version,
			MinVersion)
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
	life io.WriteCloser // QEMU runs while this pipe is open; it goes to the serial port

	stderr syncBuffer
	exited chan struct{}
	once   sync.Once
}

// stallFlag begins the first argument of a watcher that stops QEMU now and then.
const stallFlag = "--stall="

// Start runs QEMU under a watcher. The watcher's command line is watcher and then QEMU's command
// line, see [Watch].
func Start(s Spec, console *Console, watcher []string) (*Machine, error) {
	args := append([]string{}, watcher[1:]...)
	if s.Stall > 0 {
		args = append(args, stallFlag+s.Stall.String())
	}
	args = append(args, s.Binary)
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
		// Only the end of QEMU matters, and its status does not.
		_ = m.cmd.Wait()
		close(m.exited)
	}()
	return m, nil
}

// Exited returns a channel that closes when QEMU has ended.
func (m *Machine) Exited() <-chan struct{} { return m.exited }

// Errors returns the text that QEMU wrote to stderr.
func (m *Machine) Errors() string { return strings.TrimSpace(m.stderr.String()) }

// Type writes to the guest's serial port.
func (m *Machine) Type(text string) error {
	_, err := io.WriteString(m.life, text)
	return err
}

// Kill ends QEMU and waits for it.
func (m *Machine) Kill() {
	m.once.Do(func() { m.life.Close() })
	select {
	case <-m.exited:
	case <-time.After(3 * time.Second):
		_ = m.cmd.Process.Kill() // the watcher hangs: on Linux and FreeBSD its end also ends QEMU
		<-m.exited
	}
}

// Watch is the body of the watcher process. It runs args and passes standard input on to that
// process. It kills the process when standard input ends. That happens however the parent ends.
func Watch(args []string) int {
	lockThread()
	var longest time.Duration
	if text, ok := strings.CutPrefix(args[0], stallFlag); ok {
		var err error
		if longest, err = time.ParseDuration(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		args = args[1:]
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = dieWithParent()
	keyboard, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if longest > 0 {
		go stall(cmd.Process, longest)
	}
	go func() {
		// Go on watching, even if QEMU reads no more.
		_, _ = io.Copy(keyboard, os.Stdin)
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = cmd.Process.Signal(syscall.SIGKILL)
	}()
	if err := cmd.Wait(); err != nil {
		return 1
	}
	return 0
}

// stall stops p again and again until it has ended. A host that has no time for a guest does so. p
// runs for longest on average, and stands for half of that.
func stall(p *os.Process, longest time.Duration) {
	for {
		time.Sleep(rand.N(2 * longest)) // the load that is asked for
		if p.Signal(syscall.SIGSTOP) != nil {
			return
		}
		time.Sleep(rand.N(longest)) // the load that is asked for
		if p.Signal(syscall.SIGCONT) != nil {
			return
		}
	}
}

// syncBuffer keeps the first errorsKeep bytes. A guest can make QEMU write messages without end.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const errorsKeep = 64 << 10

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Write(p[:min(len(p), errorsKeep-s.b.Len())])
	return len(p), nil
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
