package main

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/net/route"
)

// joinAgentsNetwork does what any program may do here that is root: it moves into the jail with the network card, and sends all
// that is not for its network to the host.
func joinAgentsNetwork() error {
	joined := false
	for jid := uintptr(1); jid <= 16 && !joined; jid++ {
		_, _, errno := syscall.Syscall(syscall.SYS_JAIL_ATTACH, jid, 0, 0)
		joined = errno == 0
	}
	if !joined {
		return fmt.Errorf("there is no jail to attach to")
	}
	any, gateway := &route.Inet4Addr{}, &route.Inet4Addr{IP: [4]byte{10, 0, 2, 2}}
	msg := route.RouteMessage{
		Version: syscall.RTM_VERSION, Type: syscall.RTM_ADD, Flags: syscall.RTF_UP | syscall.RTF_GATEWAY | syscall.RTF_STATIC,
		ID: uintptr(os.Getpid()), Seq: 1, Addrs: []route.Addr{any, gateway, any},
	}
	b, err := msg.Marshal()
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_ROUTE, syscall.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, b)
	return err
}
