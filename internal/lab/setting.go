package lab

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Setting returns the number in an environment variable that sets the length or the seed of a test.
// It returns otherwise if the variable is not set, and fails the test if it holds no number.
func Setting[T int | uint64](t testing.TB, name string, otherwise T) T {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 0, 64)
	require.NoError(t, err, name)
	return T(n)
}

// RandomSeed returns the seed of a random test, and prints it. ZBUF_SEED repeats a run.
func RandomSeed(t testing.TB) uint64 {
	t.Helper()
	seed := Setting(t, "ZBUF_SEED", rand.Uint64())
	t.Logf("ZBUF_SEED=%d", seed)
	return seed
}
