package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

var (
	// alike are the lines of tcpdump that bpfctl's are compared with: those whose form is the same.
	alike = regexp.MustCompile(`^(\S+ > \S+, ethertype .*: |IP6? )?[0-9a-f:.]+ > [0-9a-f:.]+: ` +
		`(Flags|UDP, length|ICMP echo|ICMP6, (echo|neighbor))|(^|: )ARP, (Request|Reply)`)
	// richer are those in which tcpdump knows more of a header, or says more of a broken one.
	richer = regexp.MustCompile(`mptcp|md5|scps|tcp-ao|exp-tfo|UDP-encap|RPKI|bad |\[\||macsec|IP4`)
	// behind is what follows the length: the protocol that the packet carries.
	behind = regexp.MustCompile(`(, length \d+)(\D.*)?$`)
	twice  = regexp.MustCompile(`^(IP6?): IP6? `) // over PPP
	tags   = regexp.MustCompile(`vlan \d+, `)
	ecn    = regexp.MustCompile(`(Flags \[[A-Z.]*)e\]`) // a newer tcpdump has it, too
)

// block is a packet as a program prints it: a line, and its bytes.
type block struct{ line, dump string }

// stamped is the beginning of a packet. Other lines continue it.
var stamped = regexp.MustCompile(`^\d+\.\d+ `)

// blocks splits what a program prints with -tt.
func blocks(out string) (all []block) {
	for line := range strings.Lines(out) {
		switch n := len(all); {
		case stamped.MatchString(line):
			all = append(all, block{line: strings.TrimSpace(stamped.ReplaceAllString(line, ""))})
		case n > 0 && strings.HasPrefix(line, "\t0x"):
			all[n-1].dump += line
		}
	}
	return all
}

// lineTally counts the comparisons.
type lineTally struct {
	links            map[string]int
	same, other, odd int
}

// compare prints a file with both programs.
func (y *lineTally) compare(t *testing.T, file string, flags ...string) {
	dlt, _, err := linkOf(file)
	if err != nil || !slices.Contains(known, dlt) || dlt == 276 {
		return
	}
	c := exec.Command("tcpdump", append([]string{"-n", "-S", "-tt", "-r", file}, flags...)...)
	out, err := c.Output()
	if err != nil {
		return // tcpdump stops at what it does not read
	}
	var stdout, stderr bytes.Buffer
	args := append([]string{"capture", "--replay", file, "-tt"}, flags...)
	if run(args, nil, &stdout, &stderr) != exitOK {
		return
	}
	want, got := blocks(string(out)), blocks(stdout.String())
	if len(want) != len(got) {
		y.odd++ // tcpdump refuses time stamps with too many microseconds
		return
	}
	y.links[zbuf.DLTName(dlt)]++
	for i := range want {
		want[i].line = twice.ReplaceAllString(want[i].line, "$1 ")
		if strings.Contains(got[i].line, "ethertype Unknown") || // MACsec, for example
			!alike.MatchString(want[i].line) || richer.MatchString(want[i].line) {
			y.other++
			continue
		}
		y.same++
		line := ecn.ReplaceAllString(got[i].line, "$1]")
		if !slices.Contains(flags, "-e") {
			line = tags.ReplaceAllString(line, "")
		}
		if line = strings.ReplaceAll(line, "Flags []", "Flags [none]"); slices.Contains(flags, "-e") &&
			dlt != zbuf.DLT_EN10MB {
			continue
		}
		where := fmt.Sprintf("%s, packet %d: %s", filepath.Base(file), i+1, got[i].line)
		assert.Equal(t, behind.ReplaceAllString(want[i].line, "$1"),
			behind.ReplaceAllString(line, "$1"), where)
		if slices.ContainsFunc(flags, func(f string) bool { return strings.ToLower(f[:2]) == "-x" }) {
			assert.Equal(t, want[i].dump, got[i].dump, where)
		}
	}
}

// writeRandom writes a file with random packets of TCP and UDP over Ethernet. Options and flags are
// often strange, and the packets are often cut.
func writeRandom(t *testing.T, name string, n int) {
	r := rand.New(rand.NewPCG(1, 2))
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	w := pcapio.NewPcapWriter(f, false)
	_, err = w.AddInterface(pcapio.Interface{LinkType: 1})
	require.NoError(t, err)
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	kinds := []layers.TCPOptionKind{layers.TCPOptionKindNop, layers.TCPOptionKindMSS,
		layers.TCPOptionKindWindowScale, layers.TCPOptionKindSACKPermitted, layers.TCPOptionKindSACK,
		layers.TCPOptionKindTimestamps, 77}
	lengths := []int{0, 2, 1, 0, 8, 8, 3}
	for range n {
		eth := &layers.Ethernet{SrcMAC: bytesOf(6), DstMAC: bytesOf(6),
			EthernetType: layers.EthernetTypeIPv4}
		proto := layers.IPProtocolTCP
		data := gopacket.Payload(bytesOf(r.IntN(40)))
		var upper gopacket.SerializableLayer
		if r.IntN(3) > 0 {
			tcp := &layers.TCP{SrcPort: layers.TCPPort(9000 + r.IntN(9)), DstPort: 9100, Seq: r.Uint32(),
				Ack: r.Uint32(), Window: uint16(r.Uint32()), Urgent: uint16(r.Uint32()), SYN: r.IntN(2) == 0,
				FIN: r.IntN(4) == 0, RST: r.IntN(4) == 0, PSH: r.IntN(2) == 0, ACK: r.IntN(2) == 0,
				URG: r.IntN(4) == 0, ECE: r.IntN(4) == 0, CWR: r.IntN(4) == 0}
			for range r.IntN(4) {
				i := r.IntN(len(kinds))
				tcp.Options = append(tcp.Options, layers.TCPOption{OptionType: kinds[i],
					OptionLength: uint8(lengths[i] + 2), OptionData: bytesOf(lengths[i])})
			}
			upper = tcp
		} else {
			proto = layers.IPProtocolUDP
			upper = &layers.UDP{SrcPort: layers.UDPPort(9000 + r.IntN(9)), DstPort: 9100}
		}
		var ip gopacket.SerializableLayer
		if r.IntN(2) == 0 {
			ip = &layers.IPv4{Version: 4, TTL: 9, Protocol: proto, SrcIP: bytesOf(4), DstIP: bytesOf(4)}
		} else {
			ip = &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: proto, SrcIP: bytesOf(16),
				DstIP: bytesOf(16)}
			eth.EthernetType = layers.EthernetTypeIPv6
		}
		b := gopacket.NewSerializeBuffer()
		opts := gopacket.SerializeOptions{FixLengths: true}
		require.NoError(t, gopacket.SerializeLayers(b, opts, eth, ip, upper, data))
		p := b.Bytes()
		kept := p
		if r.IntN(4) == 0 {
			kept = p[:1+r.IntN(len(p))]
		}
		require.NoError(t, w.WritePacket(0, 1e9, 0, kept, len(p)))
	}
	require.NoError(t, w.Flush())
}

// `bpfctl capture --replay FILE` prints TCP, UDP, pings, ARP and neighbour discovery as
// `tcpdump -n -S -r FILE` does: random packets, with their bytes, and the files of tcpdump's own
// tests.
func TestLinesAreThoseOfTcpdump(t *testing.T) {
	needTcpdump(t)
	tally := lineTally{links: map[string]int{}}
	dir := t.TempDir()
	for _, l := range madeLinks() {
		name := filepath.Join(dir, fmt.Sprint(l.linkType, ".pcapng"))
		writeLink(t, name, l)
		tally.compare(t, name)
	}
	made := filepath.Join(dir, "made.pcap")
	writeRandom(t, made, 300)
	tally.compare(t, made, "-e", "-X")
	tally.compare(t, made, "-xx")
	require.Greater(t, tally.same, 500)
	if testing.Short() {
		t.Logf("%+v", tally)
		return
	}
	for _, f := range realFiles(t) {
		tally.compare(t, f)
		tally.compare(t, f, "-e")
	}
	t.Logf("%+v", tally)
	assert.Greater(t, tally.same, 5000)
	assert.Less(t, tally.odd, 50)
	assert.GreaterOrEqual(t, len(tally.links), 8)
}
