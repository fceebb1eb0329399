package decode_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/decode"
)

func line(link uint16, data []byte, wire int, style decode.Style) string {
	return string(decode.Packet(link, data, wire).AppendLine(nil, style))
}

func TestLines(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			assert.Equal(t, s.line, line(s.link, s.data, len(s.data), decode.Style{}))
			if s.full != "" {
				assert.Equal(t, s.full, line(s.link, s.data, len(s.data), decode.Style{Link: true, Verbose: 1}))
			}
		})
	}
}

// check checks what holds for any bytes: there is one line, which a terminal can show, and an
// object, and nothing in the decoders failed.
func check(t testing.TB, link uint16, data []byte, wire int) {
	t.Helper()
	before := bytes.Clone(data)
	s := decode.Packet(link, data, wire)
	require.Equal(t, before, data, "the memory of a packet is the kernel's")
	for _, style := range []decode.Style{{}, {Link: true, Verbose: 2}} {
		text := string(s.AppendLine(nil, style))
		require.NotEmpty(t, text)
		require.True(t, utf8.ValidString(text), "%q", text)
		require.Negative(t, strings.IndexFunc(text, unicode.IsControl), "%q", text)
		require.NotContains(t, text, "%!", "a wrong format")
		require.NotContains(t, text, "the decoder failed", "link type %d: %x", link, data)
	}
	object, err := json.Marshal(s)
	require.NoError(t, err)
	require.True(t, json.Valid(object))
	require.Negative(t, bytes.IndexFunc(object, unicode.IsControl), "%q", object)
	require.GreaterOrEqual(t, len(data), s.Header())
}

// A packet of which the capture has only the beginning, or that ends too early, has a line.
func TestEveryBeginningOfAPacketHasALine(t *testing.T) {
	for _, s := range samples(t) {
		for n := range s.data {
			check(t, s.link, s.data[:n:n], len(s.data)) // cut by the capture
			check(t, s.link, s.data[:n:n], n)
		}
	}
}

// The fault names the header in which the packet ends, and says whether the capture cut it.
func TestCutAndBrokenAreTold(t *testing.T) {
	p := samples(t)[2] // TCP
	const ethernet, ip, flow = 14, 20, "IP 10.0.0.1.49152 > 10.0.0.2.443: "
	for _, c := range []struct {
		name    string
		n, wire int
		want    string
	}{
		{"the capture cut the flags", ethernet + ip + 8, len(p.data), flow + "TCP [cut in tcp]"},
		{"there are no flags", ethernet + ip + 8, ethernet + ip + 8, flow + "TCP [broken tcp: Invalid TCP header. Length 8 less than 20]"},
		{"the capture cut the options", ethernet + ip + 20, len(p.data), flow + "Flags [S], seq 1000, win 65535, length 0 [cut in tcp]"},
		{"the capture cut the IP header", ethernet + 10, len(p.data), "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 74: IPV4, length 60 [cut in ipv4]"},
		{"the capture cut the link header", 3, len(p.data), "ETHERNET, length 74 [cut in ethernet]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, line(p.link, p.data[:c.n], c.wire, decode.Style{}))
		})
	}
}

// A packet that is nothing but headers in headers ends somewhere.
func TestNestingHasAnEnd(t *testing.T) {
	tags := []byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01" +
		strings.Repeat("\x81\x00\x00\x01", 10000))
	s := decode.Packet(linkEthernet, tags, len(tags))
	require.NotNil(t, s.Error)
	assert.Equal(t, "too many headers", s.Error.Reason)
	assert.Len(t, s.VLANs, 31)

	const header = 20
	tunnels := make([]byte, header*1000)
	for i := 0; i < len(tunnels); i += header {
		n := len(tunnels) - i
		copy(tunnels[i:], []byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 1, 4})
	}
	depth := 0
	for s := decode.Packet(linkRaw, tunnels, len(tunnels)); s != nil; s = s.Inner {
		depth++
	}
	assert.Equal(t, 33, depth)
	check(t, linkRaw, tunnels, len(tunnels))
}

// A message of 64 KiB whose names are compressed does not become a line of megabytes.
func TestManyAnswersAreCounted(t *testing.T) {
	const answers = 5000
	name := strings.Repeat("\x3b"+strings.Repeat("a", 59), 4) + "\x00"
	dns := "\x00\x01\x80\x00\x00\x01\x13\x88\x00\x00\x00\x00" + name + "\x00\x01\x00\x01" +
		strings.Repeat("\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00", answers)
	p := build(t, ip4(layers.IPProtocolUDP), udp(53, 5000), raw(dns))
	s := decode.Packet(linkRaw, p, len(p))
	require.NotNil(t, s.DNS)
	require.Nil(t, s.Error)
	assert.Equal(t, answers, s.DNS.AnswerCount)
	assert.Len(t, s.DNS.Answers, 32)
	text := line(linkRaw, p, len(p), decode.Style{Verbose: 1})
	assert.Contains(t, text, " 5000/0/0 ")
	assert.Less(t, len(text), 10000)
}

// Colours are in the line only where the style has them, and never within what they colour.
func TestPaint(t *testing.T) {
	parts := map[decode.Part]int{}
	style := decode.Style{Verbose: 1, Link: true, Paint: func(p decode.Part, text string) string {
		parts[p]++
		return "<" + text + ">"
	}}
	for _, s := range samples(t) {
		painted := line(s.link, s.data, len(s.data), style)
		plain := line(s.link, s.data, len(s.data), decode.Style{Verbose: 1, Link: true})
		paths := strings.NewReplacer("<", "", ">", "")
		assert.Equal(t, paths.Replace(plain), paths.Replace(painted))
	}
	for p := decode.Source; p <= decode.Fault; p++ {
		assert.Positive(t, parts[p], "part %d", p)
	}
}

// known are the numbers, in files, of the link types with a decoder of their own. 50, 51, 113, 219,
// 228 and 229 are PPP_SERIAL, PPP_ETHER, LINUX_SLL, MPLS, IPV4 and IPV6.
var known = []uint16{
	linkNull, linkEthernet, linkPPP, linkRaw, linkHDLC, linkWLAN, linkLoop, linkENC, linkPFLog,
	linkRadiotap, 50, 51, 113, 219, 228, 229,
}

// Every packet has a line as a packet of any link type of FreeBSD.
func TestEveryLinkTypeHasALine(t *testing.T) {
	decoded := map[uint16]bool{}
	for link := range uint16(400) {
		for i, s := range samples(t) {
			if i%4 == 0 || s.link == link {
				check(t, link, s.data, len(s.data))
			}
		}
		text := line(link, nil, 0, decode.Style{})
		decoded[link] = text != strings.ToUpper(zbuf.DLTName(zbuf.LinkTypeToDLT(link)))+", length 0"
	}
	numbers := map[uint32]bool{zbuf.DLT_PPP_BSDOS: true} // a link type can have two
	for _, link := range known {
		assert.True(t, decoded[link], "link type %d", link)
		numbers[zbuf.LinkTypeToDLT(link)] = true
	}
	for link, more := range decoded {
		assert.Equal(t, numbers[zbuf.LinkTypeToDLT(link)], more, "link type %d", link)
	}
}

// FuzzPacket decodes any bytes as each link type.
func FuzzPacket(f *testing.F) {
	for i, s := range samples(f) {
		f.Add(s.data, s.link, uint16(i%2*100))
	}
	f.Fuzz(func(t *testing.T, data []byte, link, more uint16) {
		check(t, link, data, len(data)+int(more))
		for _, link := range known {
			check(t, link, data, len(data)+int(more))
		}
	})
}
