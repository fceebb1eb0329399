package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestErrorsSayWhereAndWhatToWrite(t *testing.T) {
	for _, c := range []struct {
		expression string
		at         string // the text under the carets
		says       string // part of the message
		write      string // part of the advice
	}{
		{"1.2.3.4", "1.2.3.4", "without saying what it is", "host 1.2.3.4"},
		{"80", "80", "without saying what it is", "port 80"},
		{"fe80::1", "fe80::1", "without saying what it is", "host fe80::1"},
		{"00:11:22:33:44:55", "00:11:22:33:44:55", "without saying what it is", "ether host 00:11"},
		{"TCP", "TCP", "without saying what it is", `"tcp"`},
		{"http", "http", "without saying what it is", "port http"},
		{"tcp or udp4", "udp4", "without saying what it is", `"udp"`},
		{"ip.addr == 10.0.0.1", "ip.addr", "not a field of this language", "ip[8]"},
		{"tcp udp", "udp", "where a condition has ended", "and udp"},
		{"tcp and", "", "ends too early", ""},
		{"and tcp", "and", "nothing on its left", ""},
		{"(tcp or udp", "(", "not closed", ""},
		{"tcp)", ")", "no opening one", ""},
		{"port tcp", "tcp", `a value for "port"`, `\tcp`},
		{"ip proto tcp", "tcp", `a value for "proto"`, `\tcp`},
		{"port 80,443", ",", "means nothing", "or"},
		{"tcp & udp", "&", "works on numbers", "&&"},
		{"net 10/8", "/", "needs a dotted number", "net 10.0.0.0/"},
		{"net 10.0.0.1/8", "10.0.0.1/8", "mask leaves out", "net 10.0.0.0/8"},
		{"net 10.0.0.0/33", "10.0.0.0/33", "32 bits, not 33", ""},
		{"net fe80::1/10", "fe80::1/10", "beyond its first 10", "net fe80::/10"},
		{"host 10.0.0.0/8", "10.0.0.0/8", "only a net has a length", "net 10.0.0.0/8"},
		{"host 10.0.0.256", "10.0.0.256", "not an IPv4 address", ""},
		{"ip host ::1", "::1", "is an IPv6 address", "ip6 host ::1"},
		{"tcp host 1.2.3.4", "1.2.3.4", `"tcp" has no addresses`, "tcp and host 1.2.3.4"},
		{"ip port 80", "80", `"ip" has no ports`, "ip and port 80"},
		{"port 80-90", "80-90", "is a range of ports", "portrange 80-90"},
		{"portrange 80", "", "", ""},
		{"port 70000", "70000", "port 70000 does not exist", ""},
		{"host example", "example", "not looked up", "host 10.0.0.1"},
		{"port https", "https", "not looked up", "port 443"},
		{"ip[0", "", "ends in an index", ""},
		{"ip[0:3] = 1", "3", "1, 2 or 4 bytes", ""},
		{"ip[0]", "", "must be compared", "ip[0] != 0"},
		{"len = 08", "08", "octal", "8"},
		{"len = 4294967296", "4294967296", "does not fit into 32 bits", ""},
		{"len / 0 = 1", "0", "division by zero", ""},
		{"1 << 32 = 0", "32", "leaves nothing of 32 bits", ""},
		{"len = 5 = 5", "=", "two sides", ""},
		{"vlan 4096", "vlan 4096", "VLAN 4096 does not exist", ""},
		{"ether host 1:2:3:4:5:6:7", "1:2:3:4:5:6:7", "neither an Ethernet address", "00:11:22:33:44:55"},
		{"inbound", "inbound", "do not say in which direction", "Config.Direction"},
		{"ifname em0", "ifname em0", "pflog(4)'s packets only", "pflog0"},
		{"type mgt", "type mgt", "a field of 802.11 frames", ""},
		{"ip protochain 6", "6", "no kernel takes", ""},
		{"gateway router", "router", "looked up both", "ether host"},
		{"ip and not ip", "ip and not ip", "no packet of this link type can match", ""},
		{"less foo", "foo", "needs its argument", "less 100"},
		{"esp[0] = 1", "esp[0]", "no bytes to index", ""},
		{"port 80 or (81 or tcp)", "tcp", `a value for "port"`, ""},
		{"$port", "$", "means nothing", "variables of the shell"},
		{`ip proto \`, `\`, "has no word after it", ""},
	} {
		_, err := Compile(c.expression, Options{LinkType: DLTEthernet})
		var e *Error
		if c.expression == "portrange 80" { // one port is a range
			require.NoError(t, err)
			continue
		}
		if !assert.ErrorAs(t, err, &e, c.expression) {
			continue
		}
		assert.Equal(t, c.at, e.Expression[e.Pos:e.End], c.expression)
		assert.Contains(t, e.Problem, c.says, c.expression)
		assert.Contains(t, e.Hint, c.write, c.expression)
	}
}

func TestErrorShowsTheLineWithACaret(t *testing.T) {
	_, err := Compile("tcp port 80\nand host\t1.2.3.4.5 or icmp", Options{LinkType: DLTEthernet})
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Greater(t, len(lines), 2)
	assert.Equal(t, "  and host 1.2.3.4.5 or icmp", lines[1])
	assert.Equal(t, "           ^^^^^^^^^", lines[2])
}

func TestErrorShowsAPartOfALongLine(t *testing.T) {
	for _, at := range []int{0, 20, 100} {
		long := strings.Repeat("icmp or ", at) + "port foo or " + strings.Repeat("udp or ", 100-at)
		_, err := Compile(long+"udp", Options{LinkType: DLTEthernet})
		require.Error(t, err)
		lines := strings.Split(err.Error(), "\n")
		require.Greater(t, len(lines), 2)
		assert.LessOrEqual(t, len(lines[1]), 78)
		caret := strings.IndexByte(lines[2], '^')
		assert.Equal(t, "foo", lines[1][caret:len(lines[2])])
	}
	_, err := Compile("tcp or "+strings.Repeat("x", 200), Options{LinkType: DLTEthernet})
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Greater(t, len(lines), 2)
	assert.Len(t, lines[2], len(lines[1]), "the carets end with the line")
}

func TestTooLongAProgramIsRefusedWithItsLength(t *testing.T) {
	_, err := Compile(hostsExpression(200), Options{LinkType: DLTEthernet})
	require.ErrorContains(t, err, "614 instructions, and the kernel takes 512")
	_, err = Compile(hostsExpression(200), Options{LinkType: DLTEthernet, MaxInstructions: 4096})
	require.NoError(t, err)
}

func TestTooLargeAnExpressionIsRefused(t *testing.T) {
	_, err := Compile(strings.Repeat("ip and ", 1<<18)+"ip", Options{LinkType: DLTEthernet})
	require.ErrorContains(t, err, "more than 1048576 bytes")
	var b strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&b, "ip[%d] = 7 or ", i)
	}
	_, err = Compile(b.String()+"tcp", Options{LinkType: DLTEthernet})
	require.ErrorContains(t, err, "questions")
}

func TestTooDeepAnExpressionIsRefused(t *testing.T) {
	for _, s := range []string{"(", "not ", "- ", "ip["} {
		_, err := Parse(strings.Repeat(s, 100000) + "tcp")
		var e *Error
		require.True(t, errors.As(err, &e), s)
	}
}
