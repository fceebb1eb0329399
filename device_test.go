package zbuf_test

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

func newKernel(t testing.TB) (*bpftest.Kernel, *bpftest.Interface) {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	return k, k.AddInterface("em0", zbuf.DLT_EN10MB)
}

func open(t testing.TB, k zbuf.System) *zbuf.Device {
	t.Helper()
	d, err := zbuf.OpenOn(k)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// Between SETBUFMODE(ZBUF) and SETZBUF the kernel panics when it is reset. The model does so too.
func TestNothingResetsWithoutBuffers(t *testing.T) {
	pass := []zbuf.Insn{{Op: 6, K: 1 << 16}}
	for name, reset := range map[string]func(*zbuf.Device) error{
		"SetFilter":    func(d *zbuf.Device) error { return d.SetFilter(pass) },
		"Flush":        (*zbuf.Device).Flush,
		"SetInterface": func(d *zbuf.Device) error { return d.SetInterface("em0") },
		"SetLinkType":  func(d *zbuf.Device) error { return d.SetLinkType(1) },
	} {
		t.Run(name, func(t *testing.T) {
			k, _ := newKernel(t)
			d := open(t, k)
			require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
			require.ErrorIs(t, reset(d), zbuf.ErrResetUnsafe)
			require.NoError(t, d.SetFilterNoReset(pass), "does not reset")
			require.NoError(t, k.Panicked())
			_, err := d.SetBuffers(1)
			require.NoError(t, err)
			require.NotErrorIs(t, reset(d), zbuf.ErrResetUnsafe)
			require.NoError(t, k.Panicked())
		})
		t.Run(name+" on an adopted descriptor", func(t *testing.T) {
			k, _ := newKernel(t)
			b, err := k.Open()
			require.NoError(t, err)
			mode := uint32(zbuf.BPF_BUFMODE_ZBUF)
			require.NoError(t, b.Ioctl(zbuf.BIOCSETBUFMODE, &mode))
			d, err := zbuf.Adopt(b)
			require.NoError(t, err)
			defer d.Close()
			require.ErrorIs(t, reset(d), zbuf.ErrResetUnsafe)
			require.NoError(t, k.Panicked())
		})
	}
}

// lockedCases are descriptors that somebody locked. A locked descriptor does not tell its mode, and
// BIOCFLUSH resets it nevertheless. So Flush of one that was adopted fails with err.
var lockedCases = map[string]struct {
	setUp func(t *testing.T, d *zbuf.Device, ifname string)
	err   error
}{
	"in zero-copy mode without buffers": {
		func(t *testing.T, d *zbuf.Device, _ string) {
			require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
		}, zbuf.ErrResetUnsafe,
	},
	"in zero-copy mode and attached": {
		func(t *testing.T, d *zbuf.Device, ifname string) {
			require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
			_, err := d.SetBuffers(4096)
			require.NoError(t, err)
			require.NoError(t, d.SetInterface(ifname))
		}, nil,
	},
	"in buffered mode": {func(*testing.T, *zbuf.Device, string) {}, nil},
	"in buffered mode and attached": {
		func(t *testing.T, d *zbuf.Device, ifname string) {
			require.NoError(t, d.SetInterface(ifname))
		}, nil,
	},
}

// borrowed is a backend that another Device closes. The Device that adopts it may become garbage.
type borrowed struct{ zbuf.Backend }

func (borrowed) Close() error { return nil }

// requireFlushOfLocked checks lockedCases with descriptors of k.
func requireFlushOfLocked(t *testing.T, k zbuf.System, ifname string) {
	for name, c := range lockedCases {
		t.Run(name, func(t *testing.T) {
			b, err := k.Open()
			require.NoError(t, err)
			owner, err := zbuf.Adopt(b)
			require.NoError(t, err)
			defer owner.Close()
			c.setUp(t, owner, ifname)
			require.NoError(t, owner.Lock())
			adopted, err := zbuf.Adopt(borrowed{b})
			require.NoError(t, err)
			require.ErrorIs(t, adopted.Flush(), c.err)
		})
	}
}

func TestAdoptedLockedDescriptorIsFlushedOnlyIfThatIsSafe(t *testing.T) {
	k, em0 := newKernel(t)
	requireFlushOfLocked(t, k, em0.Name())
	require.NoError(t, k.Panicked())
}

func TestSecondSetBuffersIsRefused(t *testing.T) {
	k, em0 := newKernel(t)
	d := open(t, k)
	require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	bufs, err := d.SetBuffers(5000)
	require.NoError(t, err)
	assert.Equal(t, 8192, bufs.Size(), "rounded up to pages")
	require.NoError(t, d.SetInterface("em0"))
	em0.Receive(make([]byte, 60))
	rotated, err := d.Rotate()
	require.NoError(t, err)
	require.True(t, rotated)
	_, err = d.SetBuffers(4096)
	require.ErrorIs(t, err, zbuf.ErrBuffersSet)
	_, _, owned := bufs.A.Records()
	assert.True(t, owned, "the header is as it was")
	assert.Equal(t, 2*8192, k.MappedBytes())
}

func TestAdoptedBuffersStayWithWhoLentThem(t *testing.T) {
	k, _ := newKernel(t)
	b, err := k.Open()
	require.NoError(t, err)
	owner, err := zbuf.Adopt(b)
	require.NoError(t, err)
	require.NoError(t, owner.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	_, err = owner.SetBuffers(4096)
	require.NoError(t, err)
	adopted, err := zbuf.Adopt(borrowed{b})
	require.NoError(t, err)
	_, err = adopted.SetBuffers(4096)
	assert.ErrorIs(t, err, zbuf.ErrNotOurBuffers)
	assert.NoError(t, adopted.Flush(), "there are buffers, so this is safe")
	require.NoError(t, owner.Close())
}

func TestMemoryOutlivesCloseWhilePinned(t *testing.T) {
	k, _ := newKernel(t)
	d := open(t, k)
	require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	_, err := d.SetBuffers(4096)
	require.NoError(t, err)
	require.True(t, d.Pin())
	require.NoError(t, d.Close())
	assert.Zero(t, k.OpenCount())
	assert.Equal(t, 8192, k.MappedBytes())
	require.NoError(t, d.Unpin())
	assert.Zero(t, k.MappedBytes())
	assert.False(t, d.Pin())
	assert.NoError(t, d.Close())
}

func TestLeakedDeviceIsCleanedUp(t *testing.T) {
	k, _ := newKernel(t)
	func() {
		d, err := zbuf.OpenOn(k)
		require.NoError(t, err)
		require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
		_, err = d.SetBuffers(4096)
		require.NoError(t, err)
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		return k.OpenCount() == 0 && k.MappedBytes() == 0
	}, lab.Patience, time.Millisecond, "a descriptor is open or memory is mapped")
}

func TestClosedDeviceSaysSo(t *testing.T) {
	k, _ := newKernel(t)
	d := open(t, k)
	require.NoError(t, d.Close())
	for name, call := range map[string]func() error{
		"ioctl":     func() error { _, err := d.Stats(); return err },
		"read":      func() error { _, err := d.Read(make([]byte, 4096)); return err },
		"write":     func() error { _, err := d.Write(make([]byte, 60)); return err },
		"wait":      func() error { _, err := d.Wait(true, 0); return err },
		"wake":      d.Wake,
		"rotate":    func() error { _, err := d.Rotate(); return err },
		"buffers":   func() error { _, err := d.SetBuffers(1); return err },
		"mode":      func() error { return d.SetBufferMode(1) },
		"interface": func() error { return d.SetInterface("em0") },
		"limit":     func() error { return d.Limit(nil, false) },
		"index":     func() error { _, err := d.InterfaceIndex(); return err },
		"netmask":   func() error { _, err := d.Netmask(); return err },
		"readable":  func() error { _, err := d.BytesReadable(); return err },
	} {
		assert.ErrorIs(t, call(), os.ErrClosed, name)
	}
	assert.False(t, d.Detached())
}

// Each method makes its request. A getter returns the value that the setter set, or that the kernel
// has.
func TestEveryRequestHasAMethod(t *testing.T) {
	k := bpftest.New(
		bpftest.WithSysctl("net.bpf.zerocopy_enable", 1),
		bpftest.WithFeatures(bpftest.Features{IfList: true, SetVLANPCP: true}))
	k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(105, 24))
	k.AddInterface("em1", zbuf.DLT_EN10MB)
	made := map[string]bool{}
	d, err := zbuf.OpenOn(tracing{k, made})
	require.NoError(t, err)
	defer d.Close()
	get := func(v any, err error) any { t.Helper(); require.NoError(t, err); return v }
	ok := func(err error) { t.Helper(); require.NoError(t, err) }

	ok(d.SetBufferMode(zbuf.BPF_BUFMODE_BUFFER))
	assert.EqualValues(t, zbuf.BPF_BUFMODE_BUFFER, get(d.BufferMode()))
	assert.EqualValues(t, 8192, get(d.SetBufferLen(8192)))
	assert.EqualValues(t, 8192, get(d.BufferLen()))
	ok(d.SetTimestampType(zbuf.BPF_T_NANOTIME | zbuf.BPF_T_MONOTONIC))
	assert.EqualValues(t, 0x201, get(d.TimestampType()))
	ok(d.SetFilter([]zbuf.Insn{{Op: 6, K: 1}}))
	ok(d.SetFilterNoReset([]zbuf.Insn{{Op: 6, K: 1}}))
	ok(d.SetWriteFilter(nil))
	ok(d.SetInterface("em0"))
	assert.Equal(t, "em0", get(d.Interface()))
	assert.Equal(t, "em0", d.Name())
	ok(d.SetPromiscuous())
	ok(d.Flush())
	assert.ElementsMatch(t, []uint32{1, 105}, get(d.LinkTypes()))
	ok(d.SetLinkType(105))
	assert.EqualValues(t, 105, get(d.LinkType()))
	ok(d.SetReadTimeout(1500 * time.Microsecond))
	assert.Equal(t, 2*time.Millisecond, get(d.ReadTimeout()), "in ticks")
	assert.ErrorIs(t, d.SetReadTimeout(-time.Second), syscall.EINVAL)
	assert.Equal(t, zbuf.Stat{}, get(d.Stats()))
	ok(d.SetImmediate(true))
	assert.Equal(t, zbuf.Version{Major: 1, Minor: 1}, get(d.FilterVersion()))
	ok(d.SetSignal(1))
	assert.EqualValues(t, 1, get(d.Signal()))
	ok(d.SetHeaderComplete(true))
	assert.Equal(t, true, get(d.HeaderComplete()))
	ok(d.SetDirection(zbuf.BPF_D_OUT))
	assert.EqualValues(t, zbuf.BPF_D_OUT, get(d.Direction()))
	ok(d.SetFeedback(true))
	assert.Zero(t, get(d.BytesReadable()))
	ok(d.SetNonblocking(true))
	ok(d.SetAsync(true))
	get(d.Owner())
	ok(d.SetOwner(0))
	get(d.ProcessGroup())
	ok(d.SetProcessGroup(0))
	ok(d.SetVLANPCP(7))
	assert.ErrorIs(t, d.SetVLANPCP(8), syscall.EINVAL)
	assert.ElementsMatch(t, []string{"em0", "em1"}, get(d.InterfaceList()))
	_, err = d.MaxBufferSize()
	assert.ErrorIs(t, err, syscall.EOPNOTSUPP)
	_, err = d.Rotate()
	assert.ErrorIs(t, err, syscall.EOPNOTSUPP)
	_, err = d.SetBuffers(4096)
	assert.ErrorIs(t, err, syscall.EOPNOTSUPP)
	ok(d.Lock())
	assert.ErrorIs(t, d.SetFilter(nil), syscall.EPERM)

	for _, r := range zbuf.Requests() {
		assert.True(t, made[r.String()], "no method makes %v", r)
	}
}

// tracing notes the requests made.
type tracing struct {
	k    *bpftest.Kernel
	made map[string]bool
}

func (s tracing) Open() (zbuf.Backend, error) {
	b, err := s.k.Open()
	return tracingBackend{b, s.made}, err
}

type tracingBackend struct {
	zbuf.Backend
	made map[string]bool
}

func (b tracingBackend) Ioctl(req zbuf.Request, arg any) error {
	b.made[req.String()] = true
	return b.Backend.Ioctl(req, arg)
}

func TestErrorsNameOperationInterfaceAndRemedy(t *testing.T) {
	k, _ := newKernel(t)
	d := open(t, k)
	err := d.SetInterface("em9")
	var e *zbuf.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "BIOCSETIF", e.Op)
	assert.Equal(t, "em9", e.Interface)
	assert.ErrorIs(t, err, syscall.ENXIO)
	assert.Contains(t, err.Error(), "no such interface")
	assert.ErrorIs(t, d.SetInterface(strings.Repeat("x", 16)), syscall.ENAMETOOLONG)

	k.FailNext("open", 1, syscall.EACCES)
	_, err = zbuf.OpenOn(k)
	assert.ErrorIs(t, err, fs.ErrPermission)
	assert.Contains(t, err.Error(), "devfs.rules")

	require.NoError(t, k.SetSysctl("net.bpf.zerocopy_enable", 0))
	err = open(t, k).SetBufferMode(zbuf.BPF_BUFMODE_ZBUF)
	assert.ErrorIs(t, err, zbuf.ErrZeroCopyDisabled)
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.Contains(t, err.Error(), "bpfctl zerocopy on")
}

func TestOpenElsewhereIsUnsupported(t *testing.T) {
	if runtime.GOOS == "freebsd" {
		t.Skip("this is FreeBSD")
	}
	_, err := zbuf.Open()
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.Contains(t, err.Error(), runtime.GOOS)
}

func TestValidateAgreesWithTheKernel(t *testing.T) {
	k, _ := newKernel(t)
	d := open(t, k)
	check := func(prog []zbuf.Insn) {
		t.Helper()
		kernel, ours := d.SetFilterNoReset(prog), zbuf.Validate(prog)
		assert.Equal(t, kernel == nil, ours == nil, "%v: kernel %v, Validate %v", prog, kernel, ours)
	}
	ret := zbuf.Insn{Op: 6}
	check(nil)
	for op := range uint16(0x120) { // every code, as the first of two and alone
		for _, k := range []uint32{0, 1, 15, 16, 1 << 31} {
			check([]zbuf.Insn{{Op: op, K: k}, ret})
			check([]zbuf.Insn{{Op: op, K: k, Jt: 1}, ret})
			check([]zbuf.Insn{{Op: op, K: k}})
		}
	}
}

func TestOlder(t *testing.T) {
	k, em0 := newKernel(t)
	d := open(t, k)
	require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	bufs, err := d.SetBuffers(4096)
	require.NoError(t, err)
	require.NoError(t, d.SetInterface("em0"))
	want := []*zbuf.Buffer{&bufs.A, &bufs.B}
	for turn := range 6 {
		for range 200 { // both are owned then
			em0.Receive(make([]byte, 64))
		}
		older := zbuf.Older(&bufs.A, &bufs.B)
		require.Same(t, want[turn%2], older)
		_, gen, owned := older.Records()
		require.True(t, owned)
		older.Header().Acknowledge(gen)
		em0.Receive(make([]byte, 64))
	}
}

// Memory that was unmapped may become somebody else's. A Device that is kept has no pointer to it.
func TestBuffersAreEmptyOnceTheirMemoryIsGone(t *testing.T) {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	d, err := zbuf.OpenOn(k)
	require.NoError(t, err)
	require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	b, err := d.SetBuffers(4096)
	require.NoError(t, err)
	require.True(t, d.Pin())
	require.NoError(t, d.Close())
	assert.NotEmpty(t, b.A.Data(), "a pin keeps the memory")
	require.NoError(t, d.Unpin())
	assert.Zero(t, k.MappedBytes())
	assert.Empty(t, b.A.Data())
	assert.Empty(t, b.B.Data())
	assert.Nil(t, b.A.Header())
}
