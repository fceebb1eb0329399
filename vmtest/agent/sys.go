//go:build freebsd

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
)

// Requests of sys/sockio.h that package syscall lacks on some architectures.
const (
	siocAddAddr  = 0x8044692b // SIOCAIFADDR, struct ifaliasreq with ifra_vhid
	siocIfVnet   = 0xc020695a // SIOCSIFVNET
	siocDestroy  = 0x80206979 // SIOCIFDESTROY
	siocGetFlags = 0xc0206911 // SIOCGIFFLAGS
	siocSetFlags = 0x80206910 // SIOCSIFFLAGS
)

const (
	mntForce = 0x80000 // MNT_FORCE
	ifreqLen = 32      // struct ifreq: 16 bytes of name, 16 of union
)

// param is one name and value of nmount(2) or jail_set(2).
type param struct {
	name  string
	value []byte
}

func strParam(name, value string) param { return param{name, append([]byte(value), 0)} }

func mount(fstype, path string) error {
	_, err := iovCall(syscall.SYS_NMOUNT, 0, []param{strParam("fstype", fstype),
		strParam("fspath", path)})
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, path, err)
	}
	return nil
}

func unmount(path string) error {
	if _, err := pathCall(syscall.SYS_UNMOUNT, path, mntForce); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// mounts returns the mount points, oldest first.
func mounts() ([]string, error) {
	const noWait = 2 // MNT_NOWAIT
	n, err := syscall.Getfsstat(nil, noWait)
	if err != nil {
		return nil, fmt.Errorf("getfsstat: %w", err)
	}
	buf := make([]syscall.Statfs_t, n+8)
	if n, err = syscall.Getfsstat(buf, noWait); err != nil {
		return nil, fmt.Errorf("getfsstat: %w", err)
	}
	var out []string
	for _, s := range buf[:n] {
		b := make([]byte, 0, len(s.Mntonname))
		for _, c := range s.Mntonname {
			b = append(b, byte(c))
		}
		out = append(out, cstring(b))
	}
	return out, nil
}

// withSocket runs f on a datagram socket. Interface ioctls need one.
func withSocket(f func(fd int) error) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer syscall.Close(fd)
	return f(fd)
}

func ifreq(name string) []byte {
	b := make([]byte, ifreqLen)
	copy(b[:15], name)
	return b
}

func destroyInterface(name string) error {
	return withSocket(func(fd int) error {
		if err := ioctl(fd, siocDestroy, ifreq(name)); err != nil {
			return fmt.Errorf("destroy %s: %w", name, err)
		}
		return nil
	})
}

// moveToJail moves the interface into a jail's network stack.
func moveToJail(name string, jid int) error {
	return withSocket(func(fd int) error {
		req := ifreq(name)
		binary.NativeEndian.PutUint32(req[16:], uint32(jid))
		if err := ioctl(fd, siocIfVnet, req); err != nil {
			return fmt.Errorf("move %s to jail %d: %w", name, jid, err)
		}
		return nil
	})
}

// addAddress gives an interface an IPv4 address. The kernel then also brings the interface up.
func addAddress(name string, addr *net.IPNet) error {
	return withSocket(func(fd int) error {
		req := make([]byte, 68)
		copy(req[:15], name)
		sockaddr := func(at int, ip net.IP) {
			req[at], req[at+1] = 16, syscall.AF_INET
			copy(req[at+4:], ip.To4())
		}
		sockaddr(16, addr.IP)
		sockaddr(48, net.IP(addr.Mask))
		if err := ioctl(fd, siocAddAddr, req); err != nil {
			return fmt.Errorf("address %v on %s: %w", addr, name, err)
		}
		return nil
	})
}

func interfaceUp(name string) error {
	return withSocket(func(fd int) error {
		req := ifreq(name)
		if err := ioctl(fd, siocGetFlags, req); err != nil {
			return fmt.Errorf("flags of %s: %w", name, err)
		}
		flags := binary.NativeEndian.Uint16(req[16:])
		binary.NativeEndian.PutUint16(req[16:], flags|syscall.IFF_UP)
		if err := ioctl(fd, siocSetFlags, req); err != nil {
			return fmt.Errorf("bring %s up: %w", name, err)
		}
		return nil
	})
}

func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
