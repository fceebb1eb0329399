package bpf_test

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// expect reads the packets that an expression let through.
func expect(t *testing.T, r *bpf.Reader, want ...[]byte) {
	t.Helper()
	require.NoError(t, r.SetReadDeadline(time.Now().Add(lab.Patience)))
	for _, p := range want {
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		require.Equal(t, p, data)
	}
}

// A capture by expression on each kind of interface picks the packets of DNS.
func TestKernelExpressions(t *testing.T) {
	w := lab.OnKernel(t)
	ether := func(port uint16) []byte { return ipv4(etherIPv4, "10.9.9.9", port) }
	const tagged = "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x81\x00\x00\x05\x08\x00"
	cfg := bpf.Config{Expression: "udp port 53", Immediate: true, HeaderComplete: true}

	t.Run("epair", func(t *testing.T) {
		p := lab.NewPair(t, w)
		r, err := bpf.Open(p.A, cfg)
		require.NoError(t, err)
		defer r.Close()
		p.Inject(t, ether(54), ether(53), ipv4(tagged, "10.9.9.9", 53), ether(52))
		expect(t, r, ether(53))
		require.NoError(t, r.SetExpression("vlan 5 and udp port 53", true))
		p.Inject(t, ether(53), ipv4(tagged, "10.9.9.9", 54), ipv4(tagged, "10.9.9.9", 53))
		expect(t, r, ipv4(tagged, "10.9.9.9", 53))
	})
	t.Run("lo0", func(t *testing.T) {
		require.NoError(t, w.SetUp("lo0", true))
		r, err := bpf.Open("lo0", cfg)
		require.NoError(t, err)
		defer r.Close()
		require.EqualValues(t, zbuf.DLT_NULL, r.LinkType())
		null := string(binary.NativeEndian.AppendUint32(nil, unix.AF_INET))
		for _, port := range []uint16{54, 53} {
			_, err := r.Write(ipv4(null, "127.0.0.1", port))
			require.NoError(t, err)
		}
		require.NoError(t, r.SetReadDeadline(time.Now().Add(lab.Patience)))
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []byte(null), data[:4])
		assert.EqualValues(t, 53, binary.BigEndian.Uint16(data[4+22:]))
	})
	t.Run("tun", func(t *testing.T) {
		tun, err := os.OpenFile("/dev/tun8", os.O_RDWR, 0)
		if err != nil {
			t.Skipf("NOT RUN: this kernel has no tun(4): %v", err)
		}
		defer tun.Close()
		require.NoError(t, w.SetUp("tun8", true))
		r, err := bpf.Open("tun8", cfg)
		require.NoError(t, err)
		defer r.Close()
		for _, port := range []uint16{54, 53} {
			_, err := tun.Write(ipv4("", "10.9.9.9", port))
			require.NoError(t, err)
		}
		null := string(binary.NativeEndian.AppendUint32(nil, unix.AF_INET))
		expect(t, r, ipv4(null, "10.9.9.9", 53))
	})
	t.Run("vlan", func(t *testing.T) {
		p := lab.NewPair(t, w)
		name, err := lab.CreateVLAN(p.A, 5)
		if err != nil {
			t.Skipf("NOT RUN: this kernel has no vlan(4): %v", err)
		}
		defer w.Destroy(name)
		require.NoError(t, w.SetUp(name, true))
		r, err := bpf.Open(name, cfg)
		require.NoError(t, err)
		defer r.Close()
		p.Inject(t, ipv4(tagged, "10.9.9.9", 54), ipv4(tagged, "10.9.9.9", 53))
		expect(t, r, ether(53))
	})
	t.Run("the netmask of the interface", func(t *testing.T) {
		p := lab.NewPair(t, w)
		cfg := cfg
		cfg.Expression = "ip broadcast"
		to := func(dst string) []byte { return ipv4(etherIPv4, dst, 53) }
		packets := [][]byte{to("10.9.8.7"), to("10.9.8.255"), to("10.9.9.254"), to("10.9.15.255"),
			to("10.9.8.128"), to("255.255.255.255")}
		r, err := bpf.Open(p.A, cfg)
		require.NoError(t, err)
		defer r.Close()
		p.Inject(t, packets...)
		expect(t, r, to("255.255.255.255")) // the interface has no address yet
		require.NoError(t, lab.AddAddress(p.A, netip.MustParsePrefix("10.9.8.1/20")))
		require.NoError(t, r.SetExpression("ip broadcast", true))
		for _, frame := range packets { // the system sends ARP of its own
			require.NoError(t, p.Post(p.A, frame))
		}
		expect(t, r, to("10.9.15.255"), to("255.255.255.255"))
	})
}
