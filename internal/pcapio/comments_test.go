package pcapio

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// A file and its packets have the comments that the writer was given, also for another reader.
func TestCommentsAreWritten(t *testing.T) {
	longest := strings.Repeat("x", maxOption)
	for _, comments := range [][]string{
		nil, {"a"}, {"ab", ""}, {"abc", "abcd", "ärgerlich"}, {longest, longest},
	} {
		var b bytes.Buffer
		w := NewWriter(&b)
		w.Comment = "of the file"
		_, err := w.AddInterface(Interface{LinkType: 1})
		require.NoError(t, err)
		data := []byte{1, 2, 3}
		for range 2 {
			require.NoError(t, w.WriteCommented(0, 1, 2, data, 9, comments))
		}
		require.NoError(t, w.WritePacket(0, 1, 2, data, 9))
		require.NoError(t, w.Finish())
		file := b.Bytes()

		r, err := NewReader(bytes.NewReader(file))
		require.NoError(t, err)
		got, err := readAll(r)
		require.NoError(t, err)
		require.Empty(t, r.Notes())
		require.Len(t, got, 3)
		for i, p := range got {
			require.Equal(t, data, p.Data)
			require.Equal(t, 9, p.WireLen)
			if i == 2 {
				require.Empty(t, p.Comments)
			} else {
				require.Equal(t, comments, p.Comments)
			}
		}

		ng, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
		require.NoError(t, err)
		require.Equal(t, "of the file", ng.SectionInfo().Comment)
		for range 3 {
			found, info, err := ng.ReadPacketData()
			require.NoError(t, err)
			require.Equal(t, data, found)
			require.Equal(t, 9, info.Length)
		}
	}
}

// A comment that a file has no room for is an error, and leaves the file as it was.
func TestCommentsThatAreTooLong(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	_, err := w.AddInterface(Interface{LinkType: 1})
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	before := b.Len()
	long := strings.Repeat("x", maxOption)
	err = w.WriteCommented(0, 1, 2, nil, 0, []string{long + "x"})
	require.EqualError(t, err, "a comment of 65536 bytes, and pcapng has room for 65535")
	many := make([]string, maxComments/maxOption+1)
	for i := range many {
		many[i] = long
	}
	require.ErrorContains(t, w.WriteCommented(0, 1, 2, nil, 0, many), "too long for a file")
	require.NoError(t, w.Flush())
	require.Equal(t, before, b.Len())

	w = NewWriter(&b)
	w.Comment = long + "x"
	_, err = w.AddInterface(Interface{LinkType: 1})
	require.EqualError(t, err, "a comment of 65536 bytes, and pcapng has room for 65535")
}
