package bpf_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

func TestKernelZeroCopyTurnedOffInMidSession(t *testing.T) {
	w := lab.OnKernel(t)
	lab.Want64Bit(t)
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	p := lab.NewPair(t, w)
	r := openOn(t, p, bpf.Config{Mode: bpf.ZeroCopy, BufferSize: 4096,
		ReadTimeout: 20 * time.Millisecond})
	require.NoError(t, w.SetSysctl("net.bpf.zerocopy_enable", 0))
	for i := range uint32(200) {
		require.NoError(t, p.Post(p.A, numbered(i, 64)))
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		require.Equal(t, i, number(t, data))
	}
	_, err := bpf.Open(p.A, bpf.Config{Mode: bpf.ZeroCopy})
	require.ErrorIs(t, err, bpf.ErrZeroCopyRefused)
	assert.ErrorContains(t, err, "bpfctl zerocopy on")
	auto := openOn(t, p, bpf.Config{})
	mode, reason := auto.Mode()
	assert.Equal(t, bpf.Buffered, mode)
	assert.ErrorIs(t, reason, zbuf.ErrZeroCopyDisabled)
}

func TestKernel32BitProgramFallsBack(t *testing.T) {
	w := lab.OnKernel(t)
	if !lab.Compat32() {
		t.Skip("only a 32-bit program on a 64-bit kernel falls back: run with GOARCH=386, or arm")
	}
	lab.SetSysctl(t, w, "net.bpf.zerocopy_enable", 1)
	p := lab.NewPair(t, w)
	for _, res := range []bpf.Resolution{bpf.Nanoseconds, bpf.Microseconds, bpf.Binary,
		bpf.NoTimestamp} {
		r := openOn(t, p, bpf.Config{Resolution: res, ReadTimeout: 20 * time.Millisecond})
		mode, reason := r.Mode()
		assert.Equal(t, bpf.Buffered, mode)
		assert.ErrorIs(t, reason, bpf.ErrZeroCopyRefused)
		assert.ErrorContains(t, reason, "32-bit")
		for i := range uint32(100) {
			p.Inject(t, numbered(i, 64+int(i)))
		}
		for i := range uint32(100) {
			data, info, err := r.ReadPacket(t.Context())
			require.NoError(t, err)
			require.Equal(t, numbered(i, 64+int(i)), data)
			if res == bpf.NoTimestamp {
				require.True(t, info.Time().IsZero())
			} else {
				require.WithinDuration(t, time.Now(), info.Time(), time.Minute)
			}
		}
	}
}

func TestKernelOptimizeWriters(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		lab.SetSysctl(t, w, "net.bpf.optimize_writers", 1)
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond})
		require.NoError(t, p.Post(p.A, numbered(1, 64)))
		data, _, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, number(t, data))
	})
}

func TestKernelFilterChange(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		r := openOn(t, p, bpf.Config{Mode: mode, BufferSize: 4096, ReadTimeout: 20 * time.Millisecond,
			Filter: accept(t, 10), SnapLen: 70})
		for i := range uint32(100) { // overruns both buffers
			p.Inject(t, numbered(i, 100))
		}
		data, info, err := r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 10, number(t, data))
		assert.Equal(t, 70, info.CapLen())
		assert.Equal(t, 100, info.WireLen())
		before, err := r.Stats()
		require.NoError(t, err)
		require.NoError(t, r.SetFilter(accept(t, 1000), true))
		p.Inject(t, numbered(999, 64))
		p.Inject(t, numbered(1000, 64))
		data, _, err = r.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1000, number(t, data))
		after, err := r.Stats()
		require.NoError(t, err)
		assert.Equal(t, before.Received+2, after.Received)
		assert.Equal(t, before.Dropped, after.Dropped)
	})
}

func TestKernelWrite(t *testing.T) {
	onKernel(t, func(t *testing.T, w lab.World, mode bpf.Mode) {
		p := lab.NewPair(t, w)
		in := openOn(t, p, bpf.Config{Mode: mode, ReadTimeout: 20 * time.Millisecond, Direction: bpf.In})
		out, err := bpf.Open(p.B, bpf.Config{Mode: mode, WriteFilter: accept(t, 5), HeaderComplete: true})
		require.NoError(t, err)
		defer out.Close()
		_, err = out.Write(numbered(1, 64))
		assert.ErrorIs(t, err, syscall.EPERM, "the write filter refuses it")
		_, err = out.Write(numbered(5, 64))
		require.NoError(t, err)
		_, err = out.Write(make([]byte, 5))
		assert.ErrorIs(t, err, syscall.EMSGSIZE)
		data, _, err := in.ReadPacket(t.Context())
		require.NoError(t, err)
		assert.True(t, bytes.Equal(numbered(5, 64), data))
	})
}

func TestKernelSandbox(t *testing.T) {
	if os.Getenv("ZBUF_SANDBOX_CHILD") == "" {
		lab.OnKernel(t)
		self, err := os.Executable() // capability mode can't be left: a process of its own
		require.NoError(t, err)
		cmd := exec.Command(self, "-test.run=^TestKernelSandbox$", "-test.v")
		cmd.Env = append(os.Environ(), "ZBUF_SANDBOX_CHILD=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: TestKernelSandbox")
		return
	}
	w, why := lab.Kernel()
	require.NotNil(t, w, why)
	zerocopy, err := w.Sysctl("net.bpf.zerocopy_enable")
	require.NoError(t, err)
	// its interfaces can't be destroyed from inside: the parent's guest goes anyway
	p, err := w.NewPair()
	require.NoError(t, err)
	require.NoError(t, p.Watch())
	var readers []*bpf.Reader
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		if mode == bpf.ZeroCopy && (zerocopy == 0 || lab.Compat32()) {
			continue
		}
		r, err := bpf.Open(p.A, bpf.Config{Mode: mode, BufferSize: 4096,
			ReadTimeout: 20 * time.Millisecond})
		require.NoError(t, err)
		readers = append(readers, r)
	}
	for i, r := range readers {
		require.NoError(t, r.Sandbox(bpf.Sandbox{Write: true, Enter: i == len(readers)-1}))
	}
	_, err = os.Open("/")
	require.Error(t, err, "the process is in capability mode")
	for n := uint32(0); n < 300; {
		for range 1 + n%7 { // sometimes more than the reader takes at once
			require.NoError(t, p.Post(p.A, numbered(n, 200)))
			n++
		}
		for _, r := range readers {
			data, _, err := r.ReadPacket(context.Background())
			require.NoError(t, err)
			last := number(t, data)
			for last+1 < n {
				data, _, err := r.ReadPacket(context.Background())
				require.NoError(t, err)
				require.Equal(t, last+1, number(t, data))
				last++
			}
		}
	}
	for _, r := range readers {
		_, err := r.Stats()
		assert.NoError(t, err)
		_, err = r.LinkTypes()
		assert.NoError(t, err)
		assert.NoError(t, r.Flush())
		_, err = r.Write(numbered(1, 64))
		assert.NoError(t, err)
		assert.ErrorIs(t, r.SetFilter(nil, true), bpf.ErrSandboxed)
		assert.ErrorIs(t, r.SetDirection(bpf.In), bpf.ErrSandboxed)
		r.SetReadDeadline(time.Now().Add(-time.Second))
		for err == nil {
			_, _, err = r.ReadPacket(context.Background())
		}
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.NoError(t, r.Close())
	}
}

func TestKernelOwnPackets(t *testing.T) { onKernel(t, ownPackets) }
