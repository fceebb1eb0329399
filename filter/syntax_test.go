package filter

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNormalForm(t *testing.T) {
	for _, c := range []struct{ expression, normal string }{
		{"", ""},
		{"tcp port 80 or 443", "tcp port 80 or tcp port 443"},
		{"not host 1.2.3.4 and 5.6.7.8", "not host 1.2.3.4 and host 5.6.7.8"},
		{"src or dst port ( 80 || 443 )", "port 80 or port 443"},
		{"dst && src 10.0.0.1", "src and dst host 10.0.0.1"},
		{"a and b", ""},
		{"tcp && (udp or arp) and !icmp", "tcp and (udp or arp) and not icmp"},
		{"(tcp and udp) or arp", "tcp and udp or arp"},
		{"tcp and (udp or arp)", "tcp and (udp or arp)"},
		{"ip[0]&0xf!=5", "ip[0] & 15 != 5"},
		{"(1 + 2) * 3 == 9", "(1 + 2) * 3 = 9"},
		{"1 + 2 * 3 = 7", "1 + (2 * 3) = 7"},
		{"tcp [tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[tcpflags] & (tcp-syn | tcp-fin) != 0"},
		{"- len = -5", "- len = - 5"},
		{`ip proto \tcp`, `ip proto \tcp`},
		{`port \http`, "port http"},
		{"wlan address1 0:1:2:3:4:5", "ether addr1 host 0:1:2:3:4:5"},
		{"link src 0:1:2:3:4:5", "ether src host 0:1:2:3:4:5"},
		{"on em0 and rulenum 5", "ifname em0 and rnr 5"},
		{"vlan (5) and vlan", "vlan 5 and vlan"},
		{"type data subtype null", "type data subtype null"},
		{"is-is or es-is", "isis or esis"},
		{"net 10.0.0.0 / 8", "net 10.0.0.0/8"},
		{"net 10.0.0.0 mask 255.0.0.0", "net 10.0.0.0 mask 255.0.0.0"},
		{"port 0x50", "port 80"},
		{"port 80 and (81) = 81", "port 80 and 81 = 81"},
		{"ether broadcast or fddi multicast", "broadcast or multicast"},
		{"length >= 5 and less 60", "len >= 5 and less 60"},
	} {
		e, err := Parse(c.expression)
		if c.normal == "" && c.expression != "" {
			require.Error(t, err, c.expression)
			continue
		}
		require.NoError(t, err, c.expression)
		assert.Equal(t, c.normal, e.String())
	}
}

func TestNormalFormMeansTheSame(t *testing.T) {
	w := writer{Rand: rand.New(rand.NewPCG(1, 9))}
	for i := range 2000 {
		w.dlt = corpusLinks[i%len(corpusLinks)]
		requireSameNormal(t, w.expr(i%6), w.dlt)
	}
	for _, e := range typedExpressions(t) {
		requireSameNormal(t, e, DLTEthernet)
	}
}

// requireSameNormal checks that the normal form is a fixed point and compiles to the same program.
func requireSameNormal(t testing.TB, text string, dlt uint32) {
	e, err := Parse(text)
	if err != nil {
		return
	}
	again, err := Parse(e.String())
	require.NoError(t, err, "%q from %q", e, text)
	require.Equal(t, e.String(), again.String(), text)
	opt := judgeOptions(dlt)
	a, errA := e.Compile(opt)
	b, errB := again.Compile(opt)
	require.Equal(t, errA == nil, errB == nil, "%q, %q: %v, %v", text, e, errA, errB)
	require.Equal(t, a, b, text)
}

func TestStripComments(t *testing.T) {
	assert.Equal(t, "tcp        \nport 80", StripComments("tcp # web #\nport 80"))
}
