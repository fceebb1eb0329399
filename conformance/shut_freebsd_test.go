package conformance

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// An epair whose queue has overflowed takes no other epair's frames either, until the machine boots
// again. That is the driver's, but it decides what tests may send: see lab.Pair.Post.
func TestShutWire(t *testing.T) {
	k, why := lab.Kernel()
	if k == nil {
		t.Skip(why)
	}
	if os.Getenv("ZBUF_SHUT") == "" {
		t.Skip("set ZBUF_SHUT to shut all epairs of this machine")
	}
	lab.SetSysctl(t, k, "net.link.epair.netisr_maxqlen", 1) // the driver's own 2,100 take long to fill
	p, q := lab.NewPair(t, k), lab.NewPair(t, k)
	q.Inject(t, lab.Frame(64, 0))
	var err error
	for n := 0; err == nil && n < 1_000_000; n++ {
		err = p.Post(p.A, lab.Frame(64, 0))
	}
	require.ErrorIs(t, err, syscall.ENOBUFS)
	assert.Error(t, q.Deliver(q.A, lab.Frame(64, 0)), "it goes on")
	r := lab.NewPair(t, k)
	assert.Error(t, r.Deliver(r.A, lab.Frame(64, 0)), "a new one goes")
}
