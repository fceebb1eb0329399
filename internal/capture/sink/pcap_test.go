package sink

import (
	"bytes"
	"io"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// A pcap file takes interfaces of other link types, but none of their packets.
func TestPcapHasPacketsOfOneLinkType(t *testing.T) {
	packets := fixture.Packets(t, 3, 100)
	for _, format := range []string{Pcap, PcapNano} {
		var b bytes.Buffer
		s := New(Spec{Format: format}, &b)
		for _, i := range []pcapio.Interface{
			{Name: "gif0", LinkType: 0}, {Name: "em0", LinkType: 1}, {Name: "lo\x1b", LinkType: 0},
		} {
			require.NoError(t, s.AddInterface(i))
		}
		require.NoError(t, s.Flush())
		require.Zero(t, b.Len(), "the link type is not known yet")
		packets[0].Interface = 1
		require.NoError(t, s.WritePacket(packets[0]))
		require.NoError(t, s.AddInterface(pcapio.Interface{Name: "em1", LinkType: 1}))
		packets[1].Interface, packets[2].Interface = 3, 2
		require.NoError(t, s.Write(&capture.Batch{Packets: packets[1:2]}))
		require.EqualError(t, s.WritePacket(packets[2]), "can't write to standard output: "+
			"pcap has one link type for all packets, and that of interface em0 is 1 (LINKTYPE_), "+
			`that of interface lo\x1b 0: write pcapng, or pick packets of one of them`)
		require.NoError(t, s.Finish(nil))

		r, err := pcapgo.NewReader(&b)
		require.NoError(t, err)
		require.EqualValues(t, 1, r.LinkType())
		for _, p := range packets[:2] {
			data, info, err := r.ReadPacketData()
			require.NoError(t, err)
			require.Equal(t, p.Data, data)
			require.Equal(t, p.Sec, info.Timestamp.Unix())
			unit := map[string]int64{Pcap: 1000, PcapNano: 1}[format]
			require.Equal(t, p.Nsec/unit*unit, int64(info.Timestamp.Nanosecond()))
		}
		_, _, err = r.ReadPacketData()
		require.Equal(t, io.EOF, err)
	}
}

// A program that reads along gets the head of the file before the first packet.
func TestPcapBeginsWithTheFirstFlush(t *testing.T) {
	for format, head := range map[string]string{
		Pcap: "\xd4\xc3\xb2\xa1", PcapNano: "\x4d\x3c\xb2\xa1",
	} {
		var b bytes.Buffer
		s := New(Spec{Format: format}, &b)
		require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 113}))
		require.NoError(t, s.Flush())
		require.Equal(t, head, b.String()[:4])
		require.Equal(t, 24, b.Len())
		require.EqualValues(t, 113, b.Bytes()[20])
		require.NoError(t, s.Flush())
		require.NoError(t, s.Finish(nil))
		require.Equal(t, 24, b.Len())
	}
}

// What pcap has no place for is said. Pcapng has a place for it.
func TestPcapSaysWhatIsLost(t *testing.T) {
	packets := fixture.Packets(t, 2, 100)
	packets[0].Comments = []string{"one", "two"}
	for format, want := range map[string][]string{
		Pcap: {namesLost, commentsLost}, PcapNano: {namesLost, commentsLost}, Pcapng: nil,
	} {
		var said []string
		s := New(Spec{Format: format, Say: func(n string) { said = append(said, n) }}, io.Discard)
		for range 3 {
			require.NoError(t, s.AddInterface(pcapio.Interface{LinkType: 1}))
		}
		require.NoError(t, s.Write(&capture.Batch{Packets: packets}))
		require.NoError(t, s.Finish(nil))
		require.Equal(t, want, said)
	}
}
