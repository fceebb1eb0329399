package zbuf

import "time"

// System opens bpf descriptors. [Host] is the running kernel; package bpftest
// has a model of one, in memory.
type System interface {
	// Open opens a new descriptor, as open(2) of /dev/bpf does. It never
	// blocks in Read and is closed on exec. Errors are errnos.
	Open() (Backend, error)
}

// Backend is what lies under a [Device]: one open bpf descriptor of a kernel, or
// of a model of one. Its methods return the bare errno ([syscall.Errno]) that the
// system call gave. Use a Device; implement this to put something else below it.
//
// Wait is called by one goroutine at a time. Everything else may be called from
// any goroutine, also while Wait blocks. Close is called once, with no other
// call under way or to come but Unmap.
type Backend interface {
	// Ioctl performs req. arg is nil or a pointer of the type that the list of
	// requests names; the kernel reads and writes what it points to.
	Ioctl(req Request, arg any) error

	// Read is read(2) without blocking: EAGAIN when there is nothing.
	Read(p []byte) (int, error)

	// Write is write(2): one packet.
	Write(p []byte) (int, error)

	// Wait blocks until the kernel has woken the descriptor's readers since the
	// last call (an edge, as EVFILT_READ with EV_CLEAR reports it: data that
	// is already known of does not count), Wake was called since the last call,
	// or timeout has passed; a negative timeout is none. A signal may end it early,
	// with an empty Event.
	//
	// With rearm the readiness is looked at afresh first, as EV_ADD does: data that
	// counts as ready is reported again, and the read timeout (BIOCSRTIMEOUT)
	// begins to run if an ioctl stopped it. Without, only wakeups count.
	Wait(rearm bool, timeout time.Duration) (Event, error)

	// Wake ends the Wait under way, or else the next one.
	Wake() error

	// Detached reports whether no interface is attached, without touching the read
	// timeout, which every ioctl stops (poll(2) for POLLHUP alone).
	Detached() bool

	// InterfaceIndex returns the index of the attached interface in the network stack of the
	// process. ENXIO: it is not there, also when it was moved to another vnet, which need not detach.
	// Like every ioctl it stops the read timeout.
	InterfaceIndex() (int, error)

	// Map returns size bytes of zeroed, page-aligned memory that BIOCSETZBUF
	// accepts and that stays the same memory across fork(2). size is a
	// multiple of PageSize.
	Map(size int) ([]byte, error)

	// Unmap gives back what Map returned. The kernel must have no use for it: the
	// descriptor is closed, or BIOCSETZBUF refused it.
	Unmap(mem []byte) error

	// PageSize is the unit of lent memory in bytes.
	PageSize() int

	// Limit reduces what the process can do with the descriptor to reading, waiting,
	// closing, the ioctls given and, with write, writing (cap_rights_limit(2),
	// cap_ioctls_limit(2)).
	Limit(allowed []Request, write bool) error

	// Close closes the descriptor.
	Close() error
}

// Guard is what a [Backend] may have besides, for [Device.SetGuardedBuffers].
type Guard interface {
	// MapTwice is Map, but returns the memory at two addresses. Unmap is called for each.
	MapTwice(size int) (lent, view []byte, err error)

	// Protect makes what MapTwice or Map returned inaccessible, or accessible again. Touching inaccessible
	// memory is a fault (SIGSEGV).
	Protect(mem []byte, accessible bool) error
}

// Event is why [Backend.Wait] returned. The zero Event is the timeout.
type Event struct {
	Readable bool // the kernel woke the readers
	Woken    bool // Wake was called
	Data     int  // with Readable: bytes in store and hold buffer (kn_data)
}
