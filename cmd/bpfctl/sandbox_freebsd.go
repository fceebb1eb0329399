package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/bpf"
)

func capEnter() error { return os.NewSyscallError("cap_enter", unix.CapEnter()) }

// tried tries what the sandbox forbids, and says what happened. Capability mode lets a process make
// a socket, but not reach anyone through it.
func tried(all []*bpf.Reader) string {
	_, open := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	text := fmt.Sprintf("open: %v", open)
	for _, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
		s, err := unix.Socket(unix.AF_INET, kind, 0)
		if err == nil {
			err = fmt.Errorf("bind: %v; connect: %v; sendto: %v", unix.Bind(s, to), unix.Connect(s, to),
				unix.Sendto(s, nil, 0, to))
			unix.Close(s)
		}
		text += fmt.Sprintf("; socket %d: %v", kind, err)
	}
	for _, r := range all {
		text += fmt.Sprintf("; BIOCSETF: %v; BIOCSETFNR: %v", r.SetFilter(nil, true),
			r.SetFilter(nil, false))
	}
	return text
}
