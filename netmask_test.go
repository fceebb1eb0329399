package zbuf_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// factless is a kernel whose backend has only the methods that every backend must have.
type factless struct{ zbuf.System }

func (f factless) Open() (zbuf.Backend, error) {
	b, err := f.System.Open()
	return struct{ zbuf.Backend }{b}, err
}

// A Device tells a compiler of filters the limit and the netmask, if its backend knows them.
func TestFactsForFilters(t *testing.T) {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.maxinsns", 700))
	k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.Netmask(0xffffff00))
	k.AddInterface("em1", zbuf.DLT_EN10MB)
	for _, system := range []zbuf.System{k, factless{k}} {
		d, err := zbuf.OpenOn(system)
		require.NoError(t, err)
		defer d.Close()
		n, err := d.MaxInstructions()
		_, maskErr := d.Netmask()
		if system != zbuf.System(k) {
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.ErrorIs(t, maskErr, errors.ErrUnsupported)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, 700, n)
		assert.ErrorIs(t, maskErr, syscall.ENXIO, "not attached")
		for iface, want := range map[string]uint32{"em0": 0xffffff00, "em1": 0} {
			require.NoError(t, d.SetInterface(iface))
			mask, err := d.Netmask()
			require.NoError(t, err)
			assert.Equal(t, want, mask)
		}
	}
}
