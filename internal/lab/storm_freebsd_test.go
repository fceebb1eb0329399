package lab_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// A program that runs Go code on every processor it may use can collect garbage in a storm: that
// takes each of its threads once.
func TestStormStopsNobody(t *testing.T) {
	lab.OnKernel(t)
	lab.WantStorm(t)
	all, err := lab.Processors()
	require.NoError(t, err)
	for range 20 { // who has watched every processor leaves no thread bound to the storm's
		t.Run("", func(t *testing.T) { lab.WatchLag(t) })
	}
	storm, err := lab.NewStorm()
	require.NoError(t, err)
	free, err := lab.Processors()
	require.NoError(t, err)
	assert.Equal(t, all[:len(all)-1], free)
	var busy sync.WaitGroup
	var stop atomic.Bool
	for _, cpu := range free {
		busy.Go(func() {
			runtime.LockOSThread()
			assert.NoError(t, lab.Pin(cpu))
			for !stop.Load() {
			}
		})
	}
	d, err := zbuf.Open()
	require.NoError(t, err)
	require.NoError(t, d.SetInterface(storm.Ifname))
	require.NoError(t, storm.Start())
	received := func() uint32 {
		s, err := d.Stats()
		require.NoError(t, err)
		return s.Recv
	}
	before := received()
	for range 20 {
		runtime.GC()
	}
	require.NoError(t, lab.Until(func() (bool, error) { return received()-before > 10_000, nil }),
		"it storms")
	require.NoError(t, storm.Stop())
	stop.Store(true)
	busy.Wait()
	require.NoError(t, d.Close())
	require.NoError(t, storm.Close())
	again, err := lab.Processors()
	require.NoError(t, err)
	assert.Equal(t, all, again, "as it was")
}
