package bpf

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The buffer may have any bytes. The packets lie inside it, in order, and the end is nil or
// ErrCorrupt. Both ways of going over it agree.
func FuzzWalk(f *testing.F) {
	one := appendRecord(nil, []byte("0123456789abcdef"), 16, 1, 2, 26)
	f.Add(one)
	f.Add(appendRecord(one, nil, 0, 0, 0, 26))
	f.Add(appendRecord(one, make([]byte, 3), 1500, 1<<63, 1<<63, 28))
	f.Add(one[:30]) // cut in the packet
	f.Add(one[:20]) // cut in the header
	f.Add(appendRecord(nil, make([]byte, 100), 1, 0, 0, 26)[:126])
	long := appendRecord(nil, nil, 0, 0, 0, 26)
	long[offCaplen+3] = 0xff // longer than any buffer
	f.Add(long)
	none := appendRecord(nil, []byte("0123456789abcdef"), 16, 1, 2, 26)
	none[offHdrlen] = 0
	f.Add(none)
	short := appendRecord(one, one, 0, 0, 0, 26)
	short[offHdrlen] = 3
	f.Add(short)
	f.Fuzz(func(t *testing.T, buf []byte) {
		r := &Reader{}
		l := Lease{r: r, buf: buf}
		var byRange [][]byte
		total := 0
		for p := range l.Packets() {
			require.Equal(t, len(p.Data()), p.CapLen())
			p.Timestamp()
			p.Time()
			p.WireLen()
			byRange = append(byRange, p.Data())
			total += p.CapLen()
		}
		require.LessOrEqual(t, total+minHdrlen*len(byRange), len(buf))
		err := l.Err()
		i := 0
		c := l.Cursor()
		for c.Next() {
			require.Equal(t, byRange[i], c.Packet().Data())
			i++
		}
		require.Len(t, byRange, i)
		require.Equal(t, err, c.Err())
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			e := err.(*CorruptError)
			require.Less(t, e.Offset, len(buf))
			require.Equal(t, len(buf), e.Length)
		}
	})
}
