package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// The time that does not count for the reader is that of this process and of the threads that carry
// its packets, and no more.
func TestCarriers(t *testing.T) {
	w := lab.OnKernel(t)
	used := func(do func()) time.Duration {
		before, err := carriers()
		require.NoError(t, err)
		do()
		after, err := carriers()
		require.NoError(t, err)
		return after - before
	}
	own := func() time.Duration {
		var ts unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts))
		return time.Duration(ts.Nano())
	}
	// what is measured is a time in which nothing happens
	asleep := used(func() { time.Sleep(200 * time.Millisecond) })
	assert.Less(t, asleep, 100*time.Millisecond, "nobody carries anything")

	p := lab.NewPair(t, w)
	var itself time.Duration
	carried := used(func() {
		begin := own()
		for range 5000 {
			require.NoError(t, p.Post(p.A, lab.Frame(64, 0)))
		}
		p.Settle(t)
		itself = own() - begin
	})
	t.Logf("5000 packets: %v in this process, %v in all", itself, carried)
	assert.Greater(t, carried, itself+itself/20, "threads of the kernel carry them")
}
