package packet_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/packet"
)

// Multicast addresses that no protocol uses.
var (
	someGroup  = net.HardwareAddr{0x01, 0x23, 0x45, 0x67, 0x89, 0xab}
	otherGroup = net.HardwareAddr{0x01, 0x23, 0x45, 0x67, 0x89, 0xac}
)

// requireGroups fails unless an end has these of the groups of the tests.
func (w *wire) requireGroups(t testing.TB, at int, want ...net.HardwareAddr) {
	t.Helper()
	list, err := w.groups(at)
	require.NoError(t, err)
	var got []net.HardwareAddr
	for _, g := range list {
		if g.String() == someGroup.String() || g.String() == otherGroup.String() {
			got = append(got, g)
		}
	}
	require.ElementsMatch(t, want, got)
}

// anotherProgram returns a descriptor that knows nothing of the Conns.
func (w *wire) anotherProgram(t testing.TB, at int) *zbuf.Device {
	t.Helper()
	d, err := zbuf.OpenOn(w.sys)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	require.NoError(t, d.SetInterface(w.ifi[at].Name))
	return d
}

func groupTwice(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	w.requireGroups(t, 0)
	for range 2 {
		require.NoError(t, a.JoinGroup(someGroup))
		w.requireGroups(t, 0, someGroup)
	}
	w.requireGroups(t, 1)
	require.NoError(t, a.JoinGroup(otherGroup))
	require.NoError(t, a.LeaveGroup(someGroup))
	w.requireGroups(t, 0, someGroup, otherGroup)
	for range 2 { // the last one does nothing
		require.NoError(t, a.LeaveGroup(someGroup))
		w.requireGroups(t, 0, otherGroup)
	}
	require.NoError(t, b.LeaveGroup(otherGroup), "it has never joined any")
	require.NoError(t, a.LeaveGroup(otherGroup))
	w.requireGroups(t, 0)
	require.NoError(t, a.JoinGroup(someGroup))
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, b.send(numbered(1, 0)))
	a.requireNext(t, numbered(1, 0))
}

func closeLeavesGroups(t *testing.T, w *wire, typ packet.Type) {
	a, _ := w.ends(t, typ)
	require.NoError(t, a.JoinGroup(someGroup))
	require.NoError(t, a.JoinGroup(someGroup))
	require.NoError(t, a.JoinGroup(otherGroup))
	w.requireGroups(t, 0, someGroup, otherGroup)
	require.NoError(t, a.Close())
	w.requireGroups(t, 0)
}

func groupOfTwoConns(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	other := w.listen(t, 0, typ, experiment, packet.Config{})
	for _, c := range []*end{a, other, b} {
		require.NoError(t, c.JoinGroup(someGroup))
	}
	require.NoError(t, a.Close())
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, other.LeaveGroup(someGroup))
	w.requireGroups(t, 0)
	w.requireGroups(t, 1, someGroup)
}

func groupOfAnother(t *testing.T, w *wire, typ packet.Type) {
	a, _ := w.ends(t, typ)
	program := w.anotherProgram(t, 0)
	require.NoError(t, program.AddMulticast([6]byte(someGroup)))
	require.NoError(t, a.JoinGroup(someGroup))
	require.NoError(t, a.LeaveGroup(someGroup))
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, a.JoinGroup(someGroup))
	require.NoError(t, a.Close())
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, program.DeleteMulticast([6]byte(someGroup)))
	w.requireGroups(t, 0)
}

func groupThatWasDeleted(t *testing.T, w *wire, typ packet.Type) {
	a, _ := w.ends(t, typ)
	other := w.listen(t, 0, typ, experiment, packet.Config{})
	program := w.anotherProgram(t, 0)
	require.NoError(t, program.AddMulticast([6]byte(someGroup)))
	require.NoError(t, a.JoinGroup(someGroup))
	require.NoError(t, program.DeleteMulticast([6]byte(someGroup)))
	w.requireGroups(t, 0)
	require.NoError(t, other.JoinGroup(someGroup))
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, other.LeaveGroup(someGroup))
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, a.LeaveGroup(someGroup))
	w.requireGroups(t, 0)
	require.NoError(t, a.JoinGroup(someGroup))
	require.NoError(t, program.DeleteMulticast([6]byte(someGroup)))
	require.NoError(t, a.LeaveGroup(someGroup), "somebody was faster")
	w.requireGroups(t, 0)
}

func groupErrors(t *testing.T, w *wire, typ packet.Type) {
	a, _ := w.ends(t, typ)
	eight := append(net.HardwareAddr{1, 2}, someGroup...)
	for _, bad := range []struct {
		group net.HardwareAddr
		join  error
		leave error
	}{
		{nil, syscall.EINVAL, syscall.EINVAL},
		{someGroup[:5], syscall.EINVAL, syscall.EINVAL},
		{eight, syscall.EINVAL, syscall.EINVAL},
		{net.HardwareAddr{2, 0, 0, 0, 0, 9}, syscall.EADDRNOTAVAIL, nil},
	} {
		err := a.JoinGroup(bad.group)
		var op *net.OpError
		require.ErrorAs(t, err, &op, bad.group)
		assert.ErrorIs(t, err, bad.join)
		assert.Equal(t, []any{"setsockopt", "packet", a.LocalAddr()}, []any{op.Op, op.Net, op.Addr})
		assert.ErrorIs(t, a.LeaveGroup(bad.group), bad.leave)
	}
	d := w.anotherProgram(t, 0)
	group := [6]byte(someGroup)
	require.NoError(t, d.AddMulticast(group))
	require.ErrorIs(t, d.AddMulticast(group), syscall.EADDRINUSE)
	require.NoError(t, d.DeleteMulticast(group))
	require.ErrorIs(t, d.DeleteMulticast(group), syscall.ENOENT)
	require.NoError(t, d.Close())
	require.ErrorIs(t, d.AddMulticast(group), os.ErrClosed)
	unattached, err := zbuf.OpenOn(w.sys)
	require.NoError(t, err)
	defer unattached.Close()
	require.ErrorIs(t, unattached.AddMulticast(group), syscall.ENXIO)
	require.ErrorIs(t, unattached.DeleteMulticast(group), syscall.ENXIO)
}

// groupsEndWithTheInterface checks what is left when an interface has gone and another one may have
// its name and its number.
func groupsEndWithTheInterface(t *testing.T, w *wire, next func() *wire) {
	old, _ := w.ends(t, packet.Datagram)
	require.NoError(t, old.JoinGroup(someGroup))
	w.requireGroups(t, 0, someGroup)
	w = next()
	w.requireGroups(t, 0)
	require.ErrorIs(t, old.JoinGroup(otherGroup), syscall.ENXIO)
	here, _ := w.ends(t, packet.Datagram)
	require.NoError(t, here.JoinGroup(someGroup))
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, here.LeaveGroup(someGroup))
	w.requireGroups(t, 0)
	require.NoError(t, here.JoinGroup(someGroup))
	require.NoError(t, old.LeaveGroup(someGroup))
	require.NoError(t, old.Close())
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, here.Close())
	w.requireGroups(t, 0)
}

func TestGroupsEndWithTheInterface(t *testing.T) {
	k := bpftest.New()
	groupsEndWithTheInterface(t, modelWireOf(k, bpf.Buffered), func() *wire {
		require.True(t, k.RemoveInterface("em0") && k.RemoveInterface("em1"))
		return modelWireOf(k, bpf.Buffered)
	})
}

// incomparable is a system that is no key of a map.
type incomparable struct {
	zbuf.System
	_ []int
}

func TestGroupsOfASystemThatCannotBeCompared(t *testing.T) {
	w := modelWire(bpf.Buffered)
	w.sys = incomparable{System: w.sys}
	a, _ := w.ends(t, packet.Raw)
	require.NoError(t, a.JoinGroup(someGroup))
	w.requireGroups(t, 0, someGroup)
	require.NoError(t, a.Close())
	w.requireGroups(t, 0)
}

// plain is a system whose backends have only the methods that every backend must have.
type plain struct{ zbuf.System }

func (p plain) Open() (zbuf.Backend, error) {
	b, err := p.System.Open()
	return struct{ zbuf.Backend }{b}, err
}

func TestGroupsOfABackendWithoutMulticast(t *testing.T) {
	w := modelWire(bpf.Buffered)
	w.sys = plain{w.sys}
	a, _ := w.ends(t, packet.Raw)
	require.ErrorIs(t, a.JoinGroup(someGroup), errors.ErrUnsupported)
	require.NoError(t, a.LeaveGroup(someGroup))
	w.requireGroups(t, 0)
}
