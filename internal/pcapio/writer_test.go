package pcapio

import (
	"bytes"
	"io"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packets counts those of a pcapng file that must be whole.
func packets(t *testing.T, file []byte) (n int) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	require.NoError(t, err)
	for {
		if _, _, err := r.ReadPacketData(); err == io.EOF {
			return n
		} else {
			require.NoError(t, err)
		}
		n++
	}
}

func TestFileWithoutInterfaces(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, NewWriter(&b).Finish())
	assert.Zero(t, packets(t, b.Bytes()))
}

func TestWritePacketDoesNotAllocate(t *testing.T) {
	w := NewWriter(io.Discard)
	_, err := w.AddInterface(Interface{})
	require.NoError(t, err)
	data := make([]byte, 99)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if w.WritePacket(0, 1, 2, data, 100) != nil {
			t.Fail()
		}
	}))
}
