package pcapio

import (
	"bytes"
	"strconv"
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

// FuzzReader reads any bytes. The packets are those that an independent reader finds, up to the
// same place, and those of the library where it is right.
func FuzzReader(f *testing.F) {
	seeds(func(b []byte) { f.Add(b) })
	for i := range uint64(30) {
		if b := capgen.Random(i).Bytes; len(b) < 2000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		want, wantErr := capgen.Parse(file)
		got, gotErr := parsed(bytes.NewReader(file))
		requireSame(t, want, wantErr, got, gotErr, file)
		for _, p := range got.Packets {
			require.Less(t, p.Interface, len(got.Interfaces))
			require.LessOrEqual(t, len(p.Data), p.WireLen)
			require.GreaterOrEqual(t, p.Time.UnixNano(), int64(0))
		}
		// In a 32-bit program the library panics on lengths and numbers that are an error here.
		if !want.Odd && !want.Exotic && (wantErr == nil || strconv.IntSize == 64) {
			requirePcapgoAgrees(t, got, file)
		}
	})
}
