package clients

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/packet"
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
)

// onWires runs f with a pair of interfaces of the running kernel, in each buffer mode that it has.
func onWires(t *testing.T, f func(t *testing.T, p *lab.Pair, mode bpf.Mode)) {
	w := lab.OnKernel(t)
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			if mode == bpf.ZeroCopy {
				lab.WantZeroCopy(t, w)
			}
			f(t, lab.NewPair(t, w), mode)
		})
	}
}

func listen(
	t *testing.T, name string, typ packet.Type, protocol int, mode bpf.Mode,
) (*net.Interface, *packet.Conn) {
	t.Helper()
	ifi, err := net.InterfaceByName(name)
	require.NoError(t, err)
	c, err := packet.Listen(ifi, typ, protocol, &packet.Config{Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return ifi, c
}

// mdlayher/arp asks for an address, and another client of it answers at the other end.
func TestKernelARPResolves(t *testing.T) {
	asked := netip.MustParseAddr("192.0.2.77") // no interface has it, so no kernel answers
	onWires(t, func(t *testing.T, p *lab.Pair, mode bpf.Mode) {
		clients := map[string]*arp.Client{}
		for name, addr := range map[string]string{p.A: "192.0.2.1/26", p.B: "192.0.2.65/26"} {
			require.NoError(t, lab.AddAddress(name, netip.MustParsePrefix(addr)))
			ifi, conn := listen(t, name, packet.Raw, etherTypeARP, mode)
			c, err := arp.New(ifi, conn)
			require.NoError(t, err)
			clients[name] = c
		}
		here, there := clients[p.A], clients[p.B]
		ended := make(chan error, 1)
		go func() {
			for {
				req, _, err := there.Read()
				if err == nil && req.Operation == arp.OperationRequest && req.TargetIP == asked {
					err = there.Reply(req, there.HardwareAddr(), asked)
				}
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		require.NoError(t, here.SetDeadline(time.Now().Add(lab.Patience)))
		addr, err := here.Resolve(asked)
		require.NoError(t, err)
		assert.Equal(t, there.HardwareAddr(), addr)

		require.NoError(t, here.SetDeadline(time.Now().Add(100*time.Millisecond)))
		_, err = here.Resolve(netip.MustParseAddr("192.0.2.78")) // nobody has it
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		require.NoError(t, here.Close())
		require.NoError(t, there.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
}

// The client of insomniacslk/dhcp gets a lease from the server of insomniacslk/dhcp at the other
// end, and renews it.
func TestKernelDHCPGetsALease(t *testing.T) {
	given, self := net.IPv4(192, 0, 2, 50).To4(), net.IPv4(192, 0, 2, 1).To4()
	onWires(t, func(t *testing.T, p *lab.Pair, mode bpf.Mode) {
		_, conn := listen(t, p.B, packet.Datagram, etherTypeIPv4, mode)
		answer := func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
			kind := dhcpv4.MessageTypeAck
			if m.MessageType() == dhcpv4.MessageTypeDiscover {
				kind = dhcpv4.MessageTypeOffer
			}
			reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind),
				dhcpv4.WithYourIP(given), dhcpv4.WithServerIP(self), dhcpv4.WithLeaseTime(3600),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(self)))
			if assert.NoError(t, err) {
				_, err = conn.WriteTo(reply.ToBytes(), peer)
				assert.NoError(t, err)
			}
		}
		server, err := server4.NewServer("", nil, answer,
			server4.WithConn(nclient4.NewBroadcastUDPConn(conn, &net.UDPAddr{Port: 67})))
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- server.Serve() }()

		ifi, conn := listen(t, p.A, packet.Datagram, etherTypeIPv4, mode)
		client, err := nclient4.NewWithConn(
			nclient4.NewBroadcastUDPConn(conn, &net.UDPAddr{Port: 68}), ifi.HardwareAddr)
		require.NoError(t, err)
		lease, err := client.Request(t.Context())
		require.NoError(t, err)
		assert.Equal(t, given, lease.ACK.YourIPAddr.To4())
		assert.Equal(t, self, lease.ACK.ServerIdentifier().To4())
		assert.Equal(t, ifi.HardwareAddr, lease.ACK.ClientHWAddr)
		assert.Equal(t, time.Hour, lease.ACK.IPAddressLeaseTime(0))
		renewed, err := client.Renew(t.Context(), lease)
		require.NoError(t, err)
		assert.Equal(t, given, renewed.ACK.YourIPAddr.To4())

		require.NoError(t, client.Close())
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
}
