package zbuf_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestReadTimeoutIsRoundedAsTheReleaseDoes(t *testing.T) {
	for _, c := range []struct{ set, on12, on14 time.Duration }{
		{0, 0, 0},
		{time.Nanosecond, 10 * time.Millisecond, 0},
		{5 * time.Millisecond, 10 * time.Millisecond, 0},
		{10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond},
		{10*time.Millisecond - time.Nanosecond, 10 * time.Millisecond, 10 * time.Millisecond},
		{15 * time.Millisecond, 20 * time.Millisecond, 10 * time.Millisecond},
		{1999999 * time.Microsecond, 2 * time.Second, 1990 * time.Millisecond},
	} {
		for _, release := range []struct {
			features bpftest.Features
			want     time.Duration
		}{{bpftest.FreeBSD12(), c.on12}, {bpftest.FreeBSD14(), c.on14}} {
			d, err := zbuf.OpenOn(bpftest.New(bpftest.WithHZ(100), bpftest.WithFeatures(release.features)))
			require.NoError(t, err)
			require.NoError(t, d.SetReadTimeout(c.set))
			got, err := d.ReadTimeout()
			require.NoError(t, err)
			assert.Equal(t, release.want, got, "%v, %+v", c.set, release.features)
			require.NoError(t, d.Close())
		}
	}
}
