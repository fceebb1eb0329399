package zbuf

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A watch hears from the network stack of the process that an interface has come, gone or changed,
// and ends the sleep of every reader. kqueue does not tell a reader that its interface has gone, so
// without a watch each reader must wake up to look. docs/design.md, "The check of the interface",
// has the reasons.
//
// A process has one watch while a sleeper of it watches: the first one opens it, and the last one
// closes it. The goroutine in run ends with it.
type watch struct {
	file *os.File
	over chan struct{} // closed by the last sleeper
	lost atomic.Bool   // the kernel tells nothing any more

	mu       sync.Mutex
	sleepers map[*sleeper]struct{}
}

// theWatch is that of the process, or nil.
var theWatch struct {
	mu sync.Mutex
	w  *watch
}

// joinWatch makes the process's watch end the sleeps of s. It returns nil if the kernel has no
// netlink(4). leave takes s off again.
func joinWatch(s *sleeper) *watch {
	theWatch.mu.Lock()
	defer theWatch.mu.Unlock()
	w := theWatch.w
	if w == nil || w.lost.Load() {
		file, err := openLinks()
		if err != nil {
			return nil
		}
		w = &watch{file: file, over: make(chan struct{}), sleepers: map[*sleeper]struct{}{}}
		theWatch.w = w
		go w.run()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sleepers[s] = struct{}{}
	return w
}

// leave closes the watch behind its last sleeper.
func (w *watch) leave(s *sleeper) {
	if w == nil {
		return
	}
	theWatch.mu.Lock()
	defer theWatch.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sleepers, s)
	if len(w.sleepers) > 0 {
		return
	}
	close(w.over)
	w.file.Close()
	if theWatch.w == w {
		theWatch.w = nil
	}
}

func (w *watch) works() bool { return w != nil && !w.lost.Load() }

// watchPause is the time between two wake-ups of every sleeper, if interfaces keep changing.
const watchPause = 100 * time.Millisecond

// run tells the sleepers of every change until the watch is closed. What a message says does not
// matter, because a reader asks for its interface anyway. A message that the kernel has no memory
// for wakes the socket too.
func (w *watch) run() {
	conn, err := w.file.SyscallConn()
	for err == nil {
		slept := false
		var failed error
		err = conn.Read(func(fd uintptr) bool {
			var told bool
			told, failed = drain(int(fd))
			over := told || slept || failed != nil
			slept = true
			return over
		})
		if err == nil {
			err = failed
		}
		w.lost.Store(err != nil)
		w.tell()
		select {
		case <-w.over:
			return
		case <-time.After(watchPause):
		}
	}
}

func (w *watch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.sleepers {
		s.changed()
	}
}

// drain reads every message that there is. It reports whether there was one, or whether the kernel
// had no room for one.
func drain(fd int) (told bool, err error) {
	var message [256]byte // the kernel cuts what is longer
	for {
		switch n, err := unix.Read(fd, message[:]); {
		case err == unix.EAGAIN:
			return told, nil
		case err == unix.EINTR:
		case err == unix.ENOBUFS || n > 0:
			told = true
		case err == nil:
			return told, syscall.EPIPE // the end of the file
		default:
			return told, err
		}
	}
}

// Of netlink(4), which x/sys does not have for FreeBSD.
const (
	afNetlink     = 38
	netlinkRoute  = 0
	solNetlink    = 270
	addMembership = 1 // NETLINK_ADD_MEMBERSHIP
	groupLink     = 1 // RTNLGRP_LINK
)

// openLinks opens a socket that tells of the interfaces of the process's network stack. The process
// can read it and nothing else, even if it is root: a sandbox must not change interfaces.
func openLinks() (*os.File, error) {
	fd, err := unix.Socket(afNetlink, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, netlinkRoute)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, solNetlink, addMembership, groupLink); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "netlink") // Go's poller takes it before its rights go
	rights, err := unix.CapRightsInit([]uint64{unix.CAP_READ, unix.CAP_EVENT})
	if err == nil {
		err = unix.CapRightsLimit(uintptr(fd), rights)
	}
	if err != nil && err != unix.ENOSYS { // no Capsicum
		f.Close()
		return nil, err
	}
	return f, nil
}
