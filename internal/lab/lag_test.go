package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A stall of the machine excuses a span during which it happened. A stall at another time excuses
// nothing.
func TestLateIsBeyondTheMachine(t *testing.T) {
	const ms = time.Millisecond
	span := func(from, to int) Span {
		return Span{time.Duration(from) * ms, time.Duration(to) * ms}
	}
	for _, c := range []struct {
		what   string
		stalls []Span
		late   bool
	}{
		{"a machine that never stood still", nil, true},
		{"a stall meanwhile", []Span{span(1100, 1200)}, false},
		{"stalls of two processors", []Span{span(1100, 1150), span(1100, 1150)}, false},
		{"a stall that was too short", []Span{span(1100, 1130)}, true},
		{"a stall that ended before", []Span{span(500, 900)}, true},
		{"a stall that began after", []Span{span(1300, 1900)}, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := &Lag{stalls: c.stalls}
			late := l.Late([]Span{span(1000, 1200), span(1000, 1100)}, 150*ms)
			if c.late {
				assert.Equal(t, []Span{span(1000, 1200)}, late)
			} else {
				assert.Empty(t, late)
			}
		})
	}
}

// A stall right after WatchLag has returned counts too.
func TestTheWatchHasBegun(t *testing.T) {
	l := WatchLag(t)
	for i := range l.until {
		assert.Positive(t, l.until[i].Load(), "watcher %d", i)
	}
}
