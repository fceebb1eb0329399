package ktrace

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestCountIsExact(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	calls, err := Count(func() error {
		for range 1000 {
			unix.Getppid()
		}
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, uint64(1000), calls.Of(Thread(), unix.SYS_GETPPID))
	assert.Zero(t, calls.Of(Thread(), unix.SYS_KTRACE))
}
