package pcapio

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

func seeds(add func([]byte)) {
	for i := range 8 {
		f := capgen.Format{Pcapng: i&4 != 0, Nano: i&2 != 0, BigEndian: i&1 != 0}
		var b bytes.Buffer
		packets := capgen.Packets(3, f, f.Pcapng, uint64(i))
		for i := range packets {
			packets[i].Data = packets[i].Data[:min(len(packets[i].Data), 20)]
		}
		if capgen.Write(&b, f, packets) != nil {
			panic("a buffer is never full")
		}
		add(b.Bytes())
	}
	for _, s := range samples {
		add(s.file)
	}
}

// FuzzReader: whatever the bytes are, there are packets that make sense, then io.EOF or ErrFormat.
func FuzzReader(f *testing.F) {
	seeds(func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
			return
		}
		total := 0
		for {
			p, err := r.Next()
			if err != nil {
				if err != io.EOF {
					require.ErrorIs(t, err, ErrFormat)
				}
				require.Zero(t, p)
				return
			}
			require.Less(t, p.Interface, len(r.Interfaces()))
			require.LessOrEqual(t, len(p.Data), p.WireLen)
			require.GreaterOrEqual(t, p.Time.UnixNano(), int64(0))
			total += len(p.Data)
			require.LessOrEqual(t, total, len(file))
		}
	})
}
