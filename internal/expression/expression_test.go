package expression

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/filter"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// In a file of any system, IPv6 on the loopback interface is found by any number that it has there.
func TestAddressFamiliesOfFilesOfOtherSystems(t *testing.T) {
	for _, linkType := range []uint16{0, 108} {
		for _, big := range []bool{false, true} {
			var order binary.AppendByteOrder = binary.LittleEndian
			if big || linkType == 108 {
				order = binary.BigEndian
			}
			opt := ForFile(pcapio.Interface{LinkType: linkType, BigEndian: big})
			prog, err := filter.Compile("ip6", opt)
			require.NoError(t, err)
			for family, want := range map[uint32]bool{2: false, 10: true, 24: true, 28: true, 29: false,
				30: true} {
				packet := append(order.AppendUint32(nil, family), make([]byte, 40)...)
				got, err := filter.Run(prog, packet, len(packet))
				require.NoError(t, err)
				assert.Equal(t, want, got > 0, "link type %d, big-endian %v, family %d", linkType, big, family)
			}
		}
	}
}

func TestReadTakesCommentsAway(t *testing.T) {
	name := filepath.Join(t.TempDir(), "expression")
	require.NoError(t, os.WriteFile(name, []byte("tcp # not udp\nport 80\n# end\n"), 0o644))
	text, err := Read(name)
	require.NoError(t, err)
	assert.Equal(t, []string{"tcp", "port", "80"}, strings.Fields(text))
}

// Every packet of a file is explained by the program for its interface. An interface whose packets
// can't match has a program that says so.
func TestWhyExplainsEveryPacket(t *testing.T) {
	var file bytes.Buffer
	w := pcapio.NewWriter(&file)
	for _, linkType := range []uint16{1, 0} {
		_, err := w.AddInterface(pcapio.Interface{LinkType: linkType})
		require.NoError(t, err)
	}
	arp := append(make([]byte, 12), 8, 6)
	for i, p := range [][]byte{append(arp, 0, 0), arp[:13], {28, 0, 0, 0}} {
		require.NoError(t, w.WritePacket(i/2, 1, 0, p, len(p)))
	}
	require.NoError(t, w.Finish())
	var out strings.Builder
	require.NoError(t, Why(&out, &file, "arp", filter.Options{}))
	assert.Equal(t, `interface 0 (EN10MB), the program:
  (000) ldh      [12]
  (001) jeq      #0x806           jt 2	jf 3
  (002) ret      #262144
  (003) ret      #0
packet 1 matches:
  (000) ldh [12]                               A=0x806 X=0x0
  (001) jeq #0x806 jt 2 jf 3                   A=0x806 X=0x0
  (002) ret #262144                            the verdict
packet 2 does not match:
  (000) ldh [12]                               refused: no such byte was captured
interface 1 (NULL), the program:
  (000) ret      #0
packet 3 does not match:
  (000) ret #0                                 the verdict
`, out.String())
	err := Why(&out, strings.NewReader("x"), "arp", filter.Options{})
	assert.ErrorContains(t, err, "broken capture file")
}
