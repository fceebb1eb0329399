package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/filter"
)

// Mode says how packets come out of the kernel.
type Mode int

const (
	// Auto is [ZeroCopy] where the kernel grants it, and [Buffered] otherwise. [Reader.Mode] says
	// which it became, and why.
	Auto Mode = iota
	// ZeroCopy lends the kernel two buffers. "Zero-copy" is the kernel's name. The copy from the
	// network stack's mbuf into the buffer remains.
	ZeroCopy
	// Buffered copies the packets out of the kernel with read(2), a buffer at a time.
	Buffered
)

// String returns "auto", "zerocopy" or "buffered".
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case ZeroCopy:
		return "zerocopy"
	case Buffered:
		return "buffered"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// ParseMode returns the mode that [Mode.String] gives that name. For another name it returns an
// error that lists the names.
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{Auto, ZeroCopy, Buffered} {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("mode %q is not one of auto, zerocopy, buffered", s)
}

// Direction selects packets by their way through the interface.
type Direction int

const (
	// InOut selects the packets that the interface receives and those that this host sends. So a
	// program that writes packets reads its own.
	InOut Direction = iota
	// In selects the packets that the interface receives.
	In
	// Out selects the packets that this host sends, also with [Reader.Write].
	Out
)

// Resolution is the unit of time stamps in the kernel. It does not change the unit of
// [Packet.Timestamp].
type Resolution int

const (
	Nanoseconds  Resolution = iota
	Microseconds            // struct timeval
	Binary                  // 2^-64 s
	NoTimestamp             // the kernel takes none
)

// Clock is the clock from which the kernel takes time stamps. The fast ones give the time of the
// last clock tick and cost the kernel less.
type Clock int

const (
	Realtime      Clock = iota // since 1970; follows clock adjustments
	RealtimeFast               // Realtime at the last tick
	Monotonic                  // since boot
	MonotonicFast              // Monotonic at the last tick
)

const (
	// DefaultBufferSize replaces a [Config].BufferSize of 0. It is in bytes.
	DefaultBufferSize = 512 << 10
	// DefaultReadTimeout replaces a [Config].ReadTimeout of 0.
	DefaultReadTimeout = 100 * time.Millisecond
	// NoTimeout as [Config].ReadTimeout makes the reader wait until a buffer is full.
	NoTimeout = time.Duration(-1)
	// maxSnapLen is the result of a filter that passes whole packets.
	maxSnapLen = 1<<31 - 1
)

// Config says how to capture. The zero Config captures everything that the interface sees without
// promiscuous mode, with zero-copy if possible. [Open] checks the whole Config before it opens
// anything. It does not change or keep it.
type Config struct {
	// Mode says how packets come out of the kernel. The default is Auto.
	Mode Mode

	// BufferSize is the size of each buffer in bytes. 0 is [DefaultBufferSize], or less where the
	// kernel allows less. [Reader.BufferSize] returns the size in force.
	//   - In zero-copy mode there are two buffers. The size includes the header. Open rounds it up to
	//     whole pages. The kernel wires the buffers.
	//   - In buffered mode the kernel allocates two buffers, and the reader has one more.
	BufferSize int

	// SnapLen is the number of bytes that the kernel captures of a packet at most. 0 is all of them.
	SnapLen int

	// Expression says in the language of pcap-filter(7) which packets to capture, such as "tcp port
	// 80". It is in force before the first packet. "" is all of them. Open compiles it with package
	// filter for the link type in force, for the interface's IPv4 netmask and for the kernel's limit
	// of instructions. Open does not look up names of hosts, nets and ports. Use Direction instead of
	// "inbound" and "outbound".
	Expression string

	// Filter is the program that packets must pass, instead of Expression. It is in force before the
	// first packet. The kernel captures as many bytes of a packet as the program returns, and SnapLen
	// at most. nil passes everything. Package filter makes such programs, and tcpdump -ddd does too.
	Filter []xbpf.RawInstruction

	// WriteFilter is the program that written packets must pass. nil passes everything.
	WriteFilter []xbpf.RawInstruction

	// ReadTimeout is the longest time from a packet's arrival to its delivery to a waiting reader.
	// Meanwhile packets gather in the buffer. The kernel counts in clock ticks (1/kern.hz s). Open
	// rounds up to a whole tick. 0 is [DefaultReadTimeout]. With [NoTimeout] the reader waits for a
	// full buffer.
	ReadTimeout time.Duration

	// Immediate delivers each packet as soon as it arrives. ReadTimeout is not used.
	Immediate bool

	// Promiscuous makes the interface accept packets that are not for this host.
	Promiscuous bool

	// Direction says which packets the reader sees. The default is InOut, which includes the packets
	// that this program writes.
	Direction Direction

	// LinkTypes are DLT_ numbers in order of preference. Open chooses the first that the interface
	// offers, and returns [ErrLinkType] if it offers none. Empty takes the interface's default.
	LinkTypes []uint32

	// Resolution is the unit of time stamps. The default is Nanoseconds.
	Resolution Resolution
	// Clock is the clock of time stamps. The default is Realtime.
	Clock Clock

	// HeaderComplete keeps the source address of written packets. Otherwise the kernel fills in the
	// address of the interface.
	HeaderComplete bool

	// Guard is for development. With it, a program that uses a packet after its lease was released
	// gets a fault at once (SIGSEGV), until the same memory is leased again. Guard costs two
	// mprotect(2) for each lease, and one more mapping of each buffer. A mapping takes address space
	// and no memory. Lent memory becomes a shared memory object. The memory of the model can't be
	// protected, so Open returns [errors.ErrUnsupported] there.
	Guard bool

	// Device is an open descriptor that the reader uses. It must not be attached or have buffers.
	// [Reader.Close] closes it, and Open closes it if it fails. If Device is nil, Open opens one.
	Device *zbuf.Device

	// System is the system on which Open opens a descriptor. nil is the running kernel. Device and
	// System exclude each other.
	System zbuf.System
}

// check returns all mistakes in c.
func (c *Config) check() error {
	var errs []error
	bad := func(field string, v any, why string) {
		errs = append(errs, fmt.Errorf("%w: %s %v: %s", ErrConfig, field, v, why))
	}
	if c.Mode < Auto || c.Mode > Buffered {
		bad("Mode", int(c.Mode), "unknown")
	}
	if c.BufferSize < 0 || c.BufferSize > 1<<30 {
		bad("BufferSize", c.BufferSize, "must be from 1 to 2^30 bytes, or 0 for the default")
	}
	if c.SnapLen < 0 || c.SnapLen > maxSnapLen {
		bad("SnapLen", c.SnapLen, "must be positive, or 0 for whole packets")
	}
	if c.ReadTimeout < 0 && c.ReadTimeout != NoTimeout || c.ReadTimeout > 24*time.Hour {
		bad("ReadTimeout", c.ReadTimeout, "must be positive and at most a day, or NoTimeout")
	}
	if c.Direction < InOut || c.Direction > Out {
		bad("Direction", int(c.Direction), "unknown")
	}
	if c.Resolution < Nanoseconds || c.Resolution > NoTimestamp {
		bad("Resolution", int(c.Resolution), "unknown")
	}
	if c.Clock < Realtime || c.Clock > MonotonicFast {
		bad("Clock", int(c.Clock), "unknown")
	}
	for _, f := range []struct {
		name string
		prog []xbpf.RawInstruction
	}{{"Filter", c.Filter}, {"WriteFilter", c.WriteFilter}} {
		if len(f.prog) > 0 {
			if err := zbuf.Validate(f.prog); err != nil {
				errs = append(errs, fmt.Errorf("%w: %s: %w", ErrConfig, f.name, err))
			}
		}
	}
	if c.Expression != "" {
		if len(c.Filter) > 0 {
			bad("Expression", strconv.Quote(c.Expression), "and Filter exclude each other")
		}
		if err := checkExpression(c.Expression); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Device != nil && c.System != nil {
		bad("Device", "", "and System exclude each other")
	}
	return errors.Join(errs...)
}

// checkExpression returns the mistakes that an expression has on every link type.
func checkExpression(expression string) error {
	_, err := filter.Parse(expression)
	return expressionError(err)
}

func expressionError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: Expression: %w", ErrConfig, err)
}

// timestamp returns the BPF_T_ value to ask the kernel for, and the form of the time in records.
//
// With MICROTIME and NONE, records begin with struct bpf_hdr. It has another form in 32-bit
// processes, and yet another if those run on a 64-bit kernel. struct bpf_xhdr has the same offsets
// everywhere, so 32-bit programs always ask for nanoseconds.
func (c *Config) timestamp(wordSize int) (kernel uint32, s stamp) {
	s = map[Resolution]stamp{Nanoseconds: stampNano, Microseconds: stampMicro, Binary: stampBinary,
		NoTimestamp: stampNone}[c.Resolution]
	kernel = map[stamp]uint32{stampNano: zbuf.BPF_T_NANOTIME, stampMicro: zbuf.BPF_T_MICROTIME,
		stampBinary: zbuf.BPF_T_BINTIME, stampNone: zbuf.BPF_T_NONE}[s]
	if wordSize < 8 && (s == stampMicro || s == stampNone) {
		kernel = zbuf.BPF_T_NANOTIME
		if s == stampMicro {
			s = stampNanoAsMicro
		}
	}
	if kernel != zbuf.BPF_T_NONE {
		kernel |= []uint32{zbuf.BPF_T_NORMAL, zbuf.BPF_T_FAST, zbuf.BPF_T_MONOTONIC,
			zbuf.BPF_T_MONOTONIC_FAST}[c.Clock]
	}
	return kernel, s
}

// program returns the read filter, made to return at most SnapLen. It returns a program even if
// filter is empty, because setting one has two effects besides. On a 64-bit kernel it gives a
// 32-bit process records in their 32-bit form. And it wakes a descriptor that
// net.bpf.optimize_writers put to sleep.
func (c *Config) program(filter []xbpf.RawInstruction) []xbpf.RawInstruction {
	snap := c.snapLen()
	if len(filter) == 0 {
		return []xbpf.RawInstruction{{Op: opRetK, K: snap}}
	}
	return clampReturns(slices.Clone(filter), snap)
}

// snapLen returns the number of bytes that a filter may return at most.
func (c *Config) snapLen() uint32 {
	if c.SnapLen > 0 {
		return uint32(c.SnapLen)
	}
	return maxSnapLen
}

const (
	opRetK = 0x06 // BPF_RET|BPF_K
	opRetA = 0x16 // BPF_RET|BPF_A
	opJa   = 0x05 // BPF_JMP|BPF_JA
	opJgtK = 0x25 // BPF_JMP|BPF_JGT|BPF_K
)

// clampReturns makes prog return at most snap. A "ret a" becomes a jump to a comparison at the end.
// The instruction ja reaches any distance, so no other instruction moves.
func clampReturns(prog []xbpf.RawInstruction, snap uint32) []xbpf.RawInstruction {
	tail := len(prog)
	needTail := false
	for i := range prog {
		switch prog[i].Op {
		case opRetK:
			prog[i].K = min(prog[i].K, snap)
		case opRetA:
			if snap < maxSnapLen {
				needTail = true
				prog[i] = xbpf.RawInstruction{Op: opJa, K: uint32(tail - i - 1)}
			}
		}
	}
	if needTail {
		prog = append(prog,
			xbpf.RawInstruction{Op: opJgtK, Jt: 0, Jf: 1, K: snap},
			xbpf.RawInstruction{Op: opRetK, K: snap},
			xbpf.RawInstruction{Op: opRetA})
	}
	return prog
}
