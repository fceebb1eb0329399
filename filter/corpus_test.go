package filter

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// corpusLinks are the link types of the corpus.
var corpusLinks = []uint32{DLTEthernet, DLTNull, DLTLoop, DLTRaw, DLTPPP, DLTPPPSerial, DLTEnc,
	DLTPFLog,
	DLTWLAN, DLTWLANRadio, DLTLinuxSLL, DLTLinuxSLL2, DLTPPPEther}

// expressions returns how many expressions a test generates: ZBUF_EXPRESSIONS if that is set.
func expressions(t testing.TB, short, long int) int {
	if !testing.Short() {
		short = long
	}
	return lab.Setting(t, "ZBUF_EXPRESSIONS", short)
}

// question is an expression for a link type.
type question struct {
	dlt        uint32
	expression string
}

// typedExpressions reads the expressions that were written by hand.
func typedExpressions(t testing.TB) []string {
	b, err := os.ReadFile("testdata/expressions.txt")
	require.NoError(t, err)
	var list []string
	for _, line := range strings.Split(string(b), "\n") {
		if line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

// corpus returns the typed expressions on Ethernet and on two other link types each, and generated
// ones on every link type.
func corpus(t testing.TB, generated int) []question {
	var list []question
	for i, e := range typedExpressions(t) {
		list = append(list, question{DLTEthernet, e})
		for j := range 2 {
			if testing.Short() {
				break
			}
			list = append(list, question{corpusLinks[1+(2*i+j)%(len(corpusLinks)-1)], e})
		}
	}
	w := writer{Rand: rand.New(rand.NewPCG(7, 11))}
	for i := range generated {
		w.dlt = DLTEthernet
		if i%2 == 1 {
			w.dlt = corpusLinks[i/2%len(corpusLinks)]
		}
		if e := w.expr(1 + i%4); !contradicts(e) {
			list = append(list, question{w.dlt, e})
		}
	}
	return list
}

// contradicts reports whether a generated expression may ask for a destination that is multicast
// and at the same time a host that is not. The compiler does not look at the bits of addresses, so
// it can't tell that no packet matches.
func contradicts(e string) bool {
	return strings.Contains(e, "multicast") && strings.Contains(e, "src and dst")
}

// writer writes random expressions that make sense on a link type.
type writer struct {
	*rand.Rand
	dlt uint32
}

func (w writer) on(dlts ...uint32) bool { return slices.Contains(dlts, w.dlt) }

func (w writer) pick(list ...string) string { return list[w.IntN(len(list))] }
func (w writer) host4() string              { return testHosts4[w.IntN(len(testHosts4))] }
func (w writer) host6() string              { return testHosts6[w.IntN(len(testHosts6))] }
func (w writer) mac() string                { return testMACs[w.IntN(len(testMACs))] }
func (w writer) port() string               { return fmt.Sprint(testPorts[w.IntN(len(testPorts))]) }
func (w writer) dir() string {
	return w.pick("", "", "src ", "dst ", "src or dst ", "src and dst ")
}

func (w writer) expr(depth int) string {
	if depth <= 0 {
		return w.primitive()
	}
	if w.on(DLTEthernet) && w.IntN(6) == 0 { // what moves the layers, and something behind it
		return w.pick("vlan", "vlan 5", "mpls", "pppoes", "pppoes 5", "vlan and vlan", "geneve") +
			" and " +
			w.operand(depth-1)
	}
	switch w.IntN(7) {
	case 0:
		return "not " + w.operand(depth-1)
	case 1, 2, 3:
		return w.expr(depth-1) + " and " + w.operand(depth-1)
	case 4, 5:
		return w.expr(depth-1) + " or " + w.operand(depth-1)
	}
	return w.primitive()
}

func (w writer) operand(depth int) string {
	e := w.expr(depth)
	if strings.Contains(e, " and ") || strings.Contains(e, " or ") {
		return "(" + e + ")"
	}
	return e
}

func (w writer) primitive() string {
	n := w.IntN(24)
	switch {
	case (n == 14 || n == 11) && !w.on(DLTEthernet, DLTWLAN, DLTWLANRadio),
		n == 18 && !w.on(DLTEthernet, DLTWLAN, DLTWLANRadio, DLTRaw, DLTNull), n == 19 && !w.on(DLTPFLog),
		n == 17 && !w.on(DLTEthernet, DLTWLAN, DLTPPP):
		n = w.IntN(11)
	}
	switch n {
	case 0, 1:
		return w.pick("", "", "ip ", "arp ", "rarp ") + w.dir() + "host " + w.host4()
	case 2:
		return w.pick("", "ip6 ") + w.dir() + "host " + w.host6()
	case 3:
		return w.pick("", "ip ", "arp ") + w.dir() + "net " + w.pick("10.0.0.0/8", "10", "192.168.1",
			"1.2", "10.0.0.0/30",
			"224.0.0.0/4", "0.0.0.0/0", "1.2.3.0 mask 255.255.255.0", "0.0.0.1 mask 0.0.0.255",
			"128.0.0.0/1")
	case 4:
		return w.pick("", "ip6 ") + w.dir() + "net " + w.pick("2001:db8::/32", "fe80::/10", "::/0",
			"2001:db8::/64", "::/33")
	case 5, 6, 7:
		return w.pick("", "tcp ", "udp ", "sctp ") + w.dir() + "port " + w.port()
	case 8:
		return w.pick("", "tcp ", "udp ") + w.dir() + "portrange " + w.pick("6000-6008", "0-80", "53-53",
			"443-22", "1024-65535")
	case 9, 10:
		return w.pick("ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "pim",
			"vrrp", "ah", "esp")
	case 11:
		return w.pick("atalk", "aarp", "decnet", "lat", "moprc", "mopdl", "iso", "stp", "ipx", "netbeui",
			"clnp", "esis",
			"isis", "l1", "l2", "iih", "lsp", "snp", "csnp", "psnp", "llc", "llc i", "llc s", "llc ui",
			"llc rnr", "llc xid")
	case 12:
		return w.pick("ip ", "ip6 ", "") + "proto " + w.pick("6", "17", "1", "44", "58", `\tcp`, `\udp`,
			"300")
	case 13:
		return "ether proto " + w.pick("0x800", "0x806", `\ip6`, "5", "0x42", "1501", "0xe0", "0xfe",
			"0x88cc", `\atalk`)
	case 14:
		return "ether " + w.dir() + "host " + w.mac()
	case 15:
		if w.on(DLTEthernet, DLTWLAN, DLTWLANRadio) && w.IntN(2) == 0 {
			return w.pick("broadcast", "multicast", "ether multicast")
		}
		return w.pick("ip broadcast", "ip multicast", "ip6 multicast")
	case 16:
		return w.pick("less 60", "greater 100", "len = 64", "len > 128", "len <= 40")
	case 17:
		if w.on(DLTWLAN, DLTWLANRadio) {
			return w.pick("vlan", "vlan 5", "pppoed", "pppoes", "pppoes 5")
		}
		if w.on(DLTPPP) {
			return w.pick("mpls", "mpls 5")
		}
		return w.pick("vlan", "vlan 5", "vlan 6", "vlan 0", "mpls", "mpls 5", "mpls 100000", "pppoed",
			"pppoes", "pppoes 5")
	case 18:
		if !w.on(DLTWLAN, DLTWLANRadio) {
			return w.pick("geneve", "geneve 5")
		}
		return w.pick("geneve", "type mgt", "type ctl", "type data", "subtype beacon",
			"type data subtype null",
			"dir tods", "dir 3", "wlan addr1 "+w.mac(), "wlan addr2 "+w.mac(), "wlan addr3 "+w.mac(),
			"wlan addr4 "+w.mac(),
			"wlan ra "+w.mac(), "wlan ta "+w.mac())
	case 19:
		return w.pick("ifname em0", "ifname vlan100", "rset abcdefg", "rnr 3", "srnr 4", "reason match",
			"reason short", "reason 7",
			"action pass", "action block", "action nat", "inbound", "outbound")
	}
	return w.number(1) + " " + w.pick("=", "!=", "<", ">", "<=", ">=") + " " + w.pick(w.number(0), "1",
		"0x45", "6", "80", "0", w.number(1))
}

func (w writer) number(depth int) string {
	if depth > 0 && w.IntN(3) > 0 {
		op := w.pick("+", "-", "*", "&", "|", "^")
		if w.IntN(3) == 0 {
			return "(" + w.number(depth-1) + " " + w.pick("/ 3", "% 7", "<< 2", ">> 3", "& 0xf", "& 1",
				"- 1") + ")"
		}
		return "(" + w.number(depth-1) + " " + op + " " + w.number(depth-1) + ")"
	}
	switch w.IntN(8) {
	case 0:
		return "len"
	case 1:
		return fmt.Sprint(w.IntN(300))
	case 2:
		return w.pick("tcp[tcpflags]", "icmp[icmptype]", "icmp6[icmp6type]", "tcp[2:2]", "udp[4:2]",
			"tcp[0:4]", "sctp[0]", "igmp[0]")
	case 3:
		return w.pick("ip[ip[0] & 0xf]", "ether[ip[0]]", "udp[ip[1]]", "ip[0]", "ip[6:2]", "ip6[6]",
			"arp[7]", "ip[12:4]")
	}
	return w.pick("ip", "ether", "ip", "ip6", "tcp", "link") + "[" + fmt.Sprint(w.IntN(24)) +
		w.pick("", ":2", ":4") + "]"
}

// arithmetic returns a number made of leaves with every operator. Anything may stand on both sides.
func (w writer) arithmetic(depth int, leaves ...string) string {
	if depth == 0 || w.IntN(4) == 0 {
		return w.pick(leaves...)
	}
	if w.IntN(8) == 0 {
		return "-" + w.arithmetic(depth-1, leaves...)
	}
	op := w.pick("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>")
	return "(" + w.arithmetic(depth-1, leaves...) + op + w.arithmetic(depth-1, leaves...) + ")"
}
