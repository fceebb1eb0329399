package bpftest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf"
)

// ErrPanic is in the error of every call from the moment on when the real kernel would have
// panicked. The text names the cause.
var ErrPanic = errors.New("kernel panic")

// maxPages is the number of pages that one lent buffer may have (BPF_MAX_PAGES).
const maxPages = 512

// A Kernel is one machine: its interfaces, sysctls, open bpf descriptors and clock. All
// methods may be called concurrently. It implements [zbuf.System].
type Kernel struct {
	pageSize     int
	hz           int
	now          func() time.Time
	boot         time.Time
	pid, pgid    int
	features     Features
	compat32     bool
	watch        bool
	plainMemory  bool
	unprivileged bool
	trace        func(op string)
	fault        func(op string) error
	inFlight     *inFlight

	sysctls
	panicked         atomic.Pointer[panicError]
	armed            atomic.Bool // plannedFaults is not empty
	waitingInjectors atomic.Int32
	opened           atomic.Uint64 // descriptors with packets in flight

	// mu is the global lock of bpf.c. It guards the interfaces and their listeners. It is taken before
	// a Descriptor's.
	mu       sync.Mutex
	ifaces   []*Interface
	indexes  int    // given to interfaces so far
	taps     []*tap // bpf_iflist, newest first
	open     map[*Descriptor]struct{}
	attached int
	dying    string // why the kernel panics as soon as no lock is held

	memMu  sync.Mutex
	mapped [][]byte

	faultMu       sync.Mutex
	plannedFaults []plannedFault

	// injectMu is held while several descriptors are locked at once.
	injectMu sync.Mutex
	roomMu   sync.Mutex
	room     chan struct{} // closed when an injector that waits for room should look again
}

type panicError struct{ error }

type plannedFault struct {
	op  string
	nth int
	err error
}

var _ zbuf.System = (*Kernel)(nil)

// An Option changes a Kernel that [New] makes.
type Option func(*Kernel)

// WithPageSize sets the page size in bytes, a power of two. The default is 4096.
func WithPageSize(n int) Option { return func(k *Kernel) { k.pageSize = n } }

// WithHZ sets the number of ticks in a second (kern.hz). The kernel counts read timeouts in ticks.
// The default is 1000, as on hardware. Most virtual machines have 100. 1,000,000 makes every
// timeout exact.
func WithHZ(hz int) Option { return func(k *Kernel) { k.hz = hz } }

// WithClock sets the clock that stamps packets without a Time ([Packet]). The default is
// [time.Now]. The machine boots at the time that the clock gives in [New].
func WithClock(now func() time.Time) Option { return func(k *Kernel) { k.now = now } }

// WithFeatures gives the kernel features of later releases than 12.1. The default is none.
func WithFeatures(f Features) Option { return func(k *Kernel) { k.features = f } }

// WithCompat32 makes the process a 32-bit binary on a 64-bit kernel (COMPAT_FREEBSD32). The
// requests that lend memory give EINVAL. Records have 64-bit headers until the process makes a
// request that has a 32-bit form (BIOCSETF, BIOCSETFNR, BIOCSETWF, BIOCGDLTLIST, BIOCSRTIMEOUT,
// BIOCGRTIMEOUT).
func WithCompat32() Option { return func(k *Kernel) { k.compat32 = true } }

// WithPlainMemory puts each packet into one piece of memory, as in a file, and not into an mbuf.
// Then every filter load behind the end of a packet refuses the packet. In an mbuf, a half word
// there is 0 and the filter goes on.
func WithPlainMemory() Option { return func(k *Kernel) { k.plainMemory = true } }

// WithUnprivileged takes the process's root rights away. Writing a sysctl and reading net.bpf.stats
// then give EPERM. The process can still open descriptors.
func WithUnprivileged() Option { return func(k *Kernel) { k.unprivileged = true } }

// WithInterfaceWatch makes [Descriptor.WatchInterfaces] work. In the kernel netlink(4) does, since
// 14. The default is that nothing tells of interfaces, as on 12.1.
func WithInterfaceWatch() Option { return func(k *Kernel) { k.watch = true } }

// WithTrace makes the kernel call f at the start of every call, in the goroutine that makes the
// call. op is the operation's name: that of the request, such as BIOCSETF, or open, close, read,
// write, wait, wake, poll, detached, index, netmask, map, unmap or limit.
func WithTrace(f func(op string)) Option { return func(k *Kernel) { k.trace = f } }

// WithFault makes the kernel call f after the trace, with the same name. f may sleep, to make the
// operation slow. If f returns an error, the kernel returns that error and does not do the
// operation.
func WithFault(f func(op string) error) Option { return func(k *Kernel) { k.fault = f } }

// WithProcess sets the ids of the process and its process group. net.bpf.stats shows the process,
// and FIOSETOWN and TIOCSPGRP find no other ids. The default is this process's id for both.
func WithProcess(pid, pgid int) Option { return func(k *Kernel) { k.pid, k.pgid = pid, pgid } }

// New starts a kernel without interfaces. Its sysctls have the values with which FreeBSD boots, so
// zero-copy is disabled.
func New(opts ...Option) *Kernel {
	k := &Kernel{
		pageSize: 4096,
		hz:       1000,
		now:      time.Now,
		pid:      os.Getpid(),
		pgid:     os.Getpid(),
		open:     make(map[*Descriptor]struct{}),
	}
	k.sysctls.boot()
	for _, o := range opts {
		o(k)
	}
	k.boot = k.now()
	return k
}

// Features returns the features of later releases than 12.1 that the kernel has.
func (k *Kernel) Features() Features { return k.features }

// FailNext makes the nth call of op from now on (1 is the next one) fail with err instead of being
// made. op is a name as [WithTrace] gives it.
func (k *Kernel) FailNext(op string, nth int, err error) {
	k.faultMu.Lock()
	defer k.faultMu.Unlock()
	k.plannedFaults = append(k.plannedFaults, plannedFault{op, nth, err})
	k.armed.Store(true)
}

func (k *Kernel) takeFault(op string) (err error) {
	k.faultMu.Lock()
	defer k.faultMu.Unlock()
	k.plannedFaults = slices.DeleteFunc(k.plannedFaults, func(f plannedFault) bool {
		return f.nth < 1
	})
	for i := range k.plannedFaults {
		f := &k.plannedFaults[i]
		if f.op != op {
			continue
		}
		if f.nth--; f.nth == 0 && err == nil {
			err = f.err
		}
	}
	k.armed.Store(len(k.plannedFaults) > 0)
	return err
}

// enter begins a call to the kernel.
func (k *Kernel) enter(op string) error {
	if k.trace != nil {
		k.trace(op)
	}
	if k.fault != nil {
		if err := k.fault(op); err != nil {
			return err
		}
	}
	if k.armed.Load() {
		if err := k.takeFault(op); err != nil {
			return err
		}
	}
	return k.Panicked()
}

// enterRequest is enter without making a name that nobody asks for.
func (k *Kernel) enterRequest(req zbuf.Request) error {
	if k.trace == nil && k.fault == nil && !k.armed.Load() {
		return k.Panicked()
	}
	return k.enter(req.String())
}

// Panicked returns the error that every call returns since the kernel panicked, or nil. It wraps
// [ErrPanic].
func (k *Kernel) Panicked() error {
	if p := k.panicked.Load(); p != nil {
		return p
	}
	return nil
}

// Unwrap makes errors.Is find ErrPanic.
func (p *panicError) Unwrap() error { return p.error }

// panic stops the machine. No lock may be held.
func (k *Kernel) panic(format string, args ...any) error {
	err := fmt.Errorf("%w: "+format, append([]any{ErrPanic}, args...)...)
	k.panicked.CompareAndSwap(nil, &panicError{err})
	k.mu.Lock()
	open := make([]*Descriptor, 0, len(k.open))
	for d := range k.open {
		open = append(open, d)
	}
	k.mu.Unlock()
	for _, d := range open {
		d.mu.Lock()
		d.interrupt()
		d.mu.Unlock()
	}
	k.roomChanged()
	return k.Panicked()
}

// unlock releases mu. If the kernel must panic, as dying says, unlock does that.
func (k *Kernel) unlock() {
	why := k.dying
	k.dying = ""
	k.mu.Unlock()
	if why != "" {
		k.panic("%s", why)
	}
}

// Open opens a descriptor for reading and writing, as [Kernel.OpenDescriptor] does.
func (k *Kernel) Open() (zbuf.Backend, error) {
	d, err := k.OpenDescriptor()
	if err != nil {
		return nil, err
	}
	return d, nil
}

// OpenDescriptor opens a descriptor with O_RDWR and O_NONBLOCK (bpfopen).
func (k *Kernel) OpenDescriptor() (*Descriptor, error) {
	return k.OpenMode(syscall.O_RDWR | syscall.O_NONBLOCK)
}

// OpenMode opens a descriptor with other flags (bpfopen): one of syscall.O_RDONLY, O_WRONLY and
// O_RDWR, with O_NONBLOCK or without. Without O_NONBLOCK, [Descriptor.Read] blocks. A descriptor
// that cannot read is one of the writers of its interface. It receives nothing until the program
// sets a filter.
func (k *Kernel) OpenMode(flags int) (*Descriptor, error) {
	if err := k.enter("open"); err != nil {
		return nil, err
	}
	const access = syscall.O_RDONLY | syscall.O_WRONLY | syscall.O_RDWR
	d := &Descriptor{
		k:         k,
		canRead:   flags&access != syscall.O_WRONLY,
		canWrite:  flags&access != syscall.O_RDONLY,
		nonblock:  flags&syscall.O_NONBLOCK != 0,
		bufmode:   zbuf.BPF_BUFMODE_BUFFER,
		model:     kernelBuffers{},
		bufsize:   int(k.bufSize.Load()),
		sig:       sigio,
		direction: zbuf.BPF_D_INOUT,
		layouts:   &native,
		pid:       k.pid,
		sleep:     make(chan struct{}, 1),
	}
	if !d.canRead {
		d.writer = writersFilters
	}
	if k.inFlight != nil {
		d.flights.rng = rand.New(rand.NewPCG(k.inFlight.seed, k.opened.Add(1)))
	}
	if k.compat32 {
		d.layouts = &lp64
	}
	k.mu.Lock()
	k.open[d] = struct{}{}
	k.mu.Unlock()
	return d, nil
}

// PageSize returns the unit of lent memory in bytes.
func (k *Kernel) PageSize() int { return k.pageSize }

// OpenCount returns the number of descriptors that are open, to find leaks.
func (k *Kernel) OpenCount() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open)
}

// MappedBytes returns the number of bytes that [Descriptor.Map] has returned and [Descriptor.Unmap]
// has not got back, to find leaks.
func (k *Kernel) MappedBytes() (n int) {
	k.memMu.Lock()
	defer k.memMu.Unlock()
	for _, m := range k.mapped {
		n += len(m)
	}
	return n
}

func (k *Kernel) mmap(size int) ([]byte, error) {
	if size <= 0 || size%k.pageSize != 0 {
		return nil, syscall.EINVAL
	}
	mem := make([]byte, size+k.pageSize)
	skip := -int(address(&mem[0])) & (k.pageSize - 1)
	mem = mem[skip : skip+size : skip+size]
	k.memMu.Lock()
	defer k.memMu.Unlock()
	k.mapped = append(k.mapped, mem)
	return mem, nil
}

func (k *Kernel) munmap(mem []byte) error {
	if len(mem) == 0 {
		return syscall.EINVAL
	}
	k.memMu.Lock()
	defer k.memMu.Unlock()
	i := slices.IndexFunc(k.mapped, func(m []byte) bool {
		return &m[0] == &mem[0] && len(m) == len(mem)
	})
	if i < 0 {
		return syscall.EINVAL
	}
	k.mapped = slices.Delete(k.mapped, i, i+1)
	return nil
}

// memory returns the n bytes that p points to if all of them are mapped.
func (k *Kernel) memory(p *byte, n uintptr) ([]byte, bool) {
	k.memMu.Lock()
	defer k.memMu.Unlock()
	for _, m := range k.mapped {
		off := address(p) - address(&m[0])
		if off < uintptr(len(m)) && n <= uintptr(len(m))-off {
			return m[off : off+n : off+n], true
		}
	}
	return nil, false
}
