package conformance

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// panics shows that a request takes the model down. It has a model to itself.
func panics(do func(s *sess) error) func(*testing.T, lab.World) {
	return func(t *testing.T, _ lab.World) {
		w := lab.Model()
		d, err := w.OpenMode(os.O_RDWR)
		require.NoError(t, err)
		s := &sess{Desc: d, t: t, w: w}
		s.set(zbuf.BIOCSETBUFMODE, zmode)
		require.ErrorIs(t, do(s), bpftest.ErrPanic)
		require.ErrorIs(t, w.(interface{ Panicked() error }).Panicked(), bpftest.ErrPanic)
		require.ErrorIs(t, s.Ioctl(zbuf.BIOCVERSION, new(zbuf.Version)), bpftest.ErrPanic,
			"nothing works any more")
	}
}

// TestPanic brings the kernel down: it never returns. It runs only when asked.
func TestPanic(t *testing.T) {
	k, why := lab.Kernel()
	if k == nil {
		t.Skip(why)
	}
	req := map[string]func(s *sess) error{
		"BIOCFLUSH": func(s *sess) error { return s.Ioctl(zbuf.BIOCFLUSH, nil) },
		"BIOCSETF":  func(s *sess) error { return s.Ioctl(zbuf.BIOCSETF, acceptAll()) },
	}[os.Getenv("ZBUF_PANIC")]
	if req == nil {
		t.Skip("set ZBUF_PANIC to BIOCFLUSH or BIOCSETF to bring this machine down")
	}
	s := open(t, k)
	s.set(zbuf.BIOCSETBUFMODE, zmode)
	err := req(s)
	require.Fail(t, "the kernel survived", "%v", err)
}
