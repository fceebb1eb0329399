package fanout

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// conversation describes a packet, in both directions.
type conversation struct {
	link      uint32
	tags      []uint16 // of the ethertypes
	ether     uint16   // 0: as version says
	version   int
	a, b      byte // ends
	portA     uint16
	portB     uint16
	proto     byte
	options   int // words of IPv4 options
	ext       []byte
	fragment  uint16 // flags and offset in 8 bytes, as IPv4 has them
	payload   int
	shortened int // bytes cut off
}

// packet returns the packet in one direction or the other.
func (c conversation) packet(back bool) []byte {
	src, dst, sport, dport := c.a, c.b, c.portA, c.portB
	if back {
		src, dst, sport, dport = dst, src, dport, sport
	}
	be16 := binary.BigEndian.AppendUint16
	var p []byte
	ether := c.ether
	if ether == 0 {
		ether = map[int]uint16{4: etherIPv4, 6: etherIPv6}[c.version]
	}
	switch c.link {
	case dltEther:
		p = append(p, 2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src)
		for i, tag := range c.tags {
			p = be16(be16(p, tag), uint16(i+7))
		}
		p = be16(p, ether)
	case dltNull:
		p = binary.NativeEndian.AppendUint32(p, map[int]uint32{4: 2, 6: 28}[c.version])
	case dltLoop:
		p = binary.BigEndian.AppendUint32(p, map[int]uint32{4: 2, 6: 28}[c.version])
	}
	switch c.version {
	case 4:
		p = append(p, 0x45+byte(c.options), 0, 0, 0)
		p = be16(append(p, 1, 2), c.fragment)
		p = append(p, 64, c.proto, 3, 4, 10, 0, 0, src, 10, 0, 0, dst)
		p = append(p, make([]byte, 4*c.options)...)
	case 6:
		chain := append(append([]byte{}, c.ext...), c.proto)
		p = append(p, 0x60, 1, 2, 3, 0, 0, chain[0], 64)
		for _, end := range []byte{src, dst} {
			p = append(p, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end)
		}
		for i, kind := range c.ext {
			next := chain[i+1]
			switch kind {
			case protoFragment:
				p = be16(append(p, next, 0), c.fragment<<3|c.fragment>>13)
				p = append(p, 0, 0, 0, 9)
			case protoAuth:
				p = append(p, next, 4)
				p = append(p, make([]byte, 22)...)
			default:
				p = append(p, next, 1)
				p = append(p, make([]byte, 14)...)
			}
		}
	}
	p = be16(be16(p, sport), dport)
	p = append(p, make([]byte, c.payload)...)
	return p[:max(len(p)-c.shortened, 0)]
}

func (c conversation) hash(t testing.TB) uint32 {
	t.Helper()
	there, back := c.packet(false), c.packet(true)
	h := FlowHash(c.link, there)
	require.Equal(t, h, FlowHash(c.link, back), "both ways: % x", there)
	return h
}

var transports = map[string]conversation{
	"IPv4 TCP":           {link: dltEther, version: 4, proto: protoTCP},
	"IPv4 UDP":           {link: dltEther, version: 4, proto: protoUDP},
	"IPv4 SCTP":          {link: dltEther, version: 4, proto: protoSCTP},
	"IPv4 with options":  {link: dltEther, version: 4, proto: protoTCP, options: 10},
	"IPv4 not to be cut": {link: dltEther, version: 4, proto: protoUDP, fragment: 0x4000},
	"IPv6 TCP":           {link: dltEther, version: 6, proto: protoTCP},
	"IPv6 UDP":           {link: dltEther, version: 6, proto: protoUDP},
	"IPv6 SCTP":          {link: dltEther, version: 6, proto: protoSCTP},
	"IPv6, every extension header": {link: dltEther, version: 6, proto: protoTCP,
		ext: []byte{protoHopByHop, protoDest, protoRouting, protoAuth, protoDest}},
	"IPv6, fragment header on a whole one": {link: dltEther, version: 6, proto: protoUDP, ext: []byte{protoFragment}},
	"VLAN":                                 {link: dltEther, version: 4, proto: protoTCP, tags: []uint16{etherVLAN}},
	"QinQ":                                 {link: dltEther, version: 6, proto: protoTCP, tags: []uint16{etherQinQ, etherVLAN}},
	"three old tags":                       {link: dltEther, version: 4, proto: protoUDP, tags: []uint16{etherQinQ1, etherQinQ1, etherVLAN}},
	"NULL IPv4":                            {link: dltNull, version: 4, proto: protoTCP},
	"NULL IPv6":                            {link: dltNull, version: 6, proto: protoTCP},
	"LOOP IPv4":                            {link: dltLoop, version: 4, proto: protoTCP},
	"LOOP IPv6":                            {link: dltLoop, version: 6, proto: protoTCP},
	"RAW IPv4":                             {link: dltRaw, version: 4, proto: protoTCP},
	"RAW IPv6":                             {link: dltRaw, version: 6, proto: protoTCP},
	"RAW of OpenBSD":                       {link: dltRawOpenBSD, version: 4, proto: protoTCP},
	"RAW of files":                         {link: dltRawFile, version: 6, proto: protoTCP},
	"IPV4":                                 {link: dltIPv4, version: 4, proto: protoTCP},
	"IPV6":                                 {link: dltIPv6, version: 6, proto: protoTCP},
}

func TestHashIsThatOfTheConversation(t *testing.T) {
	for name, c := range transports {
		t.Run(name, func(t *testing.T) {
			c.a, c.b, c.portA, c.portB, c.payload = 1, 2, 40000, 53, 100
			h := c.hash(t)
			for what, change := range map[string]func(*conversation){
				"an address":      func(c *conversation) { c.a = 9 },
				"the other":       func(c *conversation) { c.b = 9 },
				"a port":          func(c *conversation) { c.portA = 40001 },
				"the other's":     func(c *conversation) { c.portB = 54 },
				"ports exchanged": func(c *conversation) { c.portA, c.portB = c.portB, c.portA },
			} {
				other := c
				change(&other)
				assert.NotEqual(t, h, other.hash(t), "%s changed", what)
			}
			same := c
			same.payload = 7
			assert.Equal(t, h, same.hash(t), "the payload does not count")
			cut := c
			cut.shortened = c.payload
			assert.Equal(t, h, cut.hash(t), "captured up to the ports")
		})
	}
}

// Packets without reliable ports are hashed by their addresses.
func TestHashByAddressesAlone(t *testing.T) {
	for name, c := range map[string]conversation{
		"ICMP":                     {link: dltEther, version: 4, proto: 1},
		"ICMPv6":                   {link: dltEther, version: 6, proto: 58},
		"first fragment":           {link: dltEther, version: 4, proto: protoUDP, fragment: 0x2000},
		"middle fragment":          {link: dltEther, version: 4, proto: protoUDP, fragment: 0x2000 | 185},
		"last fragment":            {link: dltEther, version: 4, proto: protoUDP, fragment: 370},
		"first fragment of IPv6":   {link: dltEther, version: 6, proto: protoUDP, fragment: 0x2000, ext: []byte{protoHopByHop, protoFragment}},
		"middle fragment of IPv6":  {link: dltEther, version: 6, proto: protoUDP, fragment: 0x2000 | 185, ext: []byte{protoFragment}},
		"last fragment of IPv6":    {link: dltEther, version: 6, proto: protoUDP, fragment: 370, ext: []byte{protoFragment}},
		"cut in the ports":         {link: dltEther, version: 4, proto: protoTCP, shortened: 1},
		"cut in the ports of IPv6": {link: dltEther, version: 6, proto: protoTCP, shortened: 1},
		"cut in an extension":      {link: dltEther, version: 6, proto: protoTCP, ext: []byte{protoDest}, shortened: 13},
		"PPPoE":                    {link: dltEther, ether: 0x8864},
		"802.3":                    {link: dltEther, ether: 60},
		"tagged, not IP":           {link: dltEther, ether: 0x88cc, tags: []uint16{etherVLAN}},
		"cut in a tag":             {link: dltEther, ether: etherIPv4, tags: []uint16{etherVLAN}, shortened: 5},
	} {
		t.Run(name, func(t *testing.T) {
			c.a, c.b, c.portA, c.portB = 1, 2, 3, 4
			h := c.hash(t)
			other := c
			other.portA, other.portB = 5, 6
			assert.Equal(t, h, other.hash(t), "what lies where ports would")
			other = c
			other.a = 77
			assert.NotEqual(t, h, other.hash(t), "an address")
		})
	}
}

// All fragments of a datagram have one hash.
func TestFragmentsOfADatagramStayTogether(t *testing.T) {
	for version, ext := range map[int][]byte{4: nil, 6: {protoFragment}} {
		c := conversation{link: dltEther, version: version, proto: protoUDP, a: 1, b: 2, portA: 3,
			portB: 4, ext: ext}
		var hashes []uint32
		for i, fragment := range []uint16{0x2000, 0x2000 | 185, 370} {
			c.fragment = fragment
			c.portA, c.portB = uint16(i*77+3), uint16(i+9) // payload, from the second on
			hashes = append(hashes, c.hash(t))
		}
		assert.Equal(t, hashes[0], hashes[1], "IPv%d", version)
		assert.Equal(t, hashes[0], hashes[2], "IPv%d", version)
	}
}

func TestHashIsZeroOfWhatIsNotKnown(t *testing.T) {
	assert.Zero(t, FlowHash(147, make([]byte, 100)), "an unknown link type")
	assert.Zero(t, FlowHash(dltEther, make([]byte, 13)), "no whole Ethernet header")
	assert.Zero(t, FlowHash(dltRaw, []byte{0x50, 1, 2}), "no IP version")
	assert.Zero(t, FlowHash(dltRaw, nil))
	assert.Zero(t, FlowHash(dltNull, []byte{2, 0, 0}))
	assert.Zero(t, FlowHash(dltNull, append([]byte{7, 0, 0, 0}, make([]byte, 60)...)), "no IP family")
	arp := make([]byte, 42)
	arp[3], arp[12], arp[13] = 7, 8, 6
	assert.Zero(t, FlowHash(dltEther, arp), "ARP")
}

// flowHashes returns the same numbers as FlowHash, for every packet and wherever it is cut.
func TestHashesOfAHandAreThoseOfItsPackets(t *testing.T) {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	r, err := bpf.Open("em0", bpf.Config{System: k, Mode: bpf.ZeroCopy, ReadTimeout: bpf.NoTimeout})
	require.NoError(t, err)
	defer r.Close()
	sent := 0
	send := func(c conversation) {
		c.a, c.b, c.portA, c.portB = 1, 2, 40000, 53
		whole := c.packet(sent%2 == 0)
		for n := 14; n <= len(whole); n++ {
			em0.Receive(whole[:n])
			sent++
		}
	}
	for _, c := range transports {
		c.link = dltEther
		send(c)
	}
	for _, proto := range []byte{0, 1, protoTCP, protoUDP, protoSCTP} {
		for _, fragment := range []uint16{0, 1, 0x1fff, 0x2000, 0x3fff, 0x4000, 0x8000, 0xc000} {
			for _, tags := range [][]uint16{nil, {etherVLAN}} {
				send(conversation{link: dltEther, version: 4, proto: proto, fragment: fragment, tags: tags,
					options: int(fragment & 1)})
			}
		}
	}
	l, err := r.Lease(t.Context())
	require.NoError(t, err)
	defer l.Release()
	packets := slices.Collect(l.Packets())
	require.Len(t, packets, sent)
	for _, link := range []uint32{dltEther, dltNull, dltLoop, dltRaw, 147} {
		hashes := make([]uint32, sent)
		flowHashes(hashes, link, packets)
		for i, p := range packets {
			require.Equal(t, FlowHash(link, p.Data()), hashes[i], "link type %d: % x", link, p.Data())
		}
	}
}

func TestDivisorIsTheModulus(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 7, 8, 16, 63, 64, 65, 1000, 65535, 1<<31 - 1} {
		d := newDivisor(n)
		for _, x := range []uint32{0, 1, 2, 12345, 1<<31 - 1, 1 << 31, math.MaxUint32} {
			for _, around := range []uint32{x - 1, x, x + 1, x - x%uint32(n), x - x%uint32(n) - 1} {
				require.Equal(t, around%uint32(n), d.of(around), "%d modulo %d", around, n)
			}
		}
	}
}

// Flows that differ little are spread evenly. The chi-squared test fails one time in a million.
func TestHashSpreadsFlows(t *testing.T) {
	for name, c := range map[string]conversation{
		"IPv4": {link: dltEther, version: 4, proto: protoTCP},
		"IPv6": {link: dltEther, version: 6, proto: protoTCP},
	} {
		for what, vary := range map[string]func(i int) conversation{
			"ports": func(i int) conversation {
				v := c
				v.a, v.b, v.portA, v.portB = 1, 2, uint16(32768+i), 443
				return v
			},
			"both": func(i int) conversation {
				v := c
				v.a, v.b, v.portA, v.portB = byte(i), 2, uint16(i>>8), 53
				return v
			},
			"addresses": func(i int) conversation {
				v := c
				v.a, v.b, v.portA, v.portB = byte(i), byte(128+i>>8), 1, 1
				return v
			},
		} {
			for _, workers := range []uint32{2, 3, 4, 7, 8, 16} {
				t.Run(fmt.Sprintf("%s/%s/%d", name, what, workers), func(t *testing.T) {
					const flows = 8192
					count := make([]float64, workers)
					for i := range flows {
						count[FlowHash(c.link, vary(i).packet(false))%workers]++
					}
					chi := 0.0
					for _, n := range count {
						want := float64(flows) / float64(workers)
						chi += (n - want) * (n - want) / want
					}
					limit := map[uint32]float64{2: 24, 3: 28, 4: 31, 7: 39, 8: 41, 16: 57}[workers]
					assert.Less(t, chi, limit, "%v", count)
				})
			}
		}
	}
}

// FlowHash reads nothing behind the captured bytes: the compiler's checks would panic. Its result
// is always the same, and for a well-formed packet the same in both directions.
func FuzzFlowHash(f *testing.F) {
	for _, c := range transports {
		f.Add(c.link, c.packet(false), byte(c.version), c.proto, uint16(c.fragment), uint16(c.options),
			byte(len(c.tags)), c.ext)
	}
	f.Add(uint32(dltEther), []byte{}, byte(6), byte(0), uint16(1), uint16(15), byte(9),
		[]byte{0, 43, 44, 51, 60})
	f.Fuzz(func(
		t *testing.T, link uint32, raw []byte, version, proto byte, fragment, cut uint16, tags byte,
		ext []byte,
	) {
		roomy := append(append(make([]byte, 0, len(raw)+64), raw...), make([]byte, 64)...)
		h := FlowHash(link, raw)
		require.Equal(t, h, FlowHash(link, roomy[:len(raw)]))
		for i := range roomy[len(raw):] {
			roomy[len(raw)+i] = 0xff
		}
		require.Equal(t, h, FlowHash(link, roomy[:len(raw)]), "what lies behind the packet counts")

		c := conversation{link: link, version: 4 + int(version&2), proto: proto, fragment: fragment,
			shortened: int(cut), a: 1, b: 2, portA: 3, portB: 4, options: int(cut % 11)}
		for range tags % 10 {
			c.tags = append(c.tags, etherVLAN)
		}
		if c.version == 6 {
			for _, e := range ext {
				// Others would end the chain, and what follows would not be ports.
				switch e {
				case protoHopByHop, protoRouting, protoFragment, protoAuth, protoDest:
					c.ext = append(c.ext, e)
				}
			}
		}
		switch c.proto {
		case protoHopByHop, protoRouting, protoFragment, protoAuth, protoDest:
			c.proto = protoTCP // the ports would be taken for a header
		}
		c.hash(t)
	})
}

func BenchmarkFlowHash(b *testing.B) {
	for _, name := range []string{"IPv4 TCP", "IPv6 TCP", "QinQ", "IPv6, every extension header"} {
		c := transports[name]
		c.a, c.b, c.portA, c.portB, c.payload = 1, 2, 40000, 53, 100
		p := c.packet(false)
		b.Run("packet="+strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				FlowHash(c.link, p)
			}
		})
	}
}
