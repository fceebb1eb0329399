// Package stage has stages of a capture.
package stage

import "github.com/zbuf-go/zbuf/internal/capture"

// Limit returns a stage that lets n packets through and then returns [capture.ErrEnough]. n is at
// least 1.
func Limit(n uint64) capture.Stage { return &limit{n} }

type limit struct{ left uint64 }

func (l *limit) Apply(b *capture.Batch) error {
	if uint64(len(b.Packets)) < l.left {
		l.left -= uint64(len(b.Packets))
		return nil
	}
	b.Packets = b.Packets[:l.left]
	l.left = 0
	return capture.ErrEnough
}
