package zbuf_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// openFiles returns how many file descriptors the process has.
func openFiles(t *testing.T) (n int) {
	for fd := range 200 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}

// watching opens a device that watches the interfaces. It skips the test where nothing tells.
func watching(t *testing.T) *zbuf.Device {
	d, err := zbuf.Open()
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	if _, polled := d.Polled(); !polled || !d.WatchInterfaces() {
		assert.False(t, d.WatchInterfaces())
		t.Skip("NOT RUN: this kernel tells a process nothing of its interfaces")
	}
	return d
}

// awaitChange waits until d hears of a change.
func awaitChange(t *testing.T, d *zbuf.Device) {
	for until := time.Now().Add(lab.Patience); time.Now().Before(until); {
		ev, err := d.Wait(true, max(time.Until(until), 0))
		require.NoError(t, err)
		if ev.Changed {
			return
		}
	}
	require.Fail(t, "nothing told of a change")
}

func TestKernelTellsThatAnInterfaceChanges(t *testing.T) {
	w := lab.OnKernel(t)
	first, second := watching(t), watching(t)
	both := func(what string, change func()) {
		t.Log(what)
		change()
		awaitChange(t, first)
		awaitChange(t, second)
	}
	var name string
	both("it comes", func() {
		var err error
		name, err = lab.Create("lo")
		require.NoError(t, err)
	})
	both("it is renamed", func() { require.NoError(t, w.Rename(name, "watched0")) })
	both("it goes", func() { require.NoError(t, w.Destroy("watched0")) })
	require.NoError(t, second.Close())
	name, err := lab.Create("lo")
	require.NoError(t, err)
	awaitChange(t, first)
	require.NoError(t, w.Destroy(name))
	awaitChange(t, first)
}

func TestAWatchHasOneSocketThatGoesWithTheLastDevice(t *testing.T) {
	lab.OnKernel(t)
	watching(t).Close() // what the process keeps for good
	before := openFiles(t)
	var devs []*zbuf.Device
	for range 3 {
		devs = append(devs, watching(t))
	}
	const ofADevice = 3 // descriptor, kqueue, socket
	assert.Equal(t, before+3*ofADevice+1, openFiles(t))
	for _, d := range devs {
		require.NoError(t, d.Close())
	}
	assert.Equal(t, before, openFiles(t))
}

func TestAWatchThatFailsTellsAndIsBegunAgain(t *testing.T) {
	w := lab.OnKernel(t)
	first, second := watching(t), watching(t)
	zbuf.FailWatch()
	awaitChange(t, first)
	awaitChange(t, second)
	assert.True(t, first.WatchInterfaces(), "begun again")
	name, err := lab.Create("lo")
	require.NoError(t, err)
	awaitChange(t, first)
	ev, err := second.Wait(true, 0)
	require.NoError(t, err)
	assert.False(t, ev.Changed, "it has not asked again")
	assert.True(t, second.WatchInterfaces())
	require.NoError(t, w.Destroy(name))
	awaitChange(t, first)
	awaitChange(t, second)
}

// Changed comes ten times a second at most, however many interfaces change.
func TestChangesWakeADeviceTenTimesASecondAtMost(t *testing.T) {
	w := lab.OnKernel(t)
	d := watching(t)
	began := time.Now()
	var changes sync.WaitGroup
	defer changes.Wait()
	const interfaces = 40
	changes.Go(func() {
		for range interfaces {
			name, err := lab.Create("lo")
			if !assert.NoError(t, err) || !assert.NoError(t, w.Destroy(name)) {
				return
			}
		}
	})
	told := 0
	for until := began.Add(2 * time.Second); time.Now().Before(until); {
		ev, err := d.Wait(true, max(time.Until(until), 0))
		require.NoError(t, err)
		if ev.Changed {
			told++
		}
	}
	if told == 0 { // nobody had a processor for two seconds
		awaitChange(t, d)
		told++
	}
	assert.LessOrEqual(t, told, int(time.Since(began)/(100*time.Millisecond))+1)
}

// A process in a sandbox could otherwise change interfaces through the socket of its watch.
func TestAWatchCanOnlyBeRead(t *testing.T) {
	lab.OnKernel(t)
	d := watching(t)
	assert.ErrorIs(t, zbuf.WriteToWatch(), unix.ENOTCAPABLE)
	name, err := lab.Create("lo")
	require.NoError(t, err)
	awaitChange(t, d)
	require.NoError(t, lab.OnKernel(t).Destroy(name))
}

// A program may forget to close a Device.
func TestADeviceThatIsDroppedLeavesItsWatch(t *testing.T) {
	lab.OnKernel(t)
	watching(t).Close()
	before := openFiles(t)
	func() {
		d, err := zbuf.Open()
		require.NoError(t, err)
		require.True(t, d.WatchInterfaces())
		require.Greater(t, openFiles(t), before)
		runtime.KeepAlive(d)
	}()
	require.Eventually(t, func() bool { runtime.GC(); return openFiles(t) == before }, lab.Patience,
		10*time.Millisecond)
}

// Devices come and go on several goroutines while interfaces do.
func TestWatchesComeAndGoAtRandom(t *testing.T) {
	w := lab.OnKernel(t)
	watching(t).Close()
	before := openFiles(t)
	rnd := rand.New(rand.NewPCG(lab.RandomSeed(t), 0))
	var all sync.WaitGroup
	var changed atomic.Bool
	patience := time.Now().Add(lab.Patience)
	over := make(chan struct{})
	for range 4 {
		seed := rnd.Uint64()
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 0))
			for n := 0; n < 30 || !changed.Load() && time.Now().Before(patience); n++ {
				d, err := zbuf.Open()
				if !assert.NoError(t, err) {
					return
				}
				assert.True(t, d.WatchInterfaces())
				if rnd.IntN(2) == 0 {
					_, err := d.Wait(true, time.Duration(rnd.IntN(20))*time.Millisecond)
					assert.NoError(t, err)
				}
				assert.NoError(t, d.Close())
			}
		})
	}
	var changes sync.WaitGroup
	changes.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			name, err := lab.Create("lo")
			if !assert.NoError(t, err) || !assert.NoError(t, w.Destroy(name)) {
				return
			}
			changed.Store(true)
		}
	})
	all.Wait()
	assert.True(t, changed.Load(), "interfaces came and went meanwhile")
	close(over)
	changes.Wait()
	assert.Equal(t, before, openFiles(t))
	d := watching(t)
	name, err := lab.Create("lo")
	require.NoError(t, err)
	awaitChange(t, d)
	require.NoError(t, w.Destroy(name))
}
