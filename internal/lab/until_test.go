package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Until leaves the processor to the others after a millisecond: then it looks once a millisecond.
func TestUntilDoesNotSpin(t *testing.T) {
	const settled, until = 5 * time.Millisecond, 50 * time.Millisecond
	var began time.Time // at the first look: Until has begun by then
	looks := 0
	require.NoError(t, Until(func() (bool, error) {
		if began.IsZero() {
			began = time.Now()
		}
		waited := time.Since(began)
		if waited > settled {
			looks++
		}
		return waited > until, nil
	}))
	assert.LessOrEqual(t, looks, int(until/time.Millisecond))
	assert.Positive(t, looks)
}
