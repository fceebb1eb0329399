package main

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/lab"
)

// ear is the helper's end of the pipe.
type ear struct {
	mu    sync.Mutex
	heard string
}

func (e *ear) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = string(p)
	return len(p), nil
}

func (e *ear) Close() error { return nil }

func (e *ear) last() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// The helper's pipe has a name when run returns, and so the command runs even if the capture is
// killed then.
func TestTheHelperIsToldBeforeTheCaptureGoesOn(t *testing.T) {
	h := &helper{names: newQueue(), done: make(chan struct{})}
	defer h.names.close()
	var e ear
	go h.tell(&e)
	for i := range 1000 {
		name := strconv.Itoa(i)
		h.run(name)
		require.Equal(t, strconv.Quote(name)+"\n", e.last())
	}
}

// A helper that takes no names holds a capture up for a short time only.
func TestAStoppedHelperHoldsNobodyUp(t *testing.T) {
	h := &helper{names: newQueue(), done: make(chan struct{})}
	began := time.Now()
	h.run("a")
	require.Less(t, time.Since(began), lab.Patience)
	close(h.done) // it has ended
	h.run("b")
	require.Equal(t, 2, h.names.close())
}
