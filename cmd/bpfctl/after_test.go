//go:build unix

package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// deafHelper is a helper whose end of the pipe the test has.
func deafHelper(t *testing.T) (*helper, *os.File) {
	ours, its, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { ours.Close(); its.Close() })
	return &helper{names: outbox{pipe: its}, done: make(chan struct{})}, ours
}

// The helper's pipe has a name when run returns, and so the command runs even if the capture is
// killed then.
func TestTheHelperIsToldBeforeTheCaptureGoesOn(t *testing.T) {
	h, ear := deafHelper(t)
	heard := make([]byte, 100)
	for i := range 1000 {
		name := strconv.Itoa(i)
		h.run(name)
		require.Empty(t, h.names.late, "it is in the pipe, and no goroutine must bring it there")
		n, err := ear.Read(heard)
		require.NoError(t, err)
		require.Equal(t, strconv.Quote(name)+"\n", string(heard[:n]))
	}
	require.Equal(t, 1000, h.names.close())
}

// A helper that takes no names holds nobody up, and gets each name once it takes them again.
func TestAStoppedHelperHoldsNobodyUp(t *testing.T) {
	h, ear := deafHelper(t)
	long := strings.Repeat("x", 250)
	name := func(i int) string { return long[:i%251] + strconv.Itoa(i) }
	n := 0
	for ; n < 4000; n++ { // more than a pipe has room for
		h.run(name(n))
	}
	require.NotEmpty(t, h.names.late)
	require.Equal(t, n, h.names.close())
	lines := bufio.NewScanner(ear)
	for i := range n {
		require.True(t, lines.Scan(), i)
		require.Equal(t, strconv.Quote(name(i)), lines.Text())
	}
	require.False(t, lines.Scan(), "the pipe is closed")
}

// A helper that has ended holds nobody up either.
func TestAHelperThatHasEnded(t *testing.T) {
	h, ear := deafHelper(t)
	require.NoError(t, ear.Close())
	h.run("a")
	h.run("b")
	require.Equal(t, 2, h.names.close())
}
