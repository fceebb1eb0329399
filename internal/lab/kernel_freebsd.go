package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// Kernel returns the running kernel, or the reason why tests can't use it.
func Kernel() (World, string) {
	if os.Geteuid() != 0 {
		return nil, "making interfaces needs root"
	}
	return kernel{System: zbuf.Host()}, ""
}

type kernel struct{ zbuf.System }

func (kernel) Name() string { return "kernel" }

func (kernel) OpenMode(flags int) (Desc, error) {
	fd, err := unix.Open("/dev/bpf", flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	b, err := zbuf.NewHostBackend(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	if flags&unix.O_NONBLOCK == 0 {
		if err := unix.SetNonblock(fd, false); err != nil {
			b.Close()
			return nil, err
		}
	}
	return &descriptor{Backend: b, fd: fd}, nil
}

type descriptor struct {
	zbuf.Backend
	fd int
}

// FD returns the descriptor's number, for tests that need a kernel.
func (d *descriptor) FD() int { return d.fd }

func (d *descriptor) Poll(events int16, timeout time.Duration) (int16, error) {
	for {
		r, err := poll(d.fd, events, int(timeout.Milliseconds()))
		if err != unix.EINTR {
			return r, err
		}
	}
}

func (d *descriptor) Watch(filters ...int16) (Queue, error) {
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, err
	}
	add := make([]unix.Kevent_t, len(filters))
	for i, f := range filters {
		unix.SetKevent(&add[i], d.fd, int(f), unix.EV_ADD|unix.EV_CLEAR)
	}
	if _, err := unix.Kevent(kq, add, nil, nil); err != nil {
		unix.Close(kq)
		return nil, err
	}
	return queue(kq), nil
}

// queue is the descriptor of a kqueue.
type queue int

func (q queue) Wait(timeout time.Duration) ([]bpftest.Edge, error) {
	var events [4]unix.Kevent_t
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(timeout.Nanoseconds())
		ts = &t
	}
	n, err := unix.Kevent(int(q), nil, events[:], ts)
	if err != nil && err != unix.EINTR {
		return nil, err
	}
	var edges []bpftest.Edge
	for _, k := range events[:max(n, 0)] {
		edges = append(edges, bpftest.Edge{Filter: int16(k.Filter), Data: int(k.Data)})
	}
	return edges, nil
}

func (q queue) Close() error { return unix.Close(int(q)) }

// OpenHost opens a descriptor and also returns its number, for requests that a Device does not
// make.
func OpenHost() (fd int, d *zbuf.Device, err error) {
	if fd, err = unix.Open("/dev/bpf", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return -1, nil, err
	}
	b, err := zbuf.NewHostBackend(fd)
	if err != nil {
		return -1, nil, errors.Join(err, unix.Close(fd))
	}
	if d, err = zbuf.Adopt(b); err != nil {
		return -1, nil, errors.Join(err, b.Close())
	}
	return fd, d, nil
}

// request makes an interface ioctl with a value in the union of struct ifreq.
func request(req uintptr, ifname string, value uint32) (name string, out uint32, err error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(s)
	var r [32]byte
	copy(r[:unix.IFNAMSIZ-1], ifname)
	binary.NativeEndian.PutUint32(r[16:], value)
	if err := ioctl(s, req, r[:]); err != nil {
		return "", 0, fmt.Errorf("interface request %#x of %s: %w", req, ifname, err)
	}
	n, _, _ := bytes.Cut(r[:unix.IFNAMSIZ], []byte{0})
	return string(n), binary.NativeEndian.Uint32(r[16:]), nil
}

// Create makes an interface of a kind ("epair", "tap", "bridge", "lo") and returns its name.
//
// Without a link-local address there is no duplicate address detection, and so no packet of it. The
// kernel decides when it makes the interface whether it will have one.
func Create(kind string) (string, error) {
	if err := setSysctl("net.inet6.ip6.auto_linklocal", 0); err != nil &&
		!errors.Is(err, unix.ENOENT) {
		return "", err
	}
	name, _, err := request(unix.SIOCIFCREATE2, kind, 0)
	return name, err
}

func (k kernel) NewPair() (*Pair, error) {
	a, err := Create("epair")
	if err != nil {
		return nil, err
	}
	p := &Pair{World: k, A: a, B: strings.TrimSuffix(a, "a") + "b"}
	for _, ifname := range []string{p.A, p.B} {
		if err := k.SetUp(ifname, true); err != nil {
			k.Destroy(p.A)
			return nil, err
		}
	}
	if err := p.Watch(); err != nil {
		p.Close()
		k.Destroy(p.A)
		return nil, err
	}
	return p, nil
}

func (k kernel) NewTunnel() (string, func() error, error) {
	name, err := Create("tun")
	if err != nil {
		return "", nil, err
	}
	fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = k.SetUp(name, true)
	}
	if err != nil {
		return "", nil, errors.Join(err, k.Destroy(name))
	}
	return name, func() error { return errors.Join(unix.Close(fd), k.Destroy(name)) }, nil
}

func (kernel) Destroy(ifname string) error {
	_, _, err := request(unix.SIOCIFDESTROY, ifname, 0)
	return err
}

func (kernel) Rename(ifname, to string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	var name [unix.IFNAMSIZ]byte
	copy(name[:len(name)-1], to)
	return ioctlData(s, unix.SIOCSIFNAME, ifname, name[:])
}

func (kernel) SetUp(ifname string, up bool) error {
	_, flags, err := request(unix.SIOCGIFFLAGS, ifname, 0)
	if err != nil {
		return err
	}
	flags &^= unix.IFF_UP
	if up {
		flags |= unix.IFF_UP
	}
	_, _, err = request(unix.SIOCSIFFLAGS, ifname, flags)
	return err
}

func (kernel) SetMTU(ifname string, mtu int) error {
	_, _, err := request(unix.SIOCSIFMTU, ifname, uint32(mtu))
	return err
}

func (kernel) Leave(ifname string) (func() error, error) {
	const create, vnetNew = 1, 1 // JAIL_CREATE, JAIL_SYS_NEW
	value := binary.NativeEndian.AppendUint32(nil, vnetNew)
	jid, err := jailSet(create,
		[]byte("path\x00"), []byte("/\x00"),
		[]byte("vnet\x00"), value,
		[]byte("persist\x00"), nil)
	if err != nil {
		return nil, fmt.Errorf("jail_set: %w", err)
	}
	if _, _, err := request(unix.SIOCSIFVNET, ifname, uint32(jid)); err != nil {
		return nil, errors.Join(err, removeJail(jid))
	}
	return func() error {
		_, _, err := request(unix.SIOCSIFRVNET, ifname, uint32(jid))
		return errors.Join(err, removeJail(jid))
	}, nil
}

func removeJail(jid int) error {
	_, _, errno := unix.Syscall(unix.SYS_JAIL_REMOVE, uintptr(jid), 0, 0)
	return errnoErr(errno)
}

func (kernel) Sysctl(name string) (int, error) {
	v, err := unix.SysctlUint32(name)
	return int(int32(v)), err
}

func (kernel) Tunable(name string) (string, error) { return kenv(name) }

func (kernel) SetSysctl(name string, v int) error { return setSysctl(name, v) }

func setSysctl(name string, v int) error {
	mib, err := mibOf(name)
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	_, err = rawSysctl(mib, nil, binary.NativeEndian.AppendUint32(nil, uint32(v)))
	return err
}

func mibOf(name string) ([]int32, error) {
	var out [24 * 4]byte
	n, err := rawSysctl([]int32{0, 3}, out[:], []byte(name)) // sysctl.name2oid
	if err != nil {
		return nil, err
	}
	var mib []int32
	for i := 0; i+4 <= n; i += 4 {
		mib = append(mib, int32(binary.NativeEndian.Uint32(out[i:])))
	}
	return mib, nil
}

var statsMIB = sync.OnceValues(func() ([]int32, error) { return mibOf("net.bpf.stats") })

func (kernel) Stats(p []byte) (int, error) {
	mib, err := statsMIB()
	if err != nil {
		return 0, err
	}
	n, err := rawSysctl(mib, p, nil)
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (k kernel) Listeners() ([]zbuf.XbpfD, error) {
	buf := make([]byte, 64*SizeofListener)
	n, err := k.Stats(buf)
	return listeners(buf[:n]), err
}

func (kernel) SetStats(p []byte) error {
	mib, err := statsMIB()
	if err != nil {
		return err
	}
	_, err = rawSysctl(mib, nil, p)
	return err
}

// system names the kernel that a test runs on, as uname(1) -smr and -i do.
func system() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	ident, err := unix.Sysctl("kern.ident")
	if err != nil {
		ident = err.Error()
	}
	s := fmt.Sprintf("%s %s %s %s", unix.ByteSliceToString(u.Sysname[:]),
		unix.ByteSliceToString(u.Release[:]),
		unix.ByteSliceToString(u.Machine[:]), ident)
	if runtime.GOARCH != "amd64" {
		s += ", a program for " + runtime.GOARCH
	}
	return s
}

// AddAddress gives an interface an IPv4 address with its netmask. The kernel then brings it up.
func AddAddress(name string, addr netip.Prefix) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	const aifaddr = 0x8044692b // SIOCAIFADDR, struct ifaliasreq with ifra_vhid
	req := make([]byte, 68)
	copy(req[:unix.IFNAMSIZ-1], name)
	for at, b := range map[int][]byte{16: addr.Addr().AsSlice(), 48: net.CIDRMask(addr.Bits(), 32)} {
		req[at], req[at+1] = unix.SizeofSockaddrInet4, unix.AF_INET
		copy(req[at+4:], b)
	}
	return ioctl(s, aifaddr, req)
}
