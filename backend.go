package zbuf

import "time"

// System opens bpf descriptors. [Host] is the running kernel. Package bpftest has a model of a
// kernel, in memory.
type System interface {
	// Open opens a new descriptor, as open(2) of /dev/bpf does. Read of the descriptor never
	// blocks, and the descriptor is closed on exec. Open returns an errno or an [*Error].
	Open() (Backend, error)
}

// Backend is one open bpf descriptor of a kernel, or of a model of a kernel. A [Device] calls it.
// Its methods return the bare errno ([syscall.Errno]) that the system call gave. Programs use a
// Device. Implement Backend to put something else below a Device.
//
// One goroutine at a time calls Wait. Any goroutine may call the other methods, also while Wait
// blocks. No other call is under way when Close is called, and only Unmap comes after it.
type Backend interface {
	// Ioctl performs req. arg is nil or a pointer, as [Request.Takes] accepts it. The kernel reads and
	// writes the value behind the pointer.
	Ioctl(req Request, arg any) error

	// Read is read(2) without blocking. It returns EAGAIN if there is nothing to read.
	Read(p []byte) (int, error)

	// Write is write(2) of one packet.
	Write(p []byte) (int, error)

	// Wait blocks until one of these has happened:
	//   - The kernel has woken the readers of the descriptor since the last call. This is an edge,
	//     as EVFILT_READ with EV_CLEAR reports it. Data that a call has reported does not count.
	//   - Wake was called since the last call.
	//   - An interface has changed since the last call, if WatchInterfaces was called ([Watcher]).
	//   - The timeout has passed. A negative timeout never passes.
	//   - A signal came, or the alarm of an earlier call was late. Wait then returns an empty Event.
	//
	// If rearm is true, Wait first looks at the readiness afresh, as EV_ADD does. It reports data
	// that counts as ready again, and it starts the read timeout (BIOCSRTIMEOUT) if an ioctl has
	// stopped it. If rearm is false, only wakeups count.
	Wait(rearm bool, timeout time.Duration) (Event, error)

	// Wake ends the Wait under way. If there is none, it ends the next one.
	Wake() error

	// Detached reports whether no interface is attached. It is poll(2) for POLLHUP alone. Every
	// ioctl stops the read timeout, and Detached does not.
	Detached() bool

	// InterfaceIndex returns the index of the attached interface in the network stack of the
	// process. It returns ENXIO if the stack has no interface of that name. An interface that was
	// moved to another vnet may still be attached. Like every ioctl it stops the read timeout.
	InterfaceIndex() (int, error)

	// Map returns size bytes of zeroed, page-aligned memory that BIOCSETZBUF accepts. It stays the
	// same memory across fork(2). size is a multiple of [Backend.PageSize].
	Map(size int) ([]byte, error)

	// Unmap gives back the memory that Map returned. The kernel must have no use for it: the
	// descriptor is closed, or BIOCSETZBUF refused the memory.
	Unmap(mem []byte) error

	// PageSize returns the unit of lent memory in bytes.
	PageSize() int

	// Limit takes from the process all rights to the descriptor but these: reading, waiting,
	// closing, the requests in allowed and, if write is true, writing (cap_rights_limit(2),
	// cap_ioctls_limit(2)).
	Limit(allowed []Request, write bool) error

	// Close closes the descriptor. A second call must not close anything; it returns EBADF.
	Close() error
}

// Guard has the methods that a [Backend] needs for [Device.SetGuardedBuffers]. A Backend may lack
// them.
type Guard interface {
	// MapTwice is Map, but it returns the memory at two addresses. Unmap is called for each.
	MapTwice(size int) (lent, view []byte, err error)

	// Protect makes memory that [Guard.MapTwice] or [Backend.Map] returned inaccessible, or accessible
	// again. A program that touches inaccessible memory gets SIGSEGV.
	Protect(mem []byte, accessible bool) error
}

// FilterFacts has the methods that a [Backend] needs for [Device.MaxInstructions] and
// [Device.Netmask]. A Backend may lack them. Compilers of filters ask them.
type FilterFacts interface {
	// MaxInstructions returns the sysctl net.bpf.maxinsns.
	MaxInstructions() (int, error)

	// Netmask returns the netmask of the attached interface's first IPv4 address, and 0 if it has no
	// such address. Like every ioctl it stops the read timeout.
	Netmask() (uint32, error)
}

// Multicast has the methods that a [Backend] needs for [Device.AddMulticast] and
// [Device.DeleteMulticast]. A Backend may lack them.
type Multicast interface {
	// AddMulticast is SIOCADDMULTI of the attached interface. Like every ioctl it stops the read
	// timeout.
	AddMulticast(addr [6]byte) error

	// DeleteMulticast is SIOCDELMULTI of the attached interface. Like every ioctl it stops the read
	// timeout.
	DeleteMulticast(addr [6]byte) error
}

// Polled has the method that a [Backend] needs for [Device.Polled]. A Backend may lack it.
type Polled interface {
	// Polled reports whether Wait sleeps in the poller of Go's runtime. Then a waiting goroutine
	// occupies no thread, and a short timeout costs more than rearm does. calls is how many system
	// calls Wait has made by itself so far.
	Polled() (calls uint64, polled bool)
}

// Watcher has the method that a [Backend] needs for [Device.WatchInterfaces]. A Backend may lack
// it.
type Watcher interface {
	// WatchInterfaces makes every later Wait end with Changed after an interface of the process's
	// network stack has come, gone or changed, be it destroyed, renamed or moved to another vnet. It
	// reports whether it can. Calls after the first only report, and begin a watch again that the
	// kernel has ended.
	WatchInterfaces() bool
}

// Event says why [Backend.Wait] returned. The zero Event says that the timeout has passed, or that
// a signal or a late alarm ended the wait early.
type Event struct {
	Readable bool // the kernel woke the readers
	Woken    bool // Wake was called
	Changed  bool // an interface of the network stack came, went or changed: see [Watcher]
	Data     int  // with Readable: bytes in store and hold buffer (kn_data)
}
