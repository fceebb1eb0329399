package contestant

import (
	"time"

	"github.com/zbuf-go/zbuf/bench/internal/cputime"
)

// Spins returns how often Spin goes round in a time. It goes by the clock of the process,
// because the writer of the load may take the processor meanwhile.
func Spins(t time.Duration) int {
	if t == 0 {
		return 0
	}
	best := time.Hour
	const n = 200_000
	for range 5 {
		begin := cputime.Process()
		Spin(n)
		best = min(best, cputime.Process()-begin)
	}
	return int(n * t / best)
}
