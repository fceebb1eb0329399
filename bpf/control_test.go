package bpf_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestFilterChangeWithFlushDropsWhatWasCaptured(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096})
		for i := range uint32(200) { // both buffers filled
			w.em0.Receive(numbered(i, 64))
		}
		data, _, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 0, number(t, data))
		before, err := w.r.Stats()
		require.NoError(t, err)
		require.NoError(t, w.r.SetFilter(accept(t, 1000), true))
		w.em0.Receive(numbered(300, 64))
		w.em0.Receive(numbered(1000, 64))
		data, _, err = w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1000, number(t, data))
		after, err := w.r.Stats()
		require.NoError(t, err)
		assert.Equal(t, before.Received+2, after.Received, "own resets do not lose counts")
		assert.Equal(t, before.Dropped, after.Dropped)
		w.r.SetReadDeadline(time.Now().Add(time.Second))
		_, _, err = w.r.ReadPacket(t.Context())
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestFilterChangeWithoutFlushKeeps(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode})
		w.em0.Receive(numbered(1, 64))
		require.NoError(t, w.r.SetFilter(accept(t, 1000), false))
		w.em0.Receive(numbered(2, 64))
		w.em0.Receive(numbered(1000, 64))
		for _, want := range []uint32{1, 1000} {
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, number(t, data))
		}
	})
}

func TestDirection(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		for dir, want := range map[bpf.Direction][]uint32{bpf.InOut: {1, 2}, bpf.In: {1}, bpf.Out: {2}} {
			w := newCapture(t, bpf.Config{Mode: mode, Direction: dir})
			w.em0.Receive(numbered(1, 64))
			w.em0.Transmit(numbered(2, 64))
			for _, n := range want {
				data, _, err := w.r.ReadPacket(t.Context())
				require.NoError(t, err)
				assert.Equal(t, n, number(t, data))
			}
			require.NoError(t, w.r.SetDirection(bpf.Out))
			w.em0.Receive(numbered(3, 64))
			w.em0.Transmit(numbered(4, 64))
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			assert.EqualValues(t, 4, number(t, data))
		}
	})
}

func TestPromiscuousUntilClosed(t *testing.T) {
	for _, on := range []bool{false, true} {
		w := newCapture(t, bpf.Config{Promiscuous: on})
		assert.Equal(t, on, w.em0.Promisc() == 1)
		require.NoError(t, w.r.Close())
		assert.Zero(t, w.em0.Promisc())
	}
}

func TestWriteFilterAndWrite(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, WriteFilter: accept(t, 5), HeaderComplete: true})
		peer := w.k.AddInterface("em1", zbuf.DLT_EN10MB)
		bpftest.Pair(w.em0, peer)
		r, err := bpf.Open("em1", bpf.Config{System: w.k, Mode: mode, Direction: bpf.In})
		require.NoError(t, err)
		defer r.Close()
		_, err = w.r.Write(numbered(4, 64))
		assert.ErrorIs(t, err, syscall.EPERM)
		n, err := w.r.Write(numbered(5, 64))
		require.NoError(t, err)
		assert.Equal(t, 64, n)
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.Equal(t, numbered(5, 64), data)
		require.NoError(t, w.r.SetWriteFilter(nil))
		_, err = w.r.Write(numbered(4, 64))
		assert.NoError(t, err)
		w.k.RemoveInterface("em0")
		_, err = w.r.Write(numbered(4, 64))
		assert.ErrorIs(t, err, syscall.ENXIO)
	})
}

func TestOptimizeWritersDoesNotSilence(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode}, bpftest.WithSysctl("net.bpf.optimize_writers", 1))
		w.em0.Receive(numbered(1, 64))
		data, _, err := w.r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, number(t, data))
	})
}

func TestSandbox(t *testing.T) {
	modes(t, func(t *testing.T, mode bpf.Mode) {
		w := newCapture(t, bpf.Config{Mode: mode, BufferSize: 4096})
		require.NoError(t, w.r.Sandbox(bpf.Sandbox{}))
		for i := range uint32(300) {
			require.NoError(t, w.em0.InjectWait(t.Context(), bpftest.Packet{Data: numbered(i, 64)}))
			data, _, err := w.r.ReadPacket(t.Context())
			require.NoError(t, err)
			require.Equal(t, i, number(t, data))
		}
		_, err := w.r.Stats()
		assert.NoError(t, err)
		_, err = w.r.LinkTypes()
		assert.NoError(t, err)
		assert.NoError(t, w.r.Flush())
		assert.ErrorIs(t, w.r.SetFilter(nil, true), bpf.ErrSandboxed)
		assert.ErrorIs(t, w.r.SetDirection(bpf.In), bpf.ErrSandboxed)
		assert.ErrorIs(t, w.r.SetWriteFilter(nil), bpf.ErrSandboxed)
		assert.ErrorIs(t, w.r.Sandbox(bpf.Sandbox{}), bpf.ErrSandboxed, "a second time")
		_, err = w.r.Write(numbered(1, 64))
		assert.ErrorIs(t, err, bpf.ErrSandboxed)
		w.k.RemoveInterface("em0")
		_, err = w.r.Lease(t.Context())
		assert.ErrorIs(t, err, bpf.ErrInterfaceGone)
	})
}
