package contest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/bench/internal/load"
	"github.com/zbuf-go/zbuf/bench/internal/trial"
)

// BenchmarkRotation shows whether the size of the buffers changes what is dropped at overload. Lent
// buffers are two, and read(2) has three of two thirds of the size. So lent buffers rotate less
// often.
func BenchmarkRotation(b *testing.B) {
	const size = 64
	w := kernel(b)
	src := newSource(b, w, size)
	if src.writer == nil {
		b.Skip("a storm has a processor to itself: only one processor is shared")
	}
	work, _ := overload(size)
	for _, own := range []bool{true, false} {
		for _, kib := range []int{24, 48, 96, 384} { // pages, in two pieces and in three
			for _, name := range []string{"zbuf-lease", "zbuf-buffered", "bare", "read2"} {
				b.Run(fmt.Sprintf("own=%v/memory=%dK/reader=%s", own, kib, name), func(b *testing.B) {
					spec := trial.Spec{
						Contestant: name, Interface: src.ifname, Share: load.Frames, Memory: kib << 10,
						Timeout: timeout, Warm: warm, Length: time.Duration(b.N) * length / 2, Work: work,
						Trace: length / 10,
					}
					all, err := times(overloads, spec, func(spec trial.Spec) (trial.Result, error) {
						return src.run(spec, own)
					})
					require.NoError(b, err)
					if returned(b, all) {
						report(b, all, size, true)
					}
				})
			}
		}
	}
}
