package zbuf

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
)

// Error is what a failed call on a bpf descriptor returns. errors.Is finds the
// errno in it, and through the errno fs.ErrPermission and errors.ErrUnsupported.
type Error struct {
	Op        string // the request's or system call's name, such as "BIOCSETIF"
	Interface string // the interface concerned, if any
	Err       error  // the errno
	Hint      string // what to do about it, if anything is known
}

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

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Err }

var (
	// ErrResetUnsafe is returned instead of making an ioctl that resets the descriptor while
	// it is in zero-copy mode without buffers: the kernel would panic (reset_d in
	// sys/net/bpf.c looks at a store buffer that is not there).
	ErrResetUnsafe = errors.New("refused: in zero-copy mode without buffers this ioctl panics the kernel; call SetBuffers first")

	// ErrReattachUnsafe is in the error of SetInterface if the interface of a promiscuous descriptor
	// was destroyed. Since FreeBSD 14 the kernel still takes such a descriptor for promiscuous. If it
	// were attached to another interface, closing it would take away a promiscuous reference that the
	// interface does not have: a kernel with INVARIANTS panics, another one loses count.
	// Close the descriptor and open a new one.
	ErrReattachUnsafe = errors.New("refused: the interface of this promiscuous descriptor has gone, " +
		"and attaching it again corrupts the kernel's count of promiscuous listeners; open a new descriptor")

	// ErrBuffersSet is returned for a second SetBuffers: the kernel would wipe the
	// headers of the buffers in use before it refuses.
	ErrBuffersSet = errors.New("refused: the descriptor has its buffers already, once for its lifetime")

	// ErrNotOurBuffers is returned when an adopted descriptor has zero-copy buffers
	// that somebody else lent: their memory can't be reached.
	ErrNotOurBuffers = errors.New("the descriptor's zero-copy buffers belong to whoever opened it")

	// ErrForeignOS is in the error of Open where there is no bpf(4) of FreeBSD's kind.
	ErrForeignOS = fmt.Errorf("FreeBSD's bpf(4) is not there on %s: %w", runtime.GOOS, errors.ErrUnsupported)
)

// ErrZeroCopyDisabled is in the error of SetBufferMode when the kernel refuses
// zero-copy mode as such.
var ErrZeroCopyDisabled = errors.New("zero-copy is disabled: run `bpfctl zerocopy on` as root (sysctl net.bpf.zerocopy_enable=1)")

// opError gives err, an errno, the name of the operation and of the interface.
func opError(op, iface string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Interface: iface, Err: err, Hint: hint(op, err)}
}

// hint says what to do about the errors that users meet.
func hint(op string, err error) string {
	is := func(e syscall.Errno) bool { return errors.Is(err, e) }
	switch {
	case op == "open /dev/bpf" && (is(syscall.EACCES) || is(syscall.EPERM)):
		return "run as root, or give your group access to /dev/bpf in devfs.rules(5)"
	case op == "open /dev/bpf" && is(syscall.ENOENT):
		return "no bpf device: in a jail, unhide bpf in its devfs ruleset; else kldload if_bpf or device bpf"
	case op == "BIOCSETIF" && is(syscall.ENXIO):
		return "no such interface, or it has no bpf tap"
	case op == "BIOCSETIF" && is(syscall.EINVAL):
		return "set the buffers first"
	case op == "BIOCSETZBUF" && is(syscall.EFAULT):
		return "the kernel could not map the buffers: use smaller ones"
	case op == "mmap" && is(syscall.ENOMEM):
		return "the process may not map as much (RLIMIT_AS), or memory is short: use smaller buffers"
	case is(syscall.EPERM) && op != "write":
		return "the descriptor is locked (BIOCLOCK)"
	case op == "write" && is(syscall.EPERM):
		return "the write filter refused the packet"
	case op == "write" && is(syscall.EMSGSIZE):
		return "the packet is shorter than a link header or longer than the interface's MTU"
	case op == "write" && is(syscall.ENETDOWN):
		return "the interface is down"
	}
	return ""
}
