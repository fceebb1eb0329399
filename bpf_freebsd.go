package zbuf

import (
	"encoding/binary"
	"net"
	"os"
	"structs"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Host returns the running kernel.
func Host() System { return host{} }

type host struct{}

func (host) Open() (Backend, error) {
	fd, err := openRetry(unix.O_RDWR)
	if err == unix.EACCES {
		fd, err = openRetry(unix.O_RDONLY) // enough to capture, if not to write
	}
	if err != nil {
		return nil, err
	}
	d, err := newDescriptor(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	d.sleeper = newSleeper(d)
	return d, nil
}

func openRetry(mode int) (int, error) {
	for {
		fd, err := unix.Open("/dev/bpf", mode|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// descriptor is an open /dev/bpf and the kqueue that watches it. Where bpf has EVFILT_WRITE, Go's
// own poller watches it too.
type descriptor struct {
	fd, kq  int
	net     int // a socket to ask for interfaces, opened before capability mode
	closed  atomic.Bool
	sleeper *sleeper         // nil where Go's poller can't watch a bpf descriptor
	changes [1]unix.Kevent_t // of the one goroutine in Wait
	events  [2]unix.Kevent_t
	zero    unix.Timespec
}

// NewHostBackend makes a backend of an open bpf descriptor, for [Adopt]. It makes the descriptor
// non-blocking, for every process that shares it. [Backend.Close] closes the descriptor. If
// NewHostBackend fails, it leaves the descriptor open. A goroutine in [Backend.Wait] occupies a
// thread.
//
// Errors:
//   - EBADF: fd is not open.
//   - EINVAL: fd is something that kqueue cannot watch.
//   - EMFILE, ENFILE: the process or the system has too many open files.
//   - ENOMEM: the kernel has no memory.
func NewHostBackend(fd int) (Backend, error) {
	d, err := newDescriptor(fd)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func newDescriptor(fd int) (*descriptor, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, opError("fcntl", "", err)
	}
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, opError("kqueue", "", err)
	}
	sock, err := unix.Socket(unix.AF_LOCAL, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(kq)
		return nil, opError("socket", "", err)
	}
	d := &descriptor{fd: fd, kq: kq, net: sock}
	add := []unix.Kevent_t{d.readFilter(), wakeFilter(unix.EV_ADD|unix.EV_CLEAR, 0)}
	if _, err := unix.Kevent(kq, add, nil, nil); err != nil {
		unix.Close(sock)
		unix.Close(kq)
		return nil, opError(opWait, "", err)
	}
	return d, nil
}

func (d *descriptor) readFilter() (k unix.Kevent_t) {
	unix.SetKevent(&k, d.fd, unix.EVFILT_READ, unix.EV_ADD|unix.EV_CLEAR)
	return k
}

func wakeFilter(flags int, fflags uint32) (k unix.Kevent_t) {
	unix.SetKevent(&k, 0, unix.EVFILT_USER, flags)
	k.Fflags = fflags
	return k
}

func (d *descriptor) Wait(rearm bool, timeout time.Duration) (Event, error) {
	if d.sleeper != nil {
		return d.sleeper.wait(rearm, timeout)
	}
	var changes []unix.Kevent_t
	if rearm {
		d.changes[0] = d.readFilter()
		changes = d.changes[:]
	}
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	n, err := unix.Kevent(d.kq, changes, d.events[:], ts)
	if err == unix.EINTR {
		return Event{}, nil
	}
	if err != nil {
		return Event{}, err
	}
	var ev Event
	for i := range d.events[:n] {
		switch k := &d.events[i]; {
		case k.Flags&unix.EV_ERROR != 0:
			return Event{}, syscall.Errno(k.Data)
		case k.Filter == unix.EVFILT_READ:
			ev.Readable = true
			ev.Data = int(k.Data)
		case k.Filter == unix.EVFILT_USER:
			ev.Woken = true
		}
	}
	return ev, nil
}

// edge looks whether there is an edge. Nothing in it sleeps: the kernel takes locks for short times
// and copies one event. So the scheduler need not be told. It would wake its monitor thread.
func (d *descriptor) edge(rearm bool) (Event, error) {
	var changes uintptr
	if rearm {
		d.changes[0] = d.readFilter()
		changes = 1
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_KEVENT, uintptr(d.kq),
		uintptr(unsafe.Pointer(&d.changes)), changes, uintptr(unsafe.Pointer(&d.events)), 1,
		uintptr(unsafe.Pointer(&d.zero)))
	switch k := &d.events[0]; {
	case errno != 0:
		return Event{}, errno
	case n == 0:
		return Event{}, nil
	case k.Flags&unix.EV_ERROR != 0:
		return Event{}, syscall.Errno(k.Data)
	default:
		return Event{Readable: true, Data: int(k.Data)}, nil
	}
}

func (d *descriptor) Polled() (calls uint64, polled bool) {
	if d.sleeper == nil {
		return 0, false
	}
	return d.sleeper.calls.Load(), true
}

func (d *descriptor) WatchInterfaces() bool {
	s := d.sleeper
	if s == nil {
		return false
	}
	if !s.watch.works() {
		s.watch.leave(s)
		s.watch = joinWatch(s)
	}
	return s.watch.works()
}

func (d *descriptor) Wake() error {
	if d.sleeper != nil {
		return d.sleeper.wake()
	}
	_, err := unix.Kevent(d.kq, []unix.Kevent_t{wakeFilter(0, unix.NOTE_TRIGGER)}, nil, nil)
	return err
}

func (d *descriptor) Read(p []byte) (int, error) {
	if d.sleeper != nil && len(p) > 0 {
		// It copies a buffer and does not sleep. Go's own copy would hold the processor as long.
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(d.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if errno != 0 {
			return 0, errno
		}
		return int(n), nil
	}
	n, err := unix.Read(d.fd, p)
	return max(n, 0), err
}

func (d *descriptor) Write(p []byte) (int, error) {
	n, err := unix.Write(d.fd, p)
	return max(n, 0), err
}

func (d *descriptor) PageSize() int { return os.Getpagesize() }

// Close closes once. The numbers may belong to other files by the time of a second call, which a
// Device that is garbage makes if another one adopted the same backend and closed it.
func (d *descriptor) Close() error {
	if d.closed.Swap(true) {
		return unix.EBADF
	}
	unix.Close(d.net)
	unix.Close(d.kq)
	if d.sleeper != nil {
		return d.sleeper.close()
	}
	return unix.Close(d.fd)
}

// pollfd is struct pollfd, which x/sys does not have for FreeBSD.
type pollfd struct {
	fd      int32
	events  int16
	revents int16
}

const pollHUP = 0x0010

func (d *descriptor) Detached() bool {
	p := pollfd{fd: int32(d.fd), events: pollHUP}
	// The kernel writes revents of the one struct that its count names.
	n, _, errno := unix.Syscall(unix.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, 0)
	return errno == 0 && n == 1 && p.revents&pollHUP != 0
}

func (d *descriptor) InterfaceIndex() (int, error) {
	var r Ifreq
	if err := d.Ioctl(BIOCGETIF, &r); err == syscall.EINVAL {
		return 0, syscall.ENXIO
	} else if err != nil {
		return 0, err
	}
	// The kernel puts the index where the padding behind the name is.
	sock, p := uintptr(d.net), unsafe.Pointer(&r)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, sock, unix.SIOCGIFINDEX, uintptr(p))
	if errno != 0 {
		return 0, errno
	}
	return int(r.index), nil
}

func (d *descriptor) MaxInstructions() (int, error) {
	n, err := unix.SysctlUint32("net.bpf.maxinsns")
	return int(int32(n)), err
}

func (d *descriptor) Netmask() (uint32, error) {
	var r Ifreq
	if err := d.Ioctl(BIOCGETIF, &r); err == syscall.EINVAL {
		return 0, syscall.ENXIO
	} else if err != nil {
		return 0, err
	}
	ifi, err := net.InterfaceByName(unix.ByteSliceToString(r.Name[:]))
	if err != nil {
		return 0, syscall.ENXIO
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return 0, err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && len(n.Mask) == net.IPv4len {
			return binary.BigEndian.Uint32(n.Mask), nil
		}
	}
	return 0, nil
}

// multicastRequest is struct ifreq with a struct sockaddr_dl, cut to the room that there is.
type multicastRequest struct {
	_                             structs.HostLayout
	name                          [IFNAMSIZ]byte
	size, family                  uint8
	index                         uint16
	kind, nameSize, addrSize, sel uint8
	addr                          [8]byte
}

var _ = [1]struct{}{}[unsafe.Sizeof(multicastRequest{})-sizeofIfreq]

func (d *descriptor) AddMulticast(addr [6]byte) error {
	return d.multicast(unix.SIOCADDMULTI, addr)
}

func (d *descriptor) DeleteMulticast(addr [6]byte) error {
	return d.multicast(unix.SIOCDELMULTI, addr)
}

// multicast makes a request for an address. The kernel copies as many bytes of the sockaddr_dl as
// its size says, so the size ends with the address. The kernel compares the sizes of two addresses,
// but not their families. With the size of a sockaddr_in it would take an entry of IPv4 for this
// one, and delete it. This size is not that of any address of the kernel's own.
func (d *descriptor) multicast(req uintptr, addr [6]byte) error {
	var i Ifreq
	if err := d.Ioctl(BIOCGETIF, &i); err == syscall.EINVAL {
		return syscall.ENXIO
	} else if err != nil {
		return err
	}
	const ether = 6 // IFT_ETHER
	r := multicastRequest{name: i.Name, family: unix.AF_LINK, kind: ether, addrSize: uint8(len(addr))}
	r.size = uint8(unsafe.Offsetof(r.addr)-unsafe.Offsetof(r.size)) + r.addrSize
	copy(r.addr[:], addr[:])
	sock, p := uintptr(d.net), unsafe.Pointer(&r)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, sock, req, uintptr(p)); errno != 0 {
		return errno
	}
	return nil
}

func (d *descriptor) Ioctl(req Request, arg any) error {
	// bpf itself follows a pointer inside the argument.
	p, err := argumentAddress(arg)
	if err != nil {
		return err
	}
	for {
		var errno syscall.Errno
		if req == BIOCROTZBUF {
			// Readers make it all the time, and it only takes a lock and swaps
			// (bpf_zerocopy_ioctl_rotzbuf): the scheduler need not be told. Others may sleep.
			// FIONREAD does while a hold buffer is copied out.
			_, _, errno = unix.RawSyscall(unix.SYS_IOCTL, uintptr(d.fd), uintptr(req), uintptr(p))
		} else {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), uintptr(req), uintptr(p))
		}
		switch errno {
		case 0:
			return nil
		case unix.EINTR: // a signal came first
		default:
			return errno
		}
	}
}

func (d *descriptor) Limit(allowed []Request, write bool) error {
	keep := []uint64{unix.CAP_IOCTL, unix.CAP_READ, unix.CAP_EVENT}
	if write {
		keep = append(keep, unix.CAP_WRITE)
	}
	rights, err := unix.CapRightsInit(keep)
	if err != nil {
		return err
	}
	if err := unix.CapRightsLimit(uintptr(d.fd), rights); err != nil {
		return err
	}
	for fd, right := range map[int]uint64{d.kq: unix.CAP_KQUEUE, d.net: unix.CAP_IOCTL} {
		only, err := unix.CapRightsInit([]uint64{right})
		if err != nil {
			return err
		}
		if err := unix.CapRightsLimit(uintptr(fd), only); err != nil {
			return err
		}
	}
	cmds := make([]uint, len(allowed)+1) // u_long; never empty, so that it has an address
	for i, r := range allowed {
		cmds[i] = uint(r)
	}
	list, n := uintptr(unsafe.Pointer(&cmds[0])), uintptr(len(allowed))
	_, _, errno := unix.Syscall(unix.SYS_CAP_IOCTLS_LIMIT, uintptr(d.fd), list, n)
	if errno != 0 {
		return errno
	}
	return nil
}
