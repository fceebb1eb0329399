package pcapio

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fileWriter has the methods of both writers.
type fileWriter interface {
	AddInterface(Interface) (int, error)
	WritePacket(iface int, sec, nsec int64, data []byte, wirelen int) error
	WriteStatistics(iface int, s Statistics) error
	Flush() error
	Finish() error
}

var (
	_ fileWriter = (*Writer)(nil)
	_ fileWriter = (*PcapWriter)(nil)
)

func TestFileWithoutInterfaces(t *testing.T) {
	for name, open := range map[string]func(w io.Writer) fileWriter{
		"pcapng": func(w io.Writer) fileWriter { return NewWriter(w) },
		"pcap":   func(w io.Writer) fileWriter { return NewPcapWriter(w, true) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, open(&b).Finish())
			r, err := NewReader(&b)
			require.NoError(t, err)
			_, err = r.Next()
			assert.Equal(t, io.EOF, err)
		})
	}
}

func randomText(rnd *rand.Rand) string { return strings.Repeat("x", rnd.IntN(20)*rnd.IntN(2)) }

// Every byte of a pcapng file is the same as from the library's writer.
func TestWriterAgreesWithPcapgo(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		var got, want bytes.Buffer
		w := NewWriter(&got)
		var ng *pcapgo.NgWriter
		ifaces := 0
		for range 200 {
			switch n := rnd.IntN(20); {
			case n == 0 || ifaces == 0:
				i := Interface{
					Name: randomText(rnd), Description: randomText(rnd), Comment: randomText(rnd),
					Filter: randomText(rnd), OS: randomText(rnd),
					LinkType: uint16(rnd.Uint32()), SnapLen: rnd.Uint32(),
				}
				theirs := pcapgo.NgInterface{
					Name: i.Name, Description: i.Description, Comment: i.Comment, Filter: i.Filter, OS: i.OS,
					LinkType: layers.LinkType(i.LinkType), SnapLength: i.SnapLen,
				}
				number, err := w.AddInterface(i)
				require.NoError(t, err)
				require.Equal(t, ifaces, number)
				if ifaces++; ifaces == 1 {
					ng, err = pcapgo.NewNgWriterInterface(&want, theirs, pcapgo.NgWriterOptions{
						SectionInfo: pcapgo.NgSectionInfo{Application: application(), OS: runtime.GOOS},
					})
				} else {
					_, err = ng.AddInterface(theirs)
				}
				require.NoError(t, err)
			case n == 1:
				s := Statistics{Received: rnd.Uint64() >> 1, Dropped: rnd.Uint64() >> 1}
				if rnd.IntN(2) == 0 {
					s.Start = time.Unix(0, int64(rnd.Uint64()>>1))
				}
				if rnd.IntN(2) == 0 {
					s.End = time.Unix(0, int64(rnd.Uint64()>>1))
				}
				iface := rnd.IntN(ifaces)
				require.NoError(t, w.WriteStatistics(iface, s))
				require.NoError(t, ng.WriteInterfaceStats(iface, pcapgo.NgInterfaceStatistics{
					LastUpdate: s.End, StartTime: s.Start, EndTime: s.End, PacketsReceived: s.Received,
					PacketsDropped: s.Dropped,
				}))
			default:
				data := make([]byte, rnd.IntN(200))
				for i := range data {
					data[i] = byte(rnd.Uint32())
				}
				at := time.Unix(rnd.Int64N(maxSeconds), rnd.Int64N(1e9))
				ci := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(data),
					Length: len(data) + rnd.IntN(2000), InterfaceIndex: rnd.IntN(ifaces)}
				require.NoError(t, w.WritePacket(ci.InterfaceIndex, at.Unix(), int64(at.Nanosecond()), data,
					ci.Length))
				require.NoError(t, ng.WritePacket(ci, data))
			}
		}
		require.NoError(t, w.Finish())
		require.NoError(t, ng.Flush())
		require.Equal(t, want.Bytes(), got.Bytes(), "seed %d", seed)
	}
}

// Reader and the library read a written pcap file, to the nanosecond or the microsecond.
func TestPcapWriter(t *testing.T) {
	for name, nano := range map[string]bool{"ns": true, "µs": false} {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(9, 5))
			var file bytes.Buffer
			w := NewPcapWriter(&file, nano)
			for want := range 2 {
				number, err := w.AddInterface(Interface{Name: "em0", LinkType: 101, SnapLen: 96})
				require.NoError(t, err)
				require.Equal(t, want, number)
			}
			var want []Packet
			for range 500 {
				data := make([]byte, rnd.IntN(2000))
				data = append(data, byte(rnd.Uint32()))
				p := Packet{Time: time.Unix(int64(rnd.Uint32()), rnd.Int64N(1e9)), Data: data,
					WireLen: len(data) + rnd.IntN(100)}
				require.NoError(t, w.WritePacket(rnd.IntN(2), p.Time.Unix(), int64(p.Time.Nanosecond()), p.Data,
					p.WireLen))
				if !nano {
					p.Time = p.Time.Truncate(time.Microsecond)
				}
				want = append(want, p)
			}
			require.NoError(t, w.WriteStatistics(0, Statistics{Received: 7}))
			require.NoError(t, w.Finish())

			r, err := NewReader(bytes.NewReader(file.Bytes()))
			require.NoError(t, err)
			got, err := readAll(r)
			require.NoError(t, err)
			require.Equal(t, len(want), len(got))
			for i := range want {
				require.Equal(t, want[i].Time.UnixNano(), got[i].Time.UnixNano())
				require.Equal(t, want[i].Data, got[i].Data)
				require.Equal(t, want[i].WireLen, got[i].WireLen)
			}
			assert.Equal(t, []Interface{{LinkType: 101, SnapLen: sparedSnapLen}}, r.Interfaces())
			theirs := pcapgoPackets(file.Bytes())
			require.Len(t, theirs, len(want))
			for i := range want {
				require.Equal(t, want[i].Time.UnixNano(), theirs[i].Time.UnixNano())
				require.Equal(t, want[i].Data, theirs[i].Data)
			}
		})
	}
}

// The writers refuse packets and interfaces that do not fit into a file, and write nothing of them.
func TestWritersRefuse(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	for _, c := range []struct {
		name string
		do   func(w fileWriter) error
		pcap string // what each says, or "" if it is written
		ng   string
	}{
		{"unknown interface", func(w fileWriter) error { return w.WritePacket(1, 0, 0, nil, 0) },
			"no interface 1", "no interface 1"},
		{"negative interface", func(w fileWriter) error { return w.WritePacket(-1, 0, 0, nil, 0) },
			"no interface -1", "no interface -1"},
		{"statistics of none", func(w fileWriter) error { return w.WriteStatistics(1, Statistics{}) },
			"no interface 1", "no interface 1"},
		{"longer than itself", func(w fileWriter) error {
			return w.WritePacket(0, 0, 0, []byte{1, 2},
				1)
		}, "of which 2 were captured", "of which 2 were captured"},
		{"before 1970", func(w fileWriter) error { return w.WritePacket(0, -1, 0, nil, 0) },
			"-1 s after 1970", "-1 s after 1970"},
		{"after 2106", func(w fileWriter) error { return w.WritePacket(0, 1<<32, 0, nil, 0) },
			"4294967296 s after 1970", ""},
		{"after 2262", func(w fileWriter) error { return w.WritePacket(0, maxSeconds+1, 0, nil, 0) },
			"9223372036 s after 1970", "9223372036 s after 1970"},
		{"300 kB", func(w fileWriter) error {
			return w.WritePacket(0, 0, 0, make([]byte, 300_000),
				300_000)
		}, "pcapng has room", ""},
		{"another link type", func(w fileWriter) error {
			_,
				err := w.AddInterface(Interface{LinkType: 2})
			return err
		}, "pcap has one link type", ""},
		{"long name", func(w fileWriter) error {
			_,
				err := w.AddInterface(Interface{LinkType: 1,
				Name: long})
			return err
		}, "", "an option of 65536 bytes"},
		{"long filter", func(w fileWriter) error {
			_, err := w.AddInterface(Interface{LinkType: 1, Filter: long[1:]})
			return err
		}, "", "an option of 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ng, pcap bytes.Buffer
			for _, x := range []struct {
				w    fileWriter
				file *bytes.Buffer
				want string
			}{{NewWriter(&ng), &ng, c.ng}, {NewPcapWriter(&pcap, true), &pcap, c.pcap}} {
				_, err := x.w.AddInterface(Interface{LinkType: 1, SnapLen: 96})
				require.NoError(t, err)
				require.NoError(t, x.w.Flush())
				before := x.file.Len()
				err = c.do(x.w)
				require.NoError(t, x.w.Flush())
				if x.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, x.want)
					require.Equal(t, before, x.file.Len())
				}
				r, err := NewReader(x.file)
				require.NoError(t, err)
				_, err = readAll(r)
				require.NoError(t, err)
			}
		})
	}
}

// Other programs read the files, where they are installed.
func TestOtherProgramsRead(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{}
	for name, open := range map[string]func(w io.Writer) fileWriter{
		"pcapng":  func(w io.Writer) fileWriter { return NewWriter(w) },
		"pcap-ns": func(w io.Writer) fileWriter { return NewPcapWriter(w, true) },
		"pcap-us": func(w io.Writer) fileWriter { return NewPcapWriter(w, false) },
	} {
		var b bytes.Buffer
		w := open(&b)
		_, err := w.AddInterface(Interface{Name: "em0", LinkType: 1, SnapLen: 262144})
		require.NoError(t, err)
		for i := range int64(100) {
			require.NoError(t, w.WritePacket(0, 1_700_000_000+i, 123_456_789, make([]byte, 60+i),
				100+int(i)))
		}
		require.NoError(t, w.WriteStatistics(0,
			Statistics{End: time.Unix(1_700_000_100, 0), Received: 100}))
		require.NoError(t, w.Finish())
		files[name] = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(files[name], b.Bytes(), 0o600))
	}
	for _, program := range []struct {
		name string
		args []string
		want map[string]string
	}{
		{"tcpdump", []string{"--nano", "-tt", "-n", "-r"},
			map[string]string{"pcapng": "1700000099.123456789 ", "pcap-ns": "1700000099.123456789 ",
				"pcap-us": "1700000099.123456000 "}},
		{"tshark", []string{"-t", "e", "-r"},
			map[string]string{"pcapng": "1700000099.123456789 ", "pcap-ns": "1700000099.123456789 ",
				"pcap-us": "1700000099.123456 "}},
		{"capinfos", []string{"-M", "-c"},
			map[string]string{"pcapng": "100\n", "pcap-ns": "100\n", "pcap-us": "100\n"}},
	} {
		t.Run(program.name, func(t *testing.T) {
			if _, err := exec.LookPath(program.name); err != nil {
				t.Skipf("NOT RUN: %s is not installed", program.name)
			}
			for name, file := range files {
				out, err := exec.Command(program.name, append(program.args, file)...).Output()
				require.NoError(t, err, name)
				require.Contains(t, string(out), program.want[name], name)
			}
		})
	}
}

func TestWritePacketDoesNotAllocate(t *testing.T) {
	for _, w := range []fileWriter{NewWriter(io.Discard), NewPcapWriter(io.Discard, true)} {
		_, err := w.AddInterface(Interface{})
		require.NoError(t, err)
		data := make([]byte, 99)
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			if w.WritePacket(0, 1, 2, data, math.MaxInt32) != nil {
				t.Fail()
			}
		}))
	}
}
