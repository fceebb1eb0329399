//go:build freebsd

package lab

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that x/sys has no function for. Each passes pointers to memory that stays
// alive and in place for the length of the call (rule 4 of unsafe.Pointer).

func ioctl(fd int, req uintptr, arg []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&arg[0])))
	return errnoErr(errno)
}

// ifdata is struct ifreq with a pointer in its union.
type ifdata struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16 - unsafe.Sizeof(uintptr(0))]byte
}

// ifdrv is struct ifdrv.
type ifdrv struct {
	name [unix.IFNAMSIZ]byte
	cmd  uintptr
	len  uintptr
	data unsafe.Pointer
}

func ioctlData(fd int, req uintptr, ifname string, data []byte) error {
	r := ifdata{data: unsafe.Pointer(&data[0])}
	copy(r.name[:], ifname)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&r)))
	return errnoErr(errno)
}

func ioctlDriver(fd int, ifname string, cmd uintptr, data []byte) error {
	r := ifdrv{cmd: cmd, len: uintptr(len(data)), data: unsafe.Pointer(&data[0])}
	copy(r.name[:], ifname)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSDRVSPEC,
		uintptr(unsafe.Pointer(&r)))
	return errnoErr(errno)
}

// rawSysctl is __sysctl(2).
func rawSysctl(mib []int32, old, new []byte) (int, error) {
	n := uintptr(len(old))
	_, _, errno := unix.Syscall6(unix.SYS___SYSCTL, uintptr(unsafe.Pointer(&mib[0])),
		uintptr(len(mib)),
		uintptr(unsafe.Pointer(unsafe.SliceData(old))), uintptr(unsafe.Pointer(&n)),
		uintptr(unsafe.Pointer(unsafe.SliceData(new))), uintptr(len(new)))
	return int(n), errnoErr(errno)
}

// jailSet is jail_set(2). params has names and values by turns. A nil value is a flag.
func jailSet(flags int, params ...[]byte) (int, error) {
	iov := make([]unix.Iovec, len(params))
	for i, p := range params {
		iov[i].Base = unsafe.SliceData(p)
		iov[i].SetLen(len(p))
	}
	r, _, errno := unix.Syscall(unix.SYS_JAIL_SET, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)),
		uintptr(flags))
	return int(r), errnoErr(errno)
}

type pollfd struct {
	fd      int32
	events  int16
	revents int16
}

func poll(fd int, events int16, ms int) (int16, error) {
	p := pollfd{fd: int32(fd), events: events}
	_, _, errno := unix.Syscall(unix.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(ms))
	return p.revents, errnoErr(errno)
}

// Levels and things of cpuset_setaffinity(2).
const (
	levelCPUSet  = 2 // CPU_LEVEL_CPUSET
	levelWhich   = 3 // CPU_LEVEL_WHICH
	whichThread  = 1 // CPU_WHICH_TID
	whichProcess = 2 // CPU_WHICH_PID
	whichCPUSet  = 3 // CPU_WHICH_CPUSET
)

// setAffinity is cpuset_setaffinity(2) with a mask of the given processors. It is for 64-bit
// programs. Other programs pass arguments of 64 bits differently.
func setAffinity(level, which uintptr, id int, cpus ...int) error {
	var set [128]byte
	for _, cpu := range cpus {
		set[cpu/8] |= 1 << (cpu % 8)
	}
	return affinity(unix.SYS_CPUSET_SETAFFINITY, level, which, id, &set)
}

// getAffinity is cpuset_getaffinity(2), for 64-bit programs too.
func getAffinity(level, which uintptr, id int) (cpus []int, err error) {
	var set [128]byte
	if err := affinity(unix.SYS_CPUSET_GETAFFINITY, level, which, id, &set); err != nil {
		return nil, err
	}
	for cpu := range 8 * len(set) {
		if set[cpu/8]>>(cpu%8)&1 != 0 {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

func affinity(call, level, which uintptr, id int, set *[128]byte) error {
	var errno unix.Errno
	for _, n := range []uintptr{32, 128} { // sizeof(cpuset_t), to 13 and since 14
		_, _, errno = unix.Syscall6(call, level, which, uintptr(id), n, uintptr(unsafe.Pointer(&set[0])),
			0)
		if errno != unix.ERANGE {
			break
		}
	}
	return errnoErr(errno)
}

// Pin keeps the calling thread on the given processors. In a 32-bit program it does nothing.
func Pin(cpus ...int) error {
	if unsafe.Sizeof(uintptr(0)) == 4 {
		return nil
	}
	return setAffinity(levelWhich, whichThread, -1, cpus...)
}

// kenv is kenv(2) of one name, "" if there is none of it.
func kenv(name string) (string, error) {
	const get = 0 // KENV_GET
	key, err := unix.BytePtrFromString(name)
	if err != nil {
		return "", err
	}
	var value [128]byte
	n, _, e := unix.Syscall6(unix.SYS_KENV, get, uintptr(unsafe.Pointer(key)),
		uintptr(unsafe.Pointer(&value[0])), uintptr(len(value)), 0, 0)
	if e == unix.ENOENT {
		return "", nil
	}
	if e != 0 {
		return "", e
	}
	return unix.ByteSliceToString(value[:n]), nil
}

func errnoErr(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// Fork is fork(2). The child does nothing until it is killed.
//
// The child runs no other Go code, because only the calling thread exists in it.
//
//go:nosplit
func Fork() (pid int, err error) {
	r, _, errno := unix.RawSyscall(unix.SYS_FORK, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	for r == 0 {
		unix.RawSyscall(unix.SYS_POLL, 0, 0, ^uintptr(0))
	}
	return int(r), nil
}
