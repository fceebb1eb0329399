package lab_test

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// An interface of a test has no address for which IPv6 would send packets of its own, also if it is
// the first that the machine gets. The kernel decides that when the interface comes.
func TestIPv6IsQuiet(t *testing.T) {
	w := lab.OnKernel(t)
	const name = "net.inet6.ip6.auto_linklocal"
	if _, err := w.Sysctl(name); errors.Is(err, unix.ENOENT) {
		t.Skip("the kernel has no IPv6")
	}
	quiet := func(t *testing.T, ifname string) {
		i, err := net.InterfaceByName(ifname)
		require.NoError(t, err)
		addrs, err := i.Addrs()
		require.NoError(t, err)
		assert.Empty(t, addrs)
	}
	t.Run("epair", func(t *testing.T) {
		lab.SetSysctl(t, w, name, 1)
		p := lab.NewPair(t, w)
		quiet(t, p.A)
		quiet(t, p.B)
	})
	t.Run("tun", func(t *testing.T) {
		lab.SetSysctl(t, w, name, 1)
		ifname, end, err := w.NewTunnel()
		require.NoError(t, err)
		quiet(t, ifname)
		require.NoError(t, end())
	})
}
