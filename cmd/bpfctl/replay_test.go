package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// enough is the number of packets in a replay of some size.
const enough = 100_000

// bpfctl runs the program in this process.
func bpfctl(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func writeFile(t testing.TB, f capgen.Format, packets []capgen.Packet) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "in."+f.String())
	file, err := os.Create(name)
	require.NoError(t, err)
	require.NoError(t, capgen.Write(file, f, packets))
	require.NoError(t, file.Close())
	return name
}

// replayed replays a file, successfully, and returns the name of the new file.
func replayed(t testing.TB, in string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.pcapng")
	code, _, stderr := bpfctl(t, append([]string{"capture", "--replay", in, "-w", out}, args...)...)
	require.Zero(t, code, stderr)
	return out
}

// content has the contents of a pcapng file according to pcapgo.
type content struct {
	packets []capgen.Packet
	ifaces  []pcapgo.NgInterface
}

func parsePcapng(in io.Reader) (c content, err error) {
	r, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		return c, err
	}
	for {
		data, ci, err := r.ReadPacketData()
		if err == io.EOF {
			break
		} else if err != nil {
			return c, err
		}
		c.packets = append(c.packets, capgen.Packet{Interface: ci.InterfaceIndex, Time: ci.Timestamp,
			Data: data, WireLen: ci.Length})
	}
	for i := range r.NInterfaces() {
		iface, err := r.Interface(i)
		if err != nil {
			return c, err
		}
		c.ifaces = append(c.ifaces, iface)
	}
	return c, nil
}

func readPcapng(t testing.TB, name string) content {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	c, err := parsePcapng(bytes.NewReader(b))
	require.NoError(t, err)
	return c
}

// packetsIn counts the packets in a pcapng file, which must be whole.
func packetsIn(name string) (int, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	c, err := parsePcapng(bytes.NewReader(b))
	return len(c.packets), err
}

// requireSame compares packets exactly, and stops at the first that differs.
func requireSame(t testing.TB, want, got []capgen.Packet) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		w, g := want[i], got[i]
		if w.Interface != g.Interface || w.WireLen != g.WireLen || !w.Time.Equal(g.Time) ||
			!bytes.Equal(w.Data, g.Data) {
			require.Failf(t, "packet differs", "number %d: interface %d, %d of %d bytes at %v became "+
				"interface %d, %d of %d bytes at %v",
				i+1, w.Interface, len(w.Data), w.WireLen, w.Time.UnixNano(), g.Interface, len(g.Data),
				g.WireLen, g.Time.UnixNano())
		}
	}
	require.Len(t, got, len(want))
}

func formats() (all []capgen.Format) {
	for i := range 8 {
		all = append(all, capgen.Format{Pcapng: i&4 != 0, Nano: i&2 != 0, BigEndian: i&1 != 0})
	}
	return all
}

func TestReplayKeepsEveryPacket(t *testing.T) {
	for _, f := range formats() {
		t.Run(f.String(), func(t *testing.T) {
			n := enough
			if f.BigEndian {
				n /= 10
			}
			if testing.Short() {
				n /= 4
			}
			want := capgen.Packets(n, f, f.Pcapng, 1)
			got := readPcapng(t, replayed(t, writeFile(t, f, want)))
			requireSame(t, want, got.packets)

			ifaces := capgen.Interfaces[:1]
			if f.Pcapng {
				ifaces = capgen.Interfaces
			}
			require.Len(t, got.ifaces, len(ifaces))
			received := map[int]uint64{}
			for _, p := range want {
				received[p.Interface]++
			}
			for i, iface := range ifaces {
				if f.Pcapng {
					assert.Equal(t, iface.Name, got.ifaces[i].Name)
				}
				assert.EqualValues(t, iface.LinkType, got.ifaces[i].LinkType)
				assert.Equal(t, iface.SnapLen, got.ifaces[i].SnapLength)
				assert.EqualValues(t, 9, got.ifaces[i].TimestampResolution)
				assert.Equal(t, received[i], got.ifaces[i].Statistics.PacketsReceived, "received on %s",
					iface.Name)
				assert.Zero(t, got.ifaces[i].Statistics.PacketsDropped)
			}
		})
	}
}

func TestReplayInEveryModeAndSize(t *testing.T) {
	f := capgen.Format{Pcapng: true, Nano: true}
	want := capgen.Packets(5000, f, true, 2)
	in := writeFile(t, f, want)
	for _, args := range [][]string{
		{"--mode", "buffered"}, {"--mode", "zerocopy"}, {"--bufsize", "4096"}, {"--bufsize", "16K"},
		{"--bufsize", "2M"},
		{"--mode", "buffered", "--bufsize", "16K"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			requireSame(t, want, readPcapng(t, replayed(t, in, args...)).packets)
		})
	}
}

// The output can be replayed, and the second output is the same.
func TestReplayOfReplay(t *testing.T) {
	f := capgen.Format{Pcapng: true}
	want := capgen.Packets(2000, f, true, 3)
	once := replayed(t, writeFile(t, f, want))
	requireSame(t, want, readPcapng(t, replayed(t, once)).packets)
}

// tsharkFields has tshark say what it finds in a file.
func tsharkFields(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("tshark", "-r", name, "-o", "frame.generate_md5_hash:TRUE",
		"-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len",
		"-e", "frame.md5_hash").Output()
	require.NoError(t, err)
	return string(out)
}

func needTshark(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("NOT RUN: tshark (Debian package tshark) is not installed")
	}
}

func TestTsharkAgrees(t *testing.T) {
	needTshark(t)
	packets := enough
	if testing.Short() {
		packets /= 40 // tshark is slow
	}
	for _, f := range []capgen.Format{{}, {Pcapng: true, Nano: true}} {
		t.Run(f.String(), func(t *testing.T) {
			in := writeFile(t, f, capgen.Packets(packets, f, f.Pcapng, 4))
			want, got := tsharkFields(t, in), tsharkFields(t, replayed(t, in))
			require.Equal(t, packets, strings.Count(want, "\n"))
			require.True(t, want == got, "tshark finds other packets in the output than in the input")
		})
	}
}

// TestReplayOfRealCapture replays a capture of real traffic: the file that ZBUF_CAPTURE names, or
// else what tcpdump records of connections over the loopback interface.
func TestReplayOfRealCapture(t *testing.T) {
	needTshark(t)
	in := os.Getenv("ZBUF_CAPTURE")
	if in == "" {
		if testing.Short() {
			t.Skip("NOT RUN: recording traffic takes a while and -short is set")
		}
		in = recordLoopback(t, enough)
	}
	want, got := tsharkFields(t, in), tsharkFields(t, replayed(t, in))
	t.Logf("%d packets", strings.Count(want, "\n"))
	require.GreaterOrEqual(t, strings.Count(want, "\n"), enough, "packets in %s", in)
	require.True(t, want == got, "tshark finds other packets in the output than in the input")
}

// recordLoopback has tcpdump record so many packets of TCP and UDP over lo.
func recordLoopback(t *testing.T, packets int) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: no loopback interface called lo; name a capture by ZBUF_CAPTURE")
	}
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("NOT RUN: tcpdump (Debian package tcpdump) is not installed; name a capture by " +
			"ZBUF_CAPTURE")
	}
	name := filepath.Join(t.TempDir(), "lo.pcap")
	cmd := exec.Command("tcpdump", "-i", "lo", "-n", "-B", "16384", "--time-stamp-precision=nano",
		"-c", strconv.Itoa(packets), "-w", name)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := bufio.NewScanner(stderr)
	if !said.Scan() || !strings.Contains(said.Text(), "listening on") {
		text := said.Text()
		cmd.Wait()
		t.Skipf("NOT RUN: tcpdump can't capture here: %s; name a capture by ZBUF_CAPTURE", text)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var talk sync.WaitGroup
	talk.Go(func() { talkTCP(ctx) })
	talk.Go(func() { talkUDP(ctx) })
	for said.Scan() {
	}
	err = cmd.Wait()
	stop()
	talk.Wait()
	require.NoError(t, err)
	return name
}

// talkTCP makes connections to itself, one after the other, until ctx is done.
func talkTCP(ctx context.Context) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	for n := 1; ctx.Err() == nil; n = n*3%65536 + 1 {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			return
		}
		go func() {
			c.Write(bytes.Repeat([]byte("zbuf "), n))
			c.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(io.Discard, c)
		c.Close()
	}
}

// talkUDP sends datagrams of all sizes to itself until ctx is done.
func talkUDP(ctx context.Context) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer c.Close()
	buf := make([]byte, 9000)
	for n := 0; ctx.Err() == nil; n = (n + 131) % len(buf) {
		c.WriteTo(buf[:n], c.LocalAddr())
		c.ReadFrom(buf)
	}
}

// With a filter the kernel decides which packets there are. So the file alone does not tell the
// order between interfaces.
func TestReplayWithFilterKeepsTheOrder(t *testing.T) {
	f := capgen.Format{Pcapng: true, Nano: true}
	packets := capgen.Packets(20_000, f, true, 5)
	var want []capgen.Packet
	for _, p := range packets {
		if p.WireLen > 300 {
			p.Data = p.Data[:min(len(p.Data), 100)]
			want = append(want, p)
		}
	}
	filter := filepath.Join(t.TempDir(), "longer")
	require.NoError(t, os.WriteFile(filter,
		[]byte("4\n128 0 0 0\n37 0 1 300\n6 0 0 4294967295\n6 0 0 0\n"), 0o666))
	got := readPcapng(t, replayed(t, writeFile(t, f, packets), "--filter", filter, "--snaplen", "100"))
	requireSame(t, want, got.packets)
	assert.EqualValues(t, 96, got.ifaces[2].SnapLength)
	assert.EqualValues(t, 100, got.ifaces[0].SnapLength)
}

// sized is a packet of n bytes.
func sized(n int) capgen.Packet {
	var p capgen.Packet
	p.Time = time.Unix(1_700_000_000, 0)
	p.Data = bytes.Repeat([]byte{0xa5}, n)
	p.WireLen = n
	return p
}

func TestReplayOfPacketsLargerThanBuffers(t *testing.T) {
	f := capgen.Format{Pcapng: true}
	var want []capgen.Packet
	for _, n := range []int{0, 1, 60, 262144, 5, 523_000, 524_200, 524_288, 1, 2_000_000, 0, 0, 7,
		2_090_000} {
		want = append(want, sized(n))
	}
	in := writeFile(t, f, want)
	requireSame(t, want, readPcapng(t, replayed(t, in)).packets)
	requireSame(t, want, readPcapng(t, replayed(t, in, "--bufsize", "4K")).packets)

	out := filepath.Join(t.TempDir(), "out.pcapng")
	code, _, stderr := bpfctl(t, "capture", "--replay",
		writeFile(t, f, append(want, sized(2<<20), sized(1))), "-w", out)
	assert.Equal(t, exitFail, code)
	assert.Contains(t, stderr, "packet of 2097152 bytes is more than a buffer of bpf(4) can have")
	requireSame(t, want, readPcapng(t, out).packets)
}

// A file may be cut anywhere. The replay captures the whole packets. It reports the cut unless that
// is between packets.
func TestReplayOfCutFiles(t *testing.T) {
	for _, f := range formats() {
		t.Run(f.String(), func(t *testing.T) {
			want := capgen.Packets(6, f, f.Pcapng, 7)
			var file bytes.Buffer
			require.NoError(t, capgen.Write(&file, f, want))
			dir := t.TempDir()
			cuts := map[int]bool{}
			most, near := 100, 5 // cuts anywhere, and bytes around the end of a packet
			if testing.Short() {
				most, near = 25, 1
			}
			for n := 0; n < file.Len(); n += 1 + file.Len()/most {
				cuts[n] = true
			}
			for i := range want { // around the ends of packets
				var upTo bytes.Buffer
				require.NoError(t, capgen.Write(&upTo, f, want[:i]))
				for n := -near; n <= 12+near; n++ {
					if !testing.Short() || n <= near || n >= 12 {
						cuts[upTo.Len()+n] = true
					}
				}
			}
			for n := range cuts {
				in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
				require.NoError(t, os.WriteFile(in, file.Bytes()[:n], 0o666))
				os.Remove(out)
				code, _, stderr := bpfctl(t, "capture", "--replay", in, "-w", out)
				var got []capgen.Packet
				if _, err := os.Stat(out); err == nil {
					got = readPcapng(t, out).packets
				}
				requireSame(t, want[:len(got)], got)
				var rest bytes.Buffer
				require.NoError(t, capgen.Write(&rest, f, want[:len(got)]))
				if code == exitOK {
					require.True(t, rest.Len() == n || len(got) == 0 && n < rest.Len() && f.Pcapng,
						"cut at %d of %d: no complaint, %d packets", n, file.Len(), len(got))
				} else {
					require.Contains(t, stderr, "broken capture file", "cut at %d", n)
				}
			}
		})
	}
}
