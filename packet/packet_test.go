package packet_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/packet"
)

// models are the model as each release, in each mode.
func models(t *testing.T, f func(t *testing.T, newWire func(t *testing.T) *wire)) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		for _, release := range []struct {
			name string
			opts []bpftest.Option
		}{{"12.1", nil}, {"14", []bpftest.Option{bpftest.WithFeatures(bpftest.FreeBSD14())}}} {
			t.Run(fmt.Sprintf("%v/%s", mode, release.name), func(t *testing.T) {
				f(t, func(*testing.T) *wire { return modelWire(mode, release.opts...) })
			})
		}
	}
}

func TestPacketConnOnTheModel(t *testing.T) {
	models(t, func(t *testing.T, newWire func(t *testing.T) *wire) { conforms(t, newWire) })
}

// Readers that wait for each other let the time of a bubble pass.
func TestReadersInABubble(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := modelWire(mode)
				a, b := w.ends(t, packet.Datagram)
				start := time.Now()
				require.NoError(t, a.SetReadDeadline(start.Add(time.Minute)))
				ended := make(chan error, 3)
				for range 3 {
					go func() {
						_, _, err := a.receive()
						ended <- err
					}()
				}
				synctest.Wait()
				require.NoError(t, b.send(numbered(1, 0)))
				require.NoError(t, <-ended)
				require.Less(t, time.Since(start), time.Second)
				assertTimeout(t, <-ended)
				assertTimeout(t, <-ended)
				assert.Equal(t, time.Minute, time.Since(start))
				require.NoError(t, a.Close())
				require.NoError(t, b.Close())
			})
		})
	}
}

func TestListenErrors(t *testing.T) {
	w := modelWire(bpf.Auto)
	k := w.sys.(*bpftest.Kernel)
	k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback())
	for _, c := range []struct {
		name     string
		ifi      *net.Interface
		typ      packet.Type
		protocol int
		cfg      packet.Config
		want     error
	}{
		{"no interface", nil, packet.Raw, experiment, packet.Config{}, syscall.EINVAL},
		{"no type", w.ifi[0], 0, experiment, packet.Config{}, syscall.EINVAL},
		{"another type", w.ifi[0], 3, experiment, packet.Config{}, syscall.EINVAL},
		{"a length", w.ifi[0], packet.Raw, 0x5ff, packet.Config{}, syscall.EINVAL},
		{"negative", w.ifi[0], packet.Raw, -1, packet.Config{}, syscall.EINVAL},
		{"more than 16 bits", w.ifi[0], packet.Raw, 1 << 16, packet.Config{}, syscall.EINVAL},
		{"no such interface", &net.Interface{Name: "em9"}, packet.Raw, experiment, packet.Config{},
			syscall.ENXIO},
		{"no Ethernet", &net.Interface{Name: "lo0"}, packet.Raw, experiment, packet.Config{},
			bpf.ErrLinkType},
		{"a filter that does not end", w.ifi[0], packet.Raw, experiment,
			packet.Config{Filter: wholeProgram(opLdH12)}, bpf.ErrConfig},
		{"a mode that is none", w.ifi[0], packet.Raw, experiment, packet.Config{Mode: 9}, bpf.ErrConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.System = k
			conn, err := packet.Listen(c.ifi, c.typ, c.protocol, &c.cfg)
			assert.Nil(t, conn)
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			assert.Equal(t, "listen", op.Op)
			assert.Equal(t, "packet", op.Net)
			assert.ErrorIs(t, err, c.want)
			assert.NotEmpty(t, err.Error())
			assert.Empty(t, k.Stats(), "a descriptor is left open")
		})
	}
}

func TestListenWithoutAKernel(t *testing.T) {
	if runtime.GOOS == "freebsd" {
		t.Skip("this system has bpf: TestKernelPacketConn listens there")
	}
	_, err := packet.Listen(&net.Interface{Name: "em0"}, packet.Raw, experiment, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// A filter may let the kernel capture less than the addresses.
func TestShortCapture(t *testing.T) {
	w := modelWire(bpf.Auto)
	a := w.listen(t, 0, packet.Raw, experiment, packet.Config{})
	b := w.listen(t, 1, packet.Raw, experiment, packet.Config{Filter: wholeProgram(ret(11))})
	require.NoError(t, a.send(numbered(1, 0)))
	for _, room := range []int{11, 2048} {
		buf := make([]byte, room)
		n, from, err := b.ReadFrom(buf)
		require.NoError(t, err)
		assert.Equal(t, a.frame(experiment, nil)[:11], buf[:n])
		assert.Equal(t, &packet.Addr{}, from)
		require.NoError(t, a.send(numbered(1, 0)))
	}
}

// The interface may go while a Conn reads.
func TestInterfaceGoes(t *testing.T) {
	w := modelWire(bpf.Auto)
	k := w.sys.(*bpftest.Kernel)
	a, b := w.ends(t, packet.Datagram)
	require.NoError(t, a.SetPromiscuous(true))
	require.NoError(t, b.send(numbered(1, 0)))
	require.True(t, k.RemoveInterface("em0"))
	a.requireNext(t, numbered(1, 0))
	_, _, err := a.receive()
	require.ErrorIs(t, err, bpf.ErrInterfaceGone)
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	assert.False(t, ne.Timeout())
	require.ErrorIs(t, a.send(numbered(1, 0)), syscall.ENXIO)
	require.NoError(t, a.Close())
	assert.NotErrorIs(t, err, fs.ErrClosed)
}

func TestNoDescriptorForPromiscuousMode(t *testing.T) {
	w := modelWire(bpf.Auto)
	k := w.sys.(*bpftest.Kernel)
	a, _ := w.ends(t, packet.Raw)
	open := len(k.Stats())
	k.Interface("em0").Rename("em7")
	require.ErrorIs(t, a.SetPromiscuous(true), syscall.ENXIO)
	assert.Len(t, k.Stats(), open)
	require.NoError(t, a.SetPromiscuous(false))
}

func TestAddr(t *testing.T) {
	a := &packet.Addr{HardwareAddr: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}}
	assert.Equal(t, "packet", a.Network())
	assert.Equal(t, "00:00:5e:00:53:01", a.String())
	assert.Equal(t, "<nil>", (*packet.Addr)(nil).String())
}

// A buffer of any size costs no more memory than the kernel's buffer.
func TestHugeBuffer(t *testing.T) {
	w := modelWire(bpf.Auto)
	a, b := w.ends(t, packet.Datagram)
	require.NoError(t, a.send(numbered(1, 0)))
	buf := make([]byte, 64<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, _, err := b.ReadFrom(buf)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	assert.Equal(t, numbered(1, 0), buf[:n])
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}
