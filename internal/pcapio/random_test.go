package pcapio

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capgen"
)

// parsed has the contents of a file according to Reader, for comparison with capgen.Parse.
func parsed(src io.Reader) (c capgen.Contents, err error) {
	r, err := NewReader(src)
	if err != nil {
		return c, err
	}
	all, err := readAll(r)
	for _, p := range all {
		c.Packets = append(c.Packets, capgen.Packet{
			Interface: p.Interface, Time: p.Time, Data: p.Data, WireLen: p.WireLen, Out: p.Out,
			Comments: p.Comments,
		})
	}
	for _, i := range r.Interfaces() {
		c.Interfaces = append(c.Interfaces, capgen.Interface{
			Name: i.Name, LinkType: i.LinkType, SnapLen: i.SnapLen,
			Description: i.Description, Comment: i.Comment, Filter: i.Filter, OS: i.OS,
		})
	}
	c.Odd = len(r.Notes()) > 0
	return c, err
}

// difference says in which packet two readers differ, or "".
func difference(want, got []capgen.Packet) string {
	for i := range min(len(want), len(got)) {
		w, g := want[i], got[i]
		if w.Interface != g.Interface || w.WireLen != g.WireLen || !w.Time.Equal(g.Time) ||
			w.Out != g.Out ||
			!bytes.Equal(w.Data, g.Data) || !slices.Equal(w.Comments, g.Comments) {
			return fmt.Sprintf("packet %d: %+v became %+v", i+1, w, g)
		}
	}
	if len(want) != len(got) {
		return fmt.Sprintf("%d packets became %d", len(want), len(got))
	}
	return ""
}

// requireSame compares the results of two readers of a file.
func requireSame(t require.TestingT, want capgen.Contents, wantErr error, got capgen.Contents,
	gotErr error, file []byte) {
	if d := difference(want.Packets, got.Packets); d != "" {
		require.Failf(t, d, "%x", file)
	}
	require.Equal(t, wantErr == nil, gotErr == nil, "%v became %v: %x", wantErr, gotErr, file)
	if wantErr == nil {
		require.Equal(t, want.Odd, got.Odd, "%x", file)
		require.True(t, slices.Equal(want.Interfaces, got.Interfaces), "%+v became %+v: %x",
			want.Interfaces, got.Interfaces, file)
	} else {
		require.ErrorIs(t, gotErr, ErrFormat)
	}
}

// Random files, whole, cut and damaged, have the packets that they were made with, and that an
// independent reader finds in them.
func TestRandomFiles(t *testing.T) {
	seeds := uint64(30_000)
	if testing.Short() {
		seeds = 800
	}
	var packets, plain, cuts, damaged, broken int
	kinds := map[uint32]int{}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 2))
		f := capgen.Random(seed)
		for k, n := range f.Kinds {
			kinds[k] += n
		}
		packets += len(f.Packets)

		src := io.Reader(bytes.NewReader(f.Bytes))
		switch rnd.IntN(8) {
		case 0:
			src = iotest.OneByteReader(src)
		case 1:
			src = iotest.HalfReader(src)
		case 2:
			src = iotest.DataErrReader(src)
		}
		got, err := parsed(src)
		requireSame(t, f.Contents, nil, got, err, f.Bytes)
		other, err := capgen.Parse(f.Bytes)
		requireSame(t, f.Contents, nil, other, err, f.Bytes)
		if !other.Exotic && !other.Odd {
			requirePcapgoAgrees(t, got, f.Bytes)
			plain++
		}

		for range 4 { // whatever is whole before the cut is there, and a cut within a record is an error
			at := rnd.IntN(len(f.Bytes))
			if rnd.IntN(2) == 0 {
				at = f.Cuts[rnd.IntN(len(f.Cuts))]
			}
			got, err := parsed(bytes.NewReader(f.Bytes[:at]))
			whole := 0
			for whole < len(f.Ends) && f.Ends[whole] <= at {
				whole++
			}
			require.Empty(t, difference(f.Packets[:whole], got.Packets), "cut at %d: %x", at, f.Bytes)
			require.Equal(t, slices.Contains(f.Cuts, at), err == nil, "cut at %d: %v: %x", at, err, f.Bytes)
			cuts++
		}
		for range 4 {
			bad := bytes.Clone(f.Bytes)
			for range 1 + rnd.IntN(3) {
				damage(rnd, bad)
			}
			want, wantErr := capgen.Parse(bad)
			got, gotErr := parsed(bytes.NewReader(bad))
			if wantErr != nil {
				broken++
			}
			requireSame(t, want, wantErr, got, gotErr, bad)
			damaged++
		}
	}
	t.Logf("%d files with %d packets, %d files compared with pcapgo too; %d cuts; %d damaged "+
		"files, of which %d can't be read to the end", seeds, packets, plain, cuts, damaged, broken)
	for _, k := range []uint32{1, 2, 3, 4, 5, 6, 0xa, 0xbad, 0x40000bad, 0x0a0d0d0a} {
		assert.NotZero(t, kinds[k], "blocks of type %#x", k)
	}
	assert.NotZero(t, plain)
	assert.NotZero(t, broken)
	assert.Less(t, broken, damaged)
}

// damage changes a file where it hurts.
func damage(rnd *rand.Rand, b []byte) {
	at := rnd.IntN(len(b))
	if rnd.IntN(2) == 0 {
		at = min(at&^3, 60+rnd.IntN(100)&^3) % len(b)
	}
	switch rnd.IntN(4) {
	case 0:
		b[at] = byte(rnd.Uint32())
	case 1:
		b[at] ^= 1 << rnd.IntN(8)
	case 2:
		b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[rnd.IntN(5)]
	case 3:
		for i := range b[at:min(len(b), at+4)] {
			b[at+i] = 0xff
		}
	}
}

// requirePcapgoAgrees compares the packets that the library finds in a file, as far as it can read
// it.
func requirePcapgoAgrees(t require.TestingT, want capgen.Contents, file []byte) {
	got := pcapgoPackets(file)
	n := min(len(want.Packets), len(got))
	for i := range got[:n] {
		got[i].Out, got[i].Comments = want.Packets[i].Out, want.Packets[i].Comments
		if got[i].Time.IsZero() { // it has none
			got[i].Time = time.Unix(0, 0)
		}
	}
	if d := difference(got[:n], want.Packets[:n]); d != "" {
		require.Failf(t, "pcapgo finds something else", "%s: %x", d, file)
	}
}

func pcapgoPackets(file []byte) (all []capgen.Packet) {
	if bytes.HasPrefix(file, []byte("\n\r\r\n")) {
		base := 0
		r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{
			WantMixedLinkType:  true,
			SectionEndCallback: func(i []pcapgo.NgInterface, _ pcapgo.NgSectionInfo) { base += len(i) },
		})
		for err == nil {
			data, ci, rerr := r.ReadPacketData()
			if err = rerr; err == nil {
				all = append(all, capgen.Packet{Interface: base + ci.InterfaceIndex, Time: ci.Timestamp,
					Data: data, WireLen: ci.Length})
			}
		}
		return all
	}
	r, err := pcapgo.NewReader(bytes.NewReader(file))
	for err == nil {
		data, ci, rerr := r.ReadPacketData()
		if err = rerr; err == nil {
			all = append(all, capgen.Packet{Time: ci.Timestamp, Data: data, WireLen: ci.Length})
		}
	}
	return all
}
