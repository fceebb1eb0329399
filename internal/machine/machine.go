// Package machine is what the commands of bpfctl work on: the machine they run on, or a model
// of one.
package machine

import (
	"net"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/sysctl"
)

// Machine has a kernel, sysctls and network interfaces.
type Machine struct {
	BPF        zbuf.System
	Sysctl     sysctl.Tree
	Interfaces func() ([]Interface, error)
	Conf       string // its sysctl.conf(5); a model has none
	Stop       func() // ends what goes on in a model
}

// Interface is a network interface.
type Interface struct {
	Name string
	Up   bool
	MTU  int // bytes without the link header
}

// Host returns the machine that this program runs on.
func Host() *Machine {
	return &Machine{
		BPF: zbuf.Host(), Sysctl: sysctl.Host(), Interfaces: hostInterfaces,
		Conf: "/etc/sysctl.conf", Stop: func() {},
	}
}

func hostInterfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	var list []Interface
	for _, i := range all {
		list = append(list, Interface{i.Name, i.Flags&net.FlagUp != 0, i.MTU})
	}
	return list, err
}

// Listeners returns all listeners, or those on one interface. It fails if there is no such
// interface.
func (m *Machine) Listeners(iface string) ([]sysctl.Listener, error) {
	all, err := m.Sysctl.BPF().Stats()
	if err != nil && all == nil {
		return nil, err // else only the name of a process is missing
	}
	if iface == "" {
		return all, nil
	}
	var some []sysctl.Listener
	for _, l := range all {
		if l.Interface == iface {
			some = append(some, l)
		}
	}
	if len(some) == 0 {
		return nil, m.Attachable(iface)
	}
	return some, nil
}

// Attachable returns the reason why bpf can't listen on an interface, or nil if it can.
func (m *Machine) Attachable(iface string) error {
	d, err := zbuf.OpenOn(m.BPF)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.SetInterface(iface)
}

// PageSize returns the size of a page of memory in bytes.
func (m *Machine) PageSize() (int, error) {
	n, err := m.Sysctl.Int64("hw.pagesize")
	return int(n), err
}
