package sysctltest

import (
	"encoding/binary"
	"syscall"

	"github.com/zbuf-go/zbuf/sysctl"
)

// Kernel has the sysctls of a model of bpf(4). bpftest.Kernel implements it.
type Kernel interface {
	ReadSysctl(name string, p []byte) (int, error)
	WriteSysctl(name string, value []byte) error
}

// BPF returns the sysctls net.bpf.* of a model, with the types that FreeBSD 12.1 gives them.
func BPF(k Kernel) []Var {
	vars := []Var{
		{Name: "net.bpf.maxinsns", Description: "Longest filter program, in instructions"},
		{Name: "net.bpf.zerocopy_enable", Description: "Whether descriptors may go into zero-copy mode"},
		{Name: "net.bpf.stats", Type: sysctl.CTLTYPE_NODE, Fmt: "N", Description: "The descriptors that have an interface"},
		{Name: "net.bpf.optimize_writers", Flags: sysctl.CTLFLAG_VNET, Description: "Whether a descriptor receives nothing until it has a filter"},
		{Name: "net.bpf.bufsize", Description: "Bytes of a buffer unless set"},
		{Name: "net.bpf.maxbufsize", Description: "Most bytes of a buffer"},
	}
	for i := range vars {
		v := &vars[i]
		if v.Type == 0 {
			v.Type, v.Fmt = sysctl.CTLTYPE_INT, "I"
		}
		v.Flags |= sysctl.CTLFLAG_RW
		v.Write = func(value []byte) error { return k.WriteSysctl(v.Name, value) }
		v.Read = func([]int32) ([]byte, error) {
			for {
				n, err := k.ReadSysctl(v.Name, nil)
				if err != nil {
					return nil, err
				}
				b := make([]byte, n)
				if n, err = k.ReadSysctl(v.Name, b); err != syscall.ENOMEM {
					return b[:n], err
				}
			}
		}
	}
	return vars
}

// Processes returns kern.proc.pid. Its value is the struct kinfo_proc of FreeBSD/amd64, with the
// size, the process id and the name of the program (up to 19 bytes). The other fields are 0. Read
// returns ESRCH for a process that name does not know.
func Processes(name func(pid int) (program string, ok bool)) Var {
	return Var{
		Name: "kern.proc.pid", Type: sysctl.CTLTYPE_NODE, Flags: sysctl.CTLFLAG_RD, Fmt: "N",
		Description: "One process",
		Read: func(args []int32) ([]byte, error) {
			if len(args) != 1 {
				return nil, syscall.EINVAL
			}
			program, ok := name(int(args[0]))
			if !ok {
				return nil, syscall.ESRCH
			}
			b := make([]byte, 1088)
			binary.NativeEndian.PutUint32(b, uint32(len(b)))
			binary.NativeEndian.PutUint32(b[72:], uint32(args[0]))
			copy(b[447:][:19], program)
			return b, nil
		},
	}
}
