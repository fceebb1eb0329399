package pcapio

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every resolution, with time stamps and offsets at all edges, gives the time that numbers of any
// size give, or none where nanoseconds of 64 bits have no room for it.
func TestClock(t *testing.T) {
	var stamps []uint64
	for n := range 64 {
		stamps = append(stamps, 1<<n-1, 1<<n, 1<<n+1)
	}
	for _, p := range powers {
		stamps = append(stamps, p-1, p, p+1, 9_223_372_036*p-1, 9_223_372_036*p)
	}
	stamps = append(stamps, math.MaxUint64, math.MaxUint64-1)
	var offsets []int64
	for _, o := range []int64{0, 1, 1000, 999_999, 1_700_000_000, maxSeconds, maxSeconds + 1,
		math.MaxInt64} {
		offsets = append(offsets, o, -o)
	}
	offsets = append(offsets, math.MinInt64)
	second, end := big.NewInt(int64(time.Second)), big.NewInt((maxSeconds+1)*int64(time.Second))
	good := 0
	for resolution := range 256 {
		base := int64(10)
		if resolution >= resolutionBinary {
			base = 2
		}
		unit := new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(resolution%resolutionBinary)), nil)
		for _, offset := range offsets {
			late := new(big.Int).Mul(big.NewInt(offset), second)
			for _, stamp := range stamps {
				want := new(big.Int).SetUint64(stamp)
				want.Quo(want.Mul(want, second), unit)
				want.Add(want, late)
				got, ok := clock{uint8(resolution), offset}.time(stamp)
				if ok != (want.Sign() >= 0 && want.Cmp(end) < 0) || ok && got.UnixNano() != want.Int64() {
					require.Failf(t, "wrong", "resolution %#x, offset %d, stamp %d: %v, %v, not %v ns", resolution,
						offset, stamp, got, ok, want)
				}
				if ok {
					good++
				}
			}
		}
	}
	require.Greater(t, good, 100_000)
}
