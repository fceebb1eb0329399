package bpf_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/filter"
)

// ipv4 is a UDP packet to an address and a port, behind a link header.
func ipv4(link string, to string, port uint16) []byte {
	p := append([]byte(link), "\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x01\x02\x03"...)
	p = append(p, netip.MustParseAddr(to).AsSlice()...)
	return append(p, 0x30, 0x39, byte(port>>8), byte(port), 0, 8, 0, 0)
}

const etherIPv4 = "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00"

// attaching is a kernel that shows a packet as soon as an interface is attached, and after each
// request until Open has returned.
type attaching struct {
	zbuf.System
	show func()
}

type attachingBackend struct {
	*bpftest.Descriptor
	show     func()
	attached bool
}

func (a attaching) Open() (zbuf.Backend, error) {
	b, err := a.System.Open()
	if err != nil {
		return nil, err
	}
	return &attachingBackend{Descriptor: b.(*bpftest.Descriptor), show: a.show}, nil
}

func (b *attachingBackend) Ioctl(req zbuf.Request, arg any) error {
	err := b.Descriptor.Ioctl(req, arg)
	b.attached = b.attached || req == zbuf.BIOCSETIF
	if b.attached {
		b.show()
	}
	return err
}

// An expression is in force from the first packet on, for the link type and the netmask in force.
func TestExpressionsFilterFromTheFirstPacketOn(t *testing.T) {
	ether := func(to string, port uint16) []byte { return ipv4(etherIPv4, to, port) }
	wlan := ipv4("\x08"+strings.Repeat("\x00", 23)+"\xaa\xaa\x03\x00\x00\x00\x08\x00", "10.1.2.4", 53)
	for name, c := range map[string]struct {
		expression string
		dlt        uint32
		packets    [][]byte
		want       []int
	}{
		"a port": {"udp port 53", zbuf.DLT_EN10MB, [][]byte{ether("10.1.2.4", 54), ether("10.1.2.4", 53)},
			[]int{1}},
		"space alone passes everything": {" ", zbuf.DLT_EN10MB, [][]byte{ether("10.1.2.4", 1)}, []int{0}},
		"the interface's netmask": {"ip broadcast", zbuf.DLT_EN10MB, [][]byte{ether("10.1.2.255", 1),
			ether("10.1.3.255", 1), ether("10.1.2.4", 1), ether("255.255.255.255", 1)}, []int{1, 3}},
		"the link type asked for": {"port 53", zbuf.DLT_IEEE802_11, [][]byte{ether("10.1.2.4", 53), wlan},
			[]int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New(zerocopyOn(true))
			em0 := k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(zbuf.DLT_IEEE802_11, 24),
				bpftest.Netmask(0xfffffe00))
			early := 0
			r, err := bpf.Open("em0", bpf.Config{
				System: attaching{k, func() {
					early++
					em0.Receive(c.packets[0])
				}},
				Expression: c.expression, LinkTypes: []uint32{c.dlt}, Immediate: true,
			})
			require.NoError(t, err)
			defer r.Close()
			require.Greater(t, early, 3)
			if c.want[0] != 0 {
				stats, err := r.Stats()
				require.NoError(t, err)
				require.Positive(t, stats.Received, "packets were seen during Open")
			} else {
				require.NoError(t, r.Flush())
			}
			for _, p := range c.packets {
				em0.Inject(bpftest.Packet{Data: p, DLT: c.dlt})
			}
			for _, i := range c.want {
				data, _, err := r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.Equal(t, c.packets[i], data)
			}
		})
	}
}

// The reader does more with an expression than compile it.
func TestSetExpressionReplacesTheFilter(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, Expression: "port 53", SnapLen: 30, Immediate: true})
		next := func() []byte {
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			return data
		}
		dns, ntp := ipv4(etherIPv4, "10.0.0.1", 53), ipv4(etherIPv4, "10.0.0.1", 123)
		w.em0.Receive(ntp)
		w.em0.Receive(dns)
		require.NoError(t, w.r.SetExpression("port 123", false))
		w.em0.Receive(dns)
		w.em0.Receive(ntp)
		assert.Equal(t, dns[:30], next(), "captured before, and at most SnapLen bytes of it")
		assert.Equal(t, ntp[:30], next())

		w.em0.Receive(ntp)
		require.Error(t, w.r.SetExpression("port http", true), "a wrong one changes nothing")
		assert.Equal(t, ntp[:30], next())
		w.em0.Receive(ntp)
		require.NoError(t, w.r.SetExpression("port 53", true))
		w.em0.Receive(dns)
		assert.Equal(t, dns[:30], next(), "what was captured before is discarded")
		require.NoError(t, w.r.SetExpression("", true))
		w.em0.Receive(ntp)
		assert.Equal(t, ntp[:30], next())
		require.NoError(t, w.r.Close())
		assert.ErrorIs(t, w.r.SetExpression("port 53", false), os.ErrClosed)
	})
}

// longExpression has a program of more than 512 instructions.
func longExpression() string {
	var hosts []string
	for i := range 300 {
		hosts = append(hosts, fmt.Sprintf("host 10.%d.%d.7", i/100, i%100*2))
	}
	return strings.Join(hosts, " or ")
}

// Each wrong expression is refused with an error that says what to write, by Open and by
// SetExpression, and Open leaves nothing open.
func TestWrongExpressionsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		expression string
		maxInsns   int32
		says       string
	}{
		"syntax":                     {"host 10.0.0.1 and", 512, "and"},
		"a name":                     {"host gateway.example", 512, "gateway.example"},
		"a direction":                {"inbound and tcp", 512, "set Config.Direction"},
		"a header that is not there": {"rnr 5", 512, "pflog"},
		"too long for every kernel":  {longExpression(), 512, "and the kernel takes 512"},
		"too long for this kernel":   {"tcp port 80", 10, "and the kernel takes 10"},
		"nothing can match":          {"tcp and not tcp", 512, "no packet"},
	} {
		t.Run(name, func(t *testing.T) {
			k := bpftest.New(zerocopyOn(true), bpftest.WithSysctl("net.bpf.maxinsns", c.maxInsns))
			k.AddInterface("em0", zbuf.DLT_EN10MB)
			wrong := func(err error) {
				require.ErrorIs(t, err, bpf.ErrConfig)
				var where *filter.Error
				require.True(t, errors.As(err, &where), "%v", err)
				assert.Equal(t, c.expression, where.Expression)
				assert.Contains(t, err.Error(), c.says)
			}
			_, err := bpf.Open("em0", bpf.Config{System: k, Expression: c.expression})
			wrong(err)
			require.Zero(t, k.OpenCount())
			r, err := bpf.Open("em0", bpf.Config{System: k})
			require.NoError(t, err)
			defer r.Close()
			wrong(r.SetExpression(c.expression, true))
		})
	}
	k := bpftest.New()
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	_, err := bpf.Open("em0", bpf.Config{System: k, Expression: "tcp", Filter: accept(t, 1)})
	require.ErrorIs(t, err, bpf.ErrConfig)
	assert.ErrorContains(t, err, `Expression "tcp": and Filter exclude each other`)
}

// A kernel that takes longer programs gets them.
func TestLongExpressionsNeedAKernelThatTakesThem(t *testing.T) {
	w := newCapture(t, bpf.Config{Expression: longExpression(), Immediate: true},
		bpftest.WithSysctl("net.bpf.maxinsns", 2000))
	want := ipv4(etherIPv4, "10.0.14.7", 53)
	w.em0.Receive(ipv4(etherIPv4, "10.0.15.7", 53))
	w.em0.Receive(want)
	data, _, err := w.r.ReadPacket(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, data)
}
