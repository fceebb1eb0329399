package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// everywhere are expressions that make sense on every link type with IP.
var everywhere = []string{
	"ip", "ip6", "not ip", "tcp", "udp", "icmp or icmp6", "port 53", "udp port 53 or 123",
	"tcp port 80 or 443", "src host 10.0.0.1", "net 10.0.0.0/8 and not udp", "portrange 1-1023",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "ip[8] < 64 and greater 60", "ip6 and udp",
	"ip multicast or ip6 multicast", "less 100", "ip[6:2] & 0x1fff != 0",
}

// besides are those that other link types can answer too.
var besides = map[uint32][]string{
	zbuf.DLT_EN10MB: {"arp", "vlan", "vlan and ip", "mpls", "pppoes and ip", "ether multicast",
		"ether proto 0x88cc", "stp or llc", "ether src host 00:11:22:33:44:55", "broadcast"},
	zbuf.DLT_IEEE802_11: {"type mgt", "type data", "subtype beacon",
		"wlan addr1 ff:ff:ff:ff:ff:ff"},
	zbuf.DLT_IEEE802_11_RADIO: {"type mgt", "type ctl", "subtype beacon", "multicast"},
	zbuf.DLT_LINUX_SLL:        {"arp", "inbound", "outbound"},
	zbuf.DLT_PPP:              {"mpls"},
}

// known are the link types whose headers package filter knows.
var known = []uint32{
	zbuf.DLT_EN10MB, zbuf.DLT_NULL, zbuf.DLT_LOOP, zbuf.DLT_RAW, zbuf.DLT_PPP, zbuf.DLT_PPP_SERIAL,
	zbuf.DLT_IEEE802_11, zbuf.DLT_IEEE802_11_RADIO, zbuf.DLT_LINUX_SLL, 276, 228, 229,
}

// `bpfctl capture --replay FILE EXPRESSION` picks the packets that `tcpdump -r FILE EXPRESSION`
// picks, from files of ten link types that the test makes.
func TestReplayPicksWhatTcpdumpPicks(t *testing.T) {
	needTcpdump(t)
	dir := t.TempDir()
	tally := newTally()
	for _, l := range madeLinks() {
		name := filepath.Join(dir, fmt.Sprint(l.linkType, ".pcapng"))
		writeLink(t, name, l)
		tally.compare(t, name)
	}
	t.Log(tally)
	assert.GreaterOrEqual(t, len(tally.links), 10, "link types")
	assert.Greater(t, tally.picked, 200)
	assert.Greater(t, tally.left, 200)
}

// The same, over the files that Debian's source package of tcpdump has for its own tests.
func TestReplayPicksWhatTcpdumpPicksFromRealFiles(t *testing.T) {
	needTcpdump(t)
	files := realFiles(t)
	tally := newTally()
	most := map[bool]int{true: 2, false: 12}[testing.Short()] // files of a link type
	for _, f := range files {
		if dlt, _, err := linkOf(f); err != nil || tally.links[zbuf.DLTName(dlt)] < most {
			tally.compare(t, f)
		}
	}
	t.Log(tally)
	assert.GreaterOrEqual(t, len(tally.links), 10, "link types")
	assert.Greater(t, tally.picked, 200)
}

func needTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skipf("there is no tcpdump to compare with: %v", err)
	}
}

// realFiles fetches Debian's source package of tcpdump with apt-get, once, and returns the capture
// files of its tests.
func realFiles(t *testing.T) []string {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no folder for the source package of tcpdump: %v", err)
	}
	dir := filepath.Join(cache, "zbuf-sources")
	pattern := filepath.Join(dir, "tcpdump-*", "tests", "*.pcap*")
	if files, _ := filepath.Glob(pattern); len(files) > 0 {
		return files
	}
	if testing.Short() {
		t.Skip("the source package of tcpdump is not here, and the short form fetches nothing")
	}
	if err := fetchSource(dir, "tcpdump"); err != nil {
		t.Skipf("the source package of tcpdump can't be fetched: %v", err)
	}
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// fetchSource fetches a source package and unpacks it. It changes nothing of the system's lists.
func fetchSource(dir, pkg string) error {
	if err := os.MkdirAll(filepath.Join(dir, "lists", "partial"), 0o755); err != nil {
		return err
	}
	list := filepath.Join(dir, "sources.list")
	// The archives that this machine has its own packages from have the sources, too.
	entries, err := exec.Command("apt-get", "indextargets", "--format",
		"deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages").Output()
	if err != nil {
		return fmt.Errorf("apt-get indextargets: %w", err)
	}
	if err := os.WriteFile(list, entries, 0o644); err != nil {
		return err
	}
	options := []string{"-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + dir, "-q"}
	apt := func(name string, args ...string) error {
		c := exec.Command(name, args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := apt("apt-get", append(options, "update")...); err != nil {
		return err
	}
	fetch := append(options, "source", "--download-only", "--only-source", pkg)
	if err := apt("apt-get", fetch...); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(dir, pkg+"_*.orig.tar.gz"))
	if err != nil || len(archives) == 0 {
		return errors.New("it has no archive")
	}
	return apt("tar", "-xzf", archives[0])
}

// tally counts the comparisons.
type tally struct {
	links                         map[string]int
	questions, refused            int
	picked, left, unread, foreign int
}

func newTally() *tally { return &tally{links: map[string]int{}} }

func (y *tally) String() string {
	return fmt.Sprintf("%d questions of %v files by link type: %d packets picked by both, %d left; "+
		"%d questions refused by both; %d files that tcpdump or bpfctl does not read, %d of other "+
		"link types", y.questions, y.links, y.picked, y.left, y.refused, y.unread, y.foreign)
}

// compare asks both about one file.
func (y *tally) compare(t *testing.T, file string) {
	dlt, total, err := linkOf(file)
	if err != nil {
		y.unread++
		return
	}
	if !slices.Contains(known, dlt) {
		y.foreign++
		return
	}
	y.links[zbuf.DLTName(dlt)]++
	for _, e := range slices.Concat(everywhere, besides[dlt]) {
		y.questions++
		want, refused := tcpdumpPicks(t, file, e)
		out := filepath.Join(t.TempDir(), "out.pcapng")
		var stdout, stderr bytes.Buffer
		code := run([]string{"capture", "--replay", file, "-w", out, e}, nil, &stdout, &stderr)
		if refused {
			y.refused++
			if code == exitOK { // only an interface of a pcapng file may match nothing
				assert.Equal(t, ".pcapng", filepath.Ext(file), "%s %q: tcpdump refuses it", file, e)
				assert.Empty(t, picks(t, out), "%s %q: tcpdump refuses it", file, e)
				continue
			}
			assert.Equal(t, exitUsage, code, "%s %q: tcpdump refuses it; bpfctl: %s", file, e, &stderr)
			continue
		}
		if !assert.Equal(t, exitOK, code, "%s %q: %s", file, e, &stderr) {
			continue
		}
		got := picks(t, out)
		if dlt == zbuf.DLT_IEEE802_11 || dlt == zbuf.DLT_IEEE802_11_RADIO {
			got = withoutShort(got, want)
		}
		if assert.Equal(t, want, got, "%s %q", file, e) {
			y.picked += len(got)
			y.left += total - len(got)
		}
	}
}

// withoutShort leaves out what only bpfctl picks, if it is less than a header of 802.11 and IPv4.
// libpcap works out the header's length and reads what is behind it, even if nothing needs that. It
// is one of the deliberate differences of package filter.
func withoutShort(got, want []string) (rest []string) {
	const headers = 8 + 24 + 8 + 20
	for _, p := range got {
		_, data, _ := strings.Cut(p, " ")
		if slices.Contains(want, p) || len(data)/2 > 2*headers {
			rest = append(rest, p)
		}
	}
	return rest
}

// linkOf returns the link type of a file's only interface, and how many packets it has.
func linkOf(file string) (dlt uint32, n int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	in, err := pcapio.NewReader(f)
	for err == nil {
		if _, err = in.Next(); err == nil {
			n++
		}
	}
	if err != io.EOF {
		return 0, 0, err
	}
	if len(in.Interfaces()) != 1 {
		return 0, 0, errors.New("not one interface")
	}
	return zbuf.LinkTypeToDLT(in.Interfaces()[0].LinkType), n, nil
}

// tcpdumpPicks returns the packets that tcpdump picks.
func tcpdumpPicks(t *testing.T, file, expression string) (packets []string, refused bool) {
	out := filepath.Join(t.TempDir(), "out.pcap")
	c := exec.Command("tcpdump", "-n", "-r", file, "-w", out, expression)
	message, err := c.CombinedOutput()
	if err != nil {
		require.NoFileExists(t, out, "%s: %s", c, message)
		return nil, true
	}
	return picks(t, out), false
}

// picks returns the packets of a file, each as a line. Times are left out: a damaged file can have
// more microseconds than a second has, and tcpdump writes them on. Bytes beyond the file's snap
// length, which a damaged file can have too, are left out: libpcap does not read them.
func picks(t *testing.T, file string) (packets []string) {
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	in, err := pcapio.NewReader(f)
	require.NoError(t, err)
	for {
		p, err := in.Next()
		if err == io.EOF {
			return packets
		}
		require.NoError(t, err)
		if snap := in.Interfaces()[p.Interface].SnapLen; snap > 0 && int(snap) < len(p.Data) {
			p.Data = p.Data[:snap]
		}
		packets = append(packets, fmt.Sprintf("%d %x", p.WireLen, p.Data))
	}
}

// madeLink is a link type with the headers of IPv4 and IPv6 on it, and packets of other kinds.
type madeLink struct {
	linkType uint16
	v4, v6   string
	others   []string
}

func madeLinks() []madeLink {
	const macs = "\xff\xff\xff\xff\xff\xff\x00\x11\x22\x33\x44\x55"
	wlan := "\x08\x01\x00\x00" + macs + macs[:6] + "\x00\x00"
	beacon := "\x80\x00\x00\x00" + macs + macs[:6] + "\x00\x00" + strings.Repeat("\x00", 20)
	radio := "\x00\x00\x08\x00\x00\x00\x00\x00"
	sll := "\x00\x00\x00\x01\x00\x06\x00\x11\x22\x33\x44\x55\x00\x00"
	sll2 := strings.Repeat("\x00", 8) + "\x00\x01\x04\x06" + macs[:6] + "\x00\x00"
	snap := "\xaa\xaa\x03\x00\x00\x00"
	arp := "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" + macs[6:] + "\x0a\x00\x00\x01" +
		strings.Repeat("\x00", 6) + "\x0a\x00\x00\x02"
	return []madeLink{
		{1, macs + "\x08\x00", macs + "\x86\xdd", []string{macs + arp,
			macs + "\x81\x00\x00\x05\x08\x00E\x00", macs + "\x00\x07\x42\x42\x03\x00\x00\x00\x00"}},
		{0, "\x02\x00\x00\x00", "\x1c\x00\x00\x00", nil},
		{108, "\x00\x00\x00\x02", "\x00\x00\x00\x1c", nil},
		{101, "", "", nil},
		{9, "\xff\x03\x00\x21", "\xff\x03\x00\x57", []string{"\xff\x03\xc0\x21\x01\x01\x00\x04"}},
		{50, "\xff\x03\x00\x21", "\xff\x03\x00\x57", []string{"\xff\x03\xc0\x21\x01\x01\x00\x04"}},
		{105, wlan + snap + "\x08\x00", wlan + snap + "\x86\xdd", []string{beacon}},
		{127, radio + wlan + snap + "\x08\x00", radio + wlan + snap + "\x86\xdd",
			[]string{radio + beacon, radio + "\xc4\x00\x00\x00" + macs[:6]}},
		{113, sll + "\x08\x00", sll + "\x86\xdd", []string{sll + arp}},
		{276, "\x08\x00" + sll2[2:], "\x86\xdd" + sll2[2:], nil},
		{228, "", "-", nil},
		{229, "-", "", nil},
	}
}

// writeLink writes a file with packets of one link type.
func writeLink(t *testing.T, name string, l madeLink) {
	v4 := func(proto, fragment byte, to string, rest string) string {
		n := 20 + len(rest)
		return "E\x00" + string([]byte{byte(n >> 8), byte(n)}) + "\x00\x01\x00" +
			string([]byte{fragment}) + "\x40" + string([]byte{proto}) +
			"\x00\x00\x0a\x00\x00\x01" + to + rest
	}
	v6 := func(next byte, to string, rest string) string {
		return "\x60\x00\x00\x00\x00" + string([]byte{byte(len(rest)), next}) + "\x40" +
			"\xfe\x80" + strings.Repeat("\x00", 13) + "\x01" + to + rest
	}
	dns, web := "\x30\x39\x00\x35\x00\x08\x00\x00", "\x30\x39\x00\x50"+strings.Repeat("\x00", 8)+
		"\x50\x02\x04\x00\x00\x00\x00\x00"
	all6 := "\xff\x02" + strings.Repeat("\x00", 13) + "\x01"
	packets := slices.Clone(l.others)
	if l.v4 != "-" {
		for _, p := range []string{
			v4(17, 0, "\x0a\x00\x00\x02", dns), v4(6, 0, "\x08\x08\x08\x08", web),
			v4(1, 0, "\x0a\x00\x00\x02", "\x08\x00\x00\x00\x00\x00\x00\x00"),
			v4(17, 3, "\x0a\x00\x00\x02", dns), v4(2, 0, "\xe0\x00\x00\x01", strings.Repeat("\x00", 80)),
		} {
			packets = append(packets, l.v4+p)
		}
	}
	if l.v6 != "-" {
		for _, p := range []string{v6(17, all6, dns), v6(6, all6, web),
			v6(58, all6, "\x80\x00\x00\x00"), v6(44, all6, "\x11\x00\x00\x08\x00\x00\x00\x01"+dns)} {
			packets = append(packets, l.v6+p)
		}
	}
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	w := pcapio.NewWriter(f)
	_, err = w.AddInterface(pcapio.Interface{LinkType: l.linkType, SnapLen: 262144})
	require.NoError(t, err)
	at := time.Unix(1e9, 0)
	for i, p := range packets {
		for _, n := range []int{len(p), max(len(p)-9, 1)} { // whole, and cut
			require.NoError(t, w.WritePacket(0, at.Unix()+int64(i), 7, []byte(p[:n]), len(p)))
		}
	}
	require.NoError(t, w.Finish())
}
