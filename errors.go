package zbuf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Error is the error of a failed call on a bpf descriptor. [errors.Is] finds the errno in it, and
// through the errno fs.ErrPermission and [errors.ErrUnsupported].
type Error struct {
	Op        string // the request's or system call's name, such as "BIOCSETIF"
	Interface string // the interface concerned, if it is known
	Err       error  // the errno, or one of this package's errors
	Hint      string // what to do about it; empty if Err says that
}

// Error returns the operation, the interface, the error and the hint in one line.
func (e *Error) Error() string {
	s := e.Op
	if e.Interface != "" {
		s += " " + e.Interface
	}
	s += ": " + e.Err.Error()
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

var (
	// ErrResetUnsafe is in the error of a request that resets, if the descriptor is in zero-copy mode
	// and has no buffers, or if [Adopt] could not find out whether it has. The kernel would panic:
	// reset_d in sys/net/bpf.c looks at a store buffer that is not there. The Device does not make the
	// request.
	ErrResetUnsafe = errors.New("refused: in zero-copy mode without buffers " +
		"this ioctl panics the kernel; call SetBuffers first")

	// ErrReattachUnsafe is in the error of [Device.SetInterface], if the interface of a promiscuous
	// descriptor has gone. Since FreeBSD 14 the kernel still takes such a descriptor for promiscuous.
	// If it were attached to another interface, closing it would take away a promiscuous reference
	// that this interface does not have. A kernel with INVARIANTS panics then, and another one loses
	// count. The Device does not make the request. Close it and open a new one.
	ErrReattachUnsafe = errors.New("refused: the interface of this promiscuous descriptor has gone, " +
		"and attaching it again would make the kernel panic or lose count; open a new descriptor")

	// ErrBuffersSet is in the error of a second [Device.SetBuffers]. The kernel would wipe the headers
	// of the buffers in use before it refuses. The Device does not make the request.
	ErrBuffersSet = errors.New("refused: the descriptor has its buffers, once for its lifetime; " +
		"open another descriptor for other buffers")

	// ErrNotOurBuffers is in the error of [Device.SetBuffers], if the descriptor was adopted and has
	// zero-copy buffers. Only the process that lent them has their memory.
	ErrNotOurBuffers = errors.New("the descriptor's zero-copy buffers belong to whoever opened it; " +
		"open another descriptor")

	// ErrForeignOS is in the error of [Open] on a system other than FreeBSD. errors.Is finds
	// [errors.ErrUnsupported] in it.
	ErrForeignOS = fmt.Errorf("FreeBSD's bpf(4) is not there on %s: %w",
		runtime.GOOS, errors.ErrUnsupported)

	// ErrZeroCopyDisabled is in the error of [Device.SetBufferMode], if the sysctl
	// net.bpf.zerocopy_enable is 0.
	ErrZeroCopyDisabled = errors.New("zero-copy is disabled: " +
		"run `bpfctl zerocopy on` as root (sysctl net.bpf.zerocopy_enable=1)")
)

// opError returns err with the name of the operation and of the interface, and with a hint. It
// leaves an *Error as it is.
func opError(op, iface string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	return &Error{Op: op, Interface: iface, Err: err, Hint: hint(op, err)}
}

const multicastOps = opAddMulticast + " " + opDeleteMulticast

// hints say what to do next. The first that fits counts. A hint without operations fits all of
// them.
var hints = []struct {
	ops  string
	err  error
	hint string
}{
	{opOpen, syscall.EACCES, "run as root, or give your group access to /dev/bpf in devfs.rules(5)"},
	{opOpen, syscall.EPERM, "run as root, or give your group access to /dev/bpf in devfs.rules(5)"},
	{opOpen, syscall.ENOENT, "no bpf device: in a jail, unhide bpf in its devfs ruleset; " +
		"else kldload if_bpf or device bpf"},
	{"", syscall.EMFILE,
		"the process has too many open files: close some, or raise its limit (limits(1))"},
	{"", syscall.ENFILE, "the system has too many open files: raise the sysctl kern.maxfiles"},
	{"", os.ErrClosed, "open a new Device"},

	{"BIOCSETIF", syscall.ENXIO,
		"no such interface, or it has no bpf tap: ifconfig -l lists interfaces"},
	{"BIOCSETIF", syscall.EINVAL, "set the buffers first"},
	{"BIOCSETIF", syscall.ENAMETOOLONG, "an interface's name has at most 15 bytes"},
	{"BIOCGETIF BIOCGDLT BIOCGDLTLIST BIOCPROMISC", syscall.EINVAL,
		"not attached, or the interface has gone: call SetInterface, or open a new descriptor"},
	{"BIOCSDLT", syscall.EINVAL,
		"not attached, or the interface does not offer this link type: see LinkTypes"},
	{"BIOCGDLTLIST", syscall.ENOMEM, "the list kept growing: try again"},
	{"BIOCGETIFLIST", syscall.ENOSPC, "the list kept growing: try again"},
	{"BIOCGETIFLIST", syscall.EINVAL, "the kernel is older than 16.0: use net.Interfaces"},
	{opIndex, syscall.ENXIO, "the interface has gone or is in another vnet: open a new descriptor"},
	{multicastOps, syscall.ENXIO,
		"not attached, or the interface has gone or is in another vnet: open a new descriptor"},
	{multicastOps, syscall.EADDRINUSE,
		"somebody else has added the address: the interface accepts it until they delete it"},
	{multicastOps, syscall.ENOENT, "add the address first"},
	{multicastOps, syscall.EADDRNOTAVAIL,
		"a multicast address has an odd first byte: see SetPromiscuous for others"},
	{multicastOps, syscall.EOPNOTSUPP, "the interface has no multicast: see SetPromiscuous"},
	{multicastOps, syscall.EPERM, "run as root: access to /dev/bpf is not enough"},

	{"BIOCSETF BIOCSETFNR BIOCSETWF", syscall.EINVAL,
		"the program is not valid (see Validate), or longer than the sysctl net.bpf.maxinsns"},
	{"BIOCSBLEN", syscall.EINVAL, "set the length before the interface"},
	{"BIOCSBLEN", syscall.EOPNOTSUPP, "in zero-copy mode SetBuffers gives the length"},
	{"BIOCSETBUFMODE", syscall.EBUSY, "set the mode right after open"},
	{"BIOCSETBUFMODE", syscall.EINVAL, "the mode is BPF_BUFMODE_BUFFER or BPF_BUFMODE_ZBUF"},
	{"BIOCGETZMAX BIOCROTZBUF", syscall.EINVAL,
		"a 32-bit program has no zero-copy on a 64-bit kernel: build it for the kernel's architecture"},
	{"BIOCGETZMAX BIOCROTZBUF BIOCSETZBUF", syscall.EOPNOTSUPP, "set zero-copy mode first"},
	{"BIOCSETZBUF", syscall.EINVAL,
		"the size is 1 to MaxBufferSize bytes, and buffers come before the interface"},
	{"BIOCSETZBUF", syscall.EFAULT, "the kernel could not map the buffers: use smaller ones"},
	{opMap, syscall.ENOMEM,
		"the process may not map as much (RLIMIT_AS), or memory is short: use smaller buffers"},

	{"BIOCSRTIMEOUT", syscall.EINVAL, "a read timeout is 0 or more"},
	{"BIOCSRSIG", syscall.EINVAL, "use the number of a signal"},
	{"BIOCSDIRECTION", syscall.EINVAL, "use BPF_D_IN, BPF_D_INOUT or BPF_D_OUT"},
	{"BIOCSTSTAMP", syscall.EINVAL, "use a BPF_T_ value"},
	{"BIOCSETVLANPCP", syscall.EINVAL, "a priority is 0 to 7, and the kernel must be 14.0 or later"},
	{"FIOSETOWN TIOCSPGRP", syscall.ESRCH, "there is no such process or process group"},

	{opRead, syscall.EAGAIN, "nothing to read: call Wait"},
	{opRead, syscall.ENXIO, "the interface has gone, and all is read: open a new descriptor"},
	{opRead, syscall.EINVAL, "give Read as many bytes as BufferLen says"},
	{opRead, syscall.EOPNOTSUPP, "in zero-copy mode the packets are in the lent buffers"},
	{opWrite, syscall.ENXIO, "not attached, or the interface has gone: open a new descriptor"},
	{opWrite, syscall.EPERM, "the write filter refused the packet"},
	{opWrite, syscall.EMSGSIZE,
		"the packet is shorter than a link header or longer than the interface's MTU"},
	{opWrite, syscall.EIO,
		"the packet is longer than the kernel can write: a page on 12.1, 16 KiB on 14"},
	{opWrite, syscall.ENETDOWN, "the interface is down"},
	{opWrite, syscall.EBADF,
		"the descriptor is for reading only: open it with write access to /dev/bpf"},
	{opWrite, syscall.ENOBUFS, "the interface's queue is full: try again later"},
	{opWrite, syscall.EAFNOSUPPORT,
		"the interface takes its own header only: turn SetHeaderComplete off"},

	{opLimit, syscall.ENOSYS,
		"the kernel has no Capsicum (options CAPABILITIES): go on without Limit"},
	{"", syscall.EPERM, "the descriptor is locked (BIOCLOCK): open a new one"},
}

// hint says what to do about an error.
func hint(op string, err error) string {
	for _, h := range hints {
		here := h.ops == "" || h.ops == op || slices.Contains(strings.Fields(h.ops), op)
		if here && errors.Is(err, h.err) {
			return h.hint
		}
	}
	if _, ok := err.(syscall.Errno); !ok {
		return "" // this package's own errors say it themselves
	}
	if op == strings.ToUpper(op) || op == opOpen { // requests
		return "see bpf(4)"
	}
	return "see " + op + "(2)"
}
