//go:build unix

package interruptible

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestContextEndsTheOpeningOfAFIFO(t *testing.T) {
	for _, flag := range []int{os.O_RDONLY, os.O_WRONLY} {
		// An opening that was given up may still be under way. It is no other end for the next one.
		name := filepath.Join(t.TempDir(), "fifo")
		require.NoError(t, syscall.Mkfifo(name, 0o600))
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() {
			_, err := Open(ctx, name, flag, 0)
			done <- err
		}()
		cancel(errStop)
		assert.Equal(t, errStop, <-done)
		// The opening that was given up ends as soon as the other end is there.
		other, err := os.OpenFile(name, os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, other.Close())
	}
}
