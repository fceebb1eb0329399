//go:build freebsd

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// The guest's end of QEMU's user network. The address is slirp's default.
const nic = "vtnet0"

var guestAddr = &net.IPNet{IP: net.IPv4(10, 0, 2, 15), Mask: net.CIDRMask(24, 32)}

// linkSettings are sysctls of the network stack that has the card.
var linkSettings = map[string]string{
	// slirp waits for each acknowledgement. A delayed one stops the stream for 100 ms.
	"net.inet.tcp.delayed_ack": "0",
	// slirp has no window scaling, so the window is 64 KiB at most. The kernel's smallest window
	// update is a quarter of the receive buffer. If the buffer grows beyond 256 KiB, no update is
	// as large as that, and the stream stops for good.
	"net.inet.tcp.recvbuf_auto": "0",
}

// connect reaches the host through the network card. The card is in a separate network stack (a
// jail with vnet). So programs under test see a machine with lo0 alone, and can't cut the
// connection to the host. A socket keeps the stack in which it was made: a child joins the jail,
// connects, and passes the socket to its parent.
func connect(addr string) (net.Conn, error) {
	jid, err := vnetJail()
	if err != nil {
		return nil, err
	}
	if err := moveToJail(nic, jid); err != nil {
		return nil, err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	syscall.CloseOnExec(pair[0])
	pid, err := syscall.ForkExec(os.Args[0], []string{"agent", "call", strconv.Itoa(jid), addr},
		&syscall.ProcAttr{
			Files: []uintptr{0, 1, 2, uintptr(pair[1])},
		})
	syscall.Close(pair[1])
	if err != nil {
		return nil, fmt.Errorf("start the caller: %w", err)
	}
	var ws syscall.WaitStatus
	oob := make([]byte, 64)
	var b [1]byte
	_, n, _, _, rerr := syscall.Recvmsg(pair[0], b[:], oob, 0)
	syscall.Close(pair[0])
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
		return nil, fmt.Errorf("wait for the caller: %w", err)
	}
	if rerr != nil || n == 0 {
		return nil, errors.New("the caller did not reach the host")
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) == 0 {
		return nil, fmt.Errorf("socket from the caller: %v", err)
	}
	fds, err := syscall.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return nil, fmt.Errorf("socket from the caller: %v", err)
	}
	syscall.CloseOnExec(fds[0])
	f := os.NewFile(uintptr(fds[0]), "host")
	defer f.Close()
	return net.FileConn(f)
}

// vnetJail makes the jail that has the network card.
func vnetJail() (int, error) {
	const create, vnetNew = 1, 1 // JAIL_CREATE, JAIL_SYS_NEW
	jid, err := iovCall(syscall.SYS_JAIL_SET, create, []param{
		strParam("name", "vmtest"),
		strParam("path", "/"),
		{"vnet", binary.NativeEndian.AppendUint32(nil, vnetNew)},
		{"persist", nil},
	})
	if err != nil {
		return 0, fmt.Errorf("make a jail with its own network stack (the kernel needs VIMAGE): %w", err)
	}
	return jid, nil
}

// call runs the child's part of connect.
func call(args []string) error {
	jid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_JAIL_ATTACH, uintptr(jid), 0, 0); errno != 0 {
		return fmt.Errorf("join jail %d: %w", jid, errno)
	}
	for name, value := range linkSettings {
		if err := setSysctl(name, value); err != nil {
			return err
		}
	}
	if err := addAddress(nic, guestAddr); err != nil {
		return err
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	c, err := d.Dial("tcp4", args[1])
	if err != nil {
		return err
	}
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	const inherited = 3
	return syscall.Sendmsg(inherited, []byte{0}, syscall.UnixRights(int(f.Fd())), nil, 0)
}

// nextJail returns the number of the first jail after last.
func nextJail(last int) (int, error) {
	return iovCall(syscall.SYS_JAIL_GET, 0, []param{
		{"lastjid", binary.NativeEndian.AppendUint32(nil, uint32(last))},
	})
}
