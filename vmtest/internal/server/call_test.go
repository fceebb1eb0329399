//go:build unix

package server

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/vmtest/internal/qemu"
	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

// Whatever else calls, in whatever number, the agent is heard at once.
func TestSilentCallsKeepNobodyOut(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer l.Close()
	dial := func() *wire.Conn {
		nc, err := net.Dial("unix", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { nc.Close() })
		return wire.NewConn(nc, nc)
	}
	for range 20 {
		dial()
	}
	require.NoError(t, dial().WriteJSON(wire.Hello, wire.Greeting{Version: wire.Version,
		Token: "guessed"}))
	require.NoError(t, dial().WriteJSON(wire.Hello, wire.Greeting{Version: wire.Version,
		Token: "right", Kernel: "k"}))
	g := &guest{m: &qemu.Machine{Console: qemu.NewConsole()}}
	start := time.Now()
	got, err := g.meet(l, "right", qemu.TCG, patience{silence: 20 * time.Second,
		limit: 20 * time.Second}, nil)
	require.NoError(t, err)
	assert.Equal(t, "k", got.Kernel)
	assert.Less(t, time.Since(start), 10*time.Second)
}
