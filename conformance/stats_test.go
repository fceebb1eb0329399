package conformance

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// listeners reads net.bpf.stats: those on one interface.
func listeners(t *testing.T, w lab.World, ifname string) (out []zbuf.XbpfD) {
	t.Helper()
	all, err := w.Listeners()
	require.NoError(t, err)
	for _, x := range all {
		require.Equal(t, lab.SizeofListener, int(x.Structsize))
		name, _, _ := bytes.Cut(x.Ifname[:], []byte{0})
		if string(name) == ifname {
			out = append(out, x)
		}
	}
	return out
}

// listener is the entry of the descriptor that was attached last.
func (s *sess) listener() zbuf.XbpfD {
	s.t.Helper()
	all := listeners(s.t, s.w, s.p.A)
	require.NotEmpty(s.t, all)
	return all[0]
}

var _ = add(
	rule{name: "stats/a zero-copy descriptor",
		differs: []string{"PadZero"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, 2*page)
			s.inject(3)
			s.rotate()
			s.inject(2)
			x := s.listener()
			require.Equal(t, zbuf.BPF_BUFMODE_ZBUF, int(x.Bufmode))
			require.Equal(t, 2*page-32, int(x.Bufsize))
			require.Equal(t, 2*stride+one, int(x.Hlen))
			require.Equal(t, stride+one, int(x.Slen))
			require.Equal(t, 5, int(x.Rcount))
			require.Equal(t, 5, int(x.Fcount))
			require.Equal(t, 0, int(x.Dcount))
			require.Equal(t, by(featuresOf(w).PadZero, 13, 10), int(x.Zcopy),
				"two appends for each packet, and one for the padding in front if it is zeroed")
			require.Equal(t, zbuf.BPF_D_INOUT, int(x.Direction))
			require.Equal(t, sigio, int(x.Sig))
			require.Equal(t, os.Getpid(), int(x.Pid))
			require.Zero(t, x.Locked)
			require.Zero(t, x.Promisc)
			s.h[0].Ack()
			require.Equal(t, 2*stride+one, int(s.listener().Hlen), "an acknowledgement shows only after "+
				"the next packet")
		}},
)
