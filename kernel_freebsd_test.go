package zbuf_test

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// counting counts the calls that a rename made fail.
type counting struct {
	zbuf.Backend
	missed int
}

func (b *counting) InterfaceIndex() (int, error) {
	n, err := b.Backend.InterfaceIndex()
	if errors.Is(err, syscall.ENXIO) {
		b.missed++
	}
	return n, err
}

func TestInterfaceIndexWhileSomebodyRenames(t *testing.T) {
	w := lab.OnKernel(t)
	name, err := lab.Create("lo")
	require.NoError(t, err)
	other := name + "x"
	names := [2]string{name, other}
	b, err := zbuf.Host().Open()
	require.NoError(t, err)
	backend := &counting{Backend: b}
	d, err := zbuf.Adopt(backend)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.SetInterface(name))
	want, err := d.InterfaceIndex()
	require.NoError(t, err)
	require.NotZero(t, want)

	var asked atomic.Int64
	var stop atomic.Bool
	renames := 0
	done := make(chan error)
	go func() { // at most one rename for each question
		var err error
		for seen := int64(-1); err == nil && !stop.Load(); {
			if n := asked.Load(); n != seen {
				seen = n
				err = w.Rename(names[renames%2], names[(renames+1)%2])
				renames++
			}
		}
		done <- err
	}()
	for range 3000 {
		index, err := d.InterfaceIndex()
		if !assert.NoError(t, err) || !assert.Equal(t, want, index) {
			break
		}
		asked.Add(1)
	}
	stop.Store(true)
	require.NoError(t, <-done)
	t.Logf("%d renames, %d of them between the two system calls", renames, backend.missed)
	require.NoError(t, w.Destroy(names[renames%2]))
	_, err = d.InterfaceIndex()
	assert.ErrorIs(t, err, syscall.ENXIO, "destroyed")
}

func TestAPromiscuousDescriptorIsNotAttachedAgainOnAKernel(t *testing.T) {
	w := lab.OnKernel(t)
	name, err := lab.Create("lo")
	require.NoError(t, err)
	d, err := zbuf.Open()
	require.NoError(t, err)
	require.NoError(t, d.SetInterface(name))
	require.NoError(t, d.SetPromiscuous())
	require.NoError(t, w.Destroy(name))
	assert.ErrorIs(t, d.SetInterface("lo0"), zbuf.ErrReattachUnsafe)
	require.NoError(t, d.Close())
}

func TestKernelAdoptedLockedDescriptorIsFlushedOnlyIfThatIsSafe(t *testing.T) {
	w := lab.OnKernel(t)
	lab.WantZeroCopy(t, w)
	ifname, err := lab.Create("lo")
	require.NoError(t, err)
	defer w.Destroy(ifname)
	requireFlushOfLocked(t, w, ifname)
}

// A number that one file gives up belongs to the next one that opens. So a second Close must not
// close what the number means by then.
func TestASecondCloseLeavesTheDescriptorsOfOthersAlone(t *testing.T) {
	lab.OnKernel(t)
	b, err := zbuf.Host().Open()
	require.NoError(t, err)
	require.NoError(t, b.Close())
	var others []*os.File
	for range 4 { // a backend has fewer descriptors
		f, err := os.Open("/dev/null")
		require.NoError(t, err)
		defer f.Close()
		others = append(others, f)
	}
	assert.ErrorIs(t, b.Close(), syscall.EBADF)
	for _, f := range others {
		_, err := f.Stat()
		assert.NoError(t, err)
	}
}
