package filter

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func compiled(t *testing.T, expression string, opt Options) string {
	t.Helper()
	prog, err := Compile(expression, opt)
	require.NoError(t, err)
	return Disassemble(prog)
}

func TestFreeBSDsAddressFamily(t *testing.T) {
	for _, c := range []struct {
		rule string
		opt  Options
		want string
	}{
		{"NULL has 28 in the host's order", Options{LinkType: DLTNull, ByteOrder: binary.LittleEndian},
			"#0x1c000000"},
		{"a big-endian host has the other order", Options{LinkType: DLTNull, ByteOrder: binary.BigEndian},
			"#0x1c "},
		{"LOOP has 28 in network order", Options{LinkType: DLTLoop, ByteOrder: binary.LittleEndian},
			"#0x1c "},
		{"ENC has 28 in the host's order", Options{LinkType: DLTEnc, ByteOrder: binary.LittleEndian},
			"#0x1c000000"},
		{"PFLOG has 28 in a byte", Options{LinkType: DLTPFLog}, "#0x1c "},
		{"another system's number", Options{LinkType: DLTLoop, AFInet6: 30}, "#0x1e "},
	} {
		assert.Contains(t, compiled(t, "ip6", c.opt), "jeq      "+c.want, c.rule)
	}
}

func TestOptionsAreUsed(t *testing.T) {
	assert.Contains(t, compiled(t, "ip", Options{LinkType: DLTEthernet, SnapLen: 96}), "ret      #96")
	mask := compiled(t, "ip broadcast", Options{LinkType: DLTEthernet, Netmask: 0xffffff00})
	assert.Contains(t, mask, "#0xff ", "all ones")
	assert.Contains(t, mask, "and      #0xff", "the host's part")
	assert.Equal(t, "(000) ret      #262144\n", compiled(t, "", Options{}))
}

func TestNamesAreLookedUpOnlyThroughOptions(t *testing.T) {
	names := Names{
		Host: func(name string) ([]netip.Addr, error) {
			if name != "www" {
				return nil, errors.New("not known")
			}
			return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}, nil
		},
		Net:   func(string) (netip.Prefix, error) { return netip.MustParsePrefix("10.0.0.0/8"), nil },
		Ether: func(string) (net.HardwareAddr, error) { return net.HardwareAddr{0, 1, 2, 3, 4, 5}, nil },
		Proto: func(string) (uint8, error) { return 88, nil },
		Port: func(name string) (int, int, error) {
			switch name {
			case "tcponly":
				return 80, -1, nil
			case "udponly":
				return -1, 69, nil
			case "apart":
				return 512, 513, nil
			}
			return 53, 53, nil
		},
	}
	for _, c := range []struct{ named, plain string }{
		{"host www", "host 10.0.0.1 or host 2001:db8::1"},
		{"ip host www", "ip host 10.0.0.1"},
		{"ip6 src www", "ip6 src 2001:db8::1"},
		{"src net mine", "src net 10.0.0.0/8"},
		{"ether host www", "ether host 0:1:2:3:4:5"},
		{"gateway www", "ether host 0:1:2:3:4:5 and not (host 10.0.0.1 or host 2001:db8::1)"},
		{"ip proto eigrp", "ip proto 88"},
		{"port tcponly", "tcp port 80"},
		{"port udponly", "udp port 69"},
		{"port apart", "tcp port 512 or udp port 513"},
		{"port both", "port 53"},
		{"udp port both", "udp port 53"},
		{"portrange tcponly-udponly", "portrange 69-80"},
	} {
		opt := Options{LinkType: DLTEthernet}
		if c.named != "ip host www" {
			_, err := Compile(c.named, opt)
			require.Error(t, err, c.named)
		}
		want := compiled(t, c.plain, opt)
		opt.Names = names
		assert.Equal(t, want, compiled(t, c.named, opt), c.named)
	}
	for _, wrong := range []string{"host other", "udp port tcponly", "tcp port udponly"} {
		_, err := Compile(wrong, Options{LinkType: DLTEthernet, Names: names})
		require.Error(t, err, wrong)
	}
}

func TestOtherLinkTypesHaveLengthAndBytes(t *testing.T) {
	const usb = 186
	_, err := Compile("len > 60 and link[2:2] = 5 and less 1000", Options{LinkType: usb})
	require.NoError(t, err)
	for _, e := range []string{"ip", "host 10.0.0.1", "port 80", "ether host 0:1:2:3:4:5", "vlan",
		"broadcast"} {
		_, err := Compile(e, Options{LinkType: usb})
		require.Error(t, err, e)
	}
}

func TestLongJumps(t *testing.T) {
	// The first test's way out is more than 255 instructions away.
	e := "udp and (" + strings.ReplaceAll(hostsExpression(250), "host",
		"src host") + " or udp port 53) or arp"
	opt := Options{LinkType: DLTEthernet, MaxInstructions: 1 << 16}
	prog, err := Compile(e, opt)
	require.NoError(t, err)
	require.NoError(t, Validate(prog))
	require.Greater(t, len(prog), 260)
	tree, err := Parse(e)
	require.NoError(t, err)
	o := oracleFor(tree, DLTEthernet, 28)
	for _, s := range samplesFor(DLTEthernet, 1, 50, prog) {
		require.Equal(t, o.matches(tree, s), runOn(prog, s))
	}
}

func TestConcurrentUse(t *testing.T) {
	want := compiled(t, "tcp port 80 or host 10.0.0.1", Options{LinkType: DLTEthernet})
	e, err := Parse("tcp port 80 or host 10.0.0.1")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				prog, err := e.Compile(Options{LinkType: DLTEthernet})
				assert.NoError(t, err)
				assert.Equal(t, want, Disassemble(prog))
			}
		})
	}
	wg.Wait()
}
