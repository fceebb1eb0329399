package packet

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"sync"
	"syscall"

	"github.com/zbuf-go/zbuf"
)

// JoinGroup makes the interface accept frames to an Ethernet multicast address. A group that was
// joined twice must be left twice. Close leaves all groups of the Conn. If a program ends without
// Close, its groups stay.
//
// The kernel has a list of addresses for each interface, and does not count who has added them. The
// Conns of a process on one [Config].System count together. Two programs with this package do not:
// a group ends when the program that joined first leaves it. JoinGroup and LeaveGroup never change
// the groups that the kernel's own protocols have joined. The groups of an interface end if it is
// destroyed or moves to another vnet.
//
// JoinGroup does not change what the Conn reads. Its protocol and its filter decide that.
//
// Errors are a net.OpError. In it are:
//   - EINVAL: group has no 6 bytes.
//   - net.ErrClosed after Close.
//   - ENXIO: the interface has gone, or has another name now.
//   - Those of [zbuf.Open] and [zbuf.Device.AddMulticast] but EADDRINUSE, such as EPERM or
//     EADDRNOTAVAIL.
func (c *Conn) JoinGroup(group net.HardwareAddr) error {
	return c.changeGroup(group, c.join)
}

// LeaveGroup ends what JoinGroup began. If the Conn has not joined the group, LeaveGroup does
// nothing.
//
// Errors are a net.OpError. In it are:
//   - EINVAL: group has no 6 bytes.
//   - net.ErrClosed after Close.
//   - Those of [zbuf.Device.DeleteMulticast] but ENOENT and ENXIO, such as EPERM.
func (c *Conn) LeaveGroup(group net.HardwareAddr) error {
	return c.changeGroup(group, c.leave)
}

func (c *Conn) changeGroup(group net.HardwareAddr, change func([addressLength]byte) error) error {
	if len(group) != addressLength {
		return c.opError(opSetsockopt, fmt.Errorf("%w: group %s has %d bytes: want %d",
			syscall.EINVAL, group, len(group), addressLength))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return c.opError(opSetsockopt, errClosed)
	}
	return c.opError(opSetsockopt, change([addressLength]byte(group)))
}

// A grouping has the groups that a Conn has joined. The requests have a descriptor of their own,
// dev, because they stop the read timeout of theirs.
type grouping struct {
	dev    *zbuf.Device
	index  int
	joined map[[addressLength]byte]int
}

// join is called with mu held, as are leave and leaveGroups.
func (c *Conn) join(group [addressLength]byte) error {
	if c.groups == nil {
		dev, err := c.second()
		if err != nil {
			return err
		}
		index, err := dev.InterfaceIndex()
		if err != nil {
			return errors.Join(err, dev.Close())
		}
		c.groups = &grouping{dev: dev, index: index, joined: map[[addressLength]byte]int{}}
	}
	g := c.groups
	if g.joined[group] == 0 {
		if err := c.entry(group).join(g.dev); err != nil {
			return err
		}
	}
	g.joined[group]++
	return nil
}

func (c *Conn) leave(group [addressLength]byte) error {
	g := c.groups
	if g == nil || g.joined[group] == 0 {
		return nil
	}
	g.joined[group]--
	if g.joined[group] > 0 {
		return nil
	}
	delete(g.joined, group)
	return c.entry(group).leave(g.dev)
}

func (c *Conn) leaveGroups() error {
	if c.groups == nil {
		return nil
	}
	var errs []error
	for group := range c.groups.joined {
		errs = append(errs, c.entry(group).leave(c.groups.dev))
	}
	return errors.Join(append(errs, c.groups.dev.Close())...)
}

// An entry is one address on one interface of one system.
type entry struct {
	system any
	index  int
	group  [addressLength]byte
}

func (c *Conn) entry(group [addressLength]byte) entry {
	e := entry{c.sys, c.groups.index, group}
	if !reflect.ValueOf(c.sys).Comparable() {
		e.system = c // what can't be compared is shared with nobody
	}
	return e
}

// A membership is an entry that Conns of this process have joined.
type membership struct {
	holders map[*zbuf.Device]bool
	ours    bool // this process has added it to the kernel's list
}

var memberships = struct {
	sync.Mutex
	of map[entry]*membership
}{of: map[entry]*membership{}}

func (e entry) join(dev *zbuf.Device) error {
	memberships.Lock()
	defer memberships.Unlock()
	m := memberships.of[e]
	if m == nil {
		m = &membership{holders: map[*zbuf.Device]bool{}}
	}
	// A new interface may have the index of one that has gone.
	maps.DeleteFunc(m.holders, func(d *zbuf.Device, _ bool) bool { return d.Detached() })
	m.ours = m.ours && len(m.holders) > 0
	switch err := dev.AddMulticast(e.group); {
	case err == nil:
		m.ours = true
	case !errors.Is(err, syscall.EADDRINUSE):
		return err
	}
	m.holders[dev] = true
	memberships.of[e] = m
	return nil
}

func (e entry) leave(dev *zbuf.Device) error {
	memberships.Lock()
	defer memberships.Unlock()
	m := memberships.of[e]
	if m == nil || !m.holders[dev] {
		return nil
	}
	delete(m.holders, dev)
	if len(m.holders) > 0 {
		return nil
	}
	delete(memberships.of, e)
	if !m.ours {
		return nil
	}
	err := dev.DeleteMulticast(e.group)
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENOENT) {
		return nil // the interface has gone or moved, and its list with it, or somebody was faster
	}
	return err
}
