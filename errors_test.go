package zbuf_test

import (
	"errors"
	"os"
	"reflect"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/abi"
)

// says checks that err names the operation and the interface, is target, and has a hint.
func says(t *testing.T, err error, op, iface string, target error) {
	t.Helper()
	var e *zbuf.Error
	if assert.ErrorAs(t, err, &e, op) {
		assert.Equal(t, op, e.Op)
		assert.Equal(t, iface, e.Interface, op)
		assert.ErrorIs(t, err, target, op)
		assert.NotEmpty(t, e.Hint, "%s: %v", op, err)
	}
}

// call calls a method of a Device by its name, with small arguments, and returns its error.
func call(d *zbuf.Device, method string) error {
	m := reflect.ValueOf(d).MethodByName(method)
	var args []reflect.Value
	for i := range m.Type().NumIn() {
		arg := reflect.New(m.Type().In(i)).Elem()
		switch arg.Kind() {
		case reflect.Int:
			arg.SetInt(1)
		case reflect.String:
			arg.SetString("em0")
		}
		args = append(args, arg)
	}
	results := m.Call(args)
	err, _ := results[len(results)-1].Interface().(error)
	return err
}

func TestEveryRequestThatFailsSaysWhatItWasAboutAndWhatToDo(t *testing.T) {
	for _, r := range abi.Requests {
		for _, errno := range []syscall.Errno{
			syscall.EINVAL, syscall.EPERM, syscall.EIO, syscall.EOPNOTSUPP, syscall.ENXIO,
		} {
			k, _ := newKernel(t)
			d := open(t, k)
			require.NoError(t, d.SetInterface("em0"))
			k.FailNext(r.Name, 1, errno)
			says(t, call(d, r.Method), r.Name, "em0", errno)
			require.NoError(t, d.Close())
			says(t, call(d, r.Method), r.Name, "em0", os.ErrClosed)
		}
	}
}

func TestEveryOtherCallThatFailsSaysWhatItWasAboutAndWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		fault string // the model's name of the call
		op    string
		errno syscall.Errno
		call  string
	}{
		"read":  {"read", "read", syscall.ENXIO, "Read"},
		"again": {"read", "read", syscall.EAGAIN, "Read"},
		"write": {"write", "write", syscall.ENETDOWN, "Write"},
		"wait":  {"wait", "kevent", syscall.EBADF, "Wait"},
		"wake":  {"wake", "kevent", syscall.ENOMEM, "Wake"},
		"index": {"index", "SIOCGIFINDEX", syscall.EIO, "InterfaceIndex"},
		"mask":  {"netmask", "netmask", syscall.EIO, "Netmask"},
		"limit": {"limit", "cap_ioctls_limit", syscall.ENOSYS, "Limit"},
		"close": {"close", "close", syscall.EIO, "Close"},
		"map":   {"map", "mmap", syscall.ENOMEM, "SetBuffers"},
	} {
		t.Run(name, func(t *testing.T) {
			k, _ := newKernel(t)
			d := open(t, k)
			require.NoError(t, d.SetInterface("em0"))
			k.FailNext(c.fault, 1, c.errno)
			says(t, call(d, c.call), c.op, "em0", c.errno)
		})
	}
	t.Run("calls that work say nothing", func(t *testing.T) {
		k, em0 := newKernel(t)
		d := open(t, k)
		require.NoError(t, d.SetInterface("em0"))
		n, err := d.Write(make([]byte, 60))
		require.NoError(t, err)
		assert.Equal(t, 60, n)
		require.NoError(t, d.SetImmediate(true))
		em0.Receive(make([]byte, 60))
		size, err := d.BufferLen()
		require.NoError(t, err)
		n, err = d.Read(make([]byte, size))
		require.NoError(t, err)
		assert.Positive(t, n)
		require.NoError(t, d.Wake())
		ev, err := d.Wait(false, -1)
		require.NoError(t, err)
		assert.True(t, ev.Woken)
		assert.False(t, d.Detached())
		em0.Remove()
		assert.True(t, d.Detached())
		require.NoError(t, d.Limit(nil, false))
	})
}

func TestUnmappingThatFailsIsReported(t *testing.T) {
	k, _ := newKernel(t)
	d := open(t, k)
	require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	_, err := d.SetBuffers(4096)
	require.NoError(t, err)
	require.NoError(t, d.SetInterface("em0"))
	k.FailNext("unmap", 1, syscall.EINVAL)
	says(t, d.Close(), "munmap", "em0", syscall.EINVAL)
}

func TestAnErrorThatHasItsOperationKeepsIt(t *testing.T) {
	inner := &zbuf.Error{Op: "kqueue", Err: syscall.EMFILE, Hint: "close some"}
	_, err := zbuf.OpenOn(failing{inner})
	assert.Same(t, inner, err)
}

type failing struct{ err error }

func (s failing) Open() (zbuf.Backend, error) { return nil, s.err }

func TestAdoptLeavesABackendThatFailsOpen(t *testing.T) {
	k, _ := newKernel(t)
	b, err := k.Open()
	require.NoError(t, err)
	k.FailNext("BIOCGETBUFMODE", 1, syscall.EIO)
	_, err = zbuf.Adopt(b)
	says(t, err, "BIOCGETBUFMODE", "", syscall.EIO)
	assert.Equal(t, 1, k.OpenCount())
	lock := b.Ioctl(zbuf.BIOCLOCK, nil)
	require.NoError(t, lock)
	d, err := zbuf.Adopt(b)
	require.NoError(t, err, "a locked one can be adopted")
	assert.ErrorIs(t, d.SetInterface("em0"), syscall.EPERM)
	require.NoError(t, d.Close())
}

func TestListsThatGrowAreAskedForAgain(t *testing.T) {
	linkTypes := func(d *zbuf.Device) (int, error) { l, err := d.LinkTypes(); return len(l), err }
	taps := func(d *zbuf.Device) (int, error) { l, err := d.InterfaceList(); return len(l), err }
	for _, c := range []struct {
		op   string
		call func(*zbuf.Device) (int, error)
		err  syscall.Errno
	}{
		{"BIOCGDLTLIST", linkTypes, syscall.ENOMEM}, {"BIOCGETIFLIST", taps, syscall.ENOSPC},
	} {
		k := bpftest.New(bpftest.WithFeatures(bpftest.Features{IfList: true}))
		k.AddInterface("em0", zbuf.DLT_EN10MB)
		d := open(t, k)
		require.NoError(t, d.SetInterface("em0"))
		k.FailNext(c.op, 2, c.err) // the second call of the first try
		n, err := c.call(d)
		require.NoError(t, err, c.op)
		assert.Equal(t, 1, n, c.op)
		for _, nth := range []int{2, 4, 6} {
			k.FailNext(c.op, nth, c.err)
		}
		_, err = c.call(d)
		says(t, err, c.op, "em0", c.err)
		k.FailNext(c.op, 2, syscall.EIO)
		_, err = c.call(d)
		says(t, err, c.op, "em0", syscall.EIO)
	}
}

// guarded is a backend with memory at two addresses, as far as the Device can tell.
type guarded struct {
	zbuf.Backend
	barred map[*byte]bool
}

func (g guarded) MapTwice(size int) (lent, view []byte, err error) {
	if lent, err = g.Map(size); err != nil {
		return nil, nil, err
	}
	if view, err = g.Map(size); err != nil {
		return nil, nil, errors.Join(err, g.Unmap(lent))
	}
	return lent, view, nil
}

func (g guarded) Protect(mem []byte, accessible bool) error {
	if len(mem) == 0 {
		return syscall.EINVAL
	}
	g.barred[&mem[0]] = !accessible
	return nil
}

func TestGuardedBuffers(t *testing.T) {
	k, _ := newKernel(t)
	open := func() (*zbuf.Device, map[*byte]bool) {
		b, err := k.Open()
		require.NoError(t, err)
		g := guarded{b, map[*byte]bool{}}
		d, err := zbuf.Adopt(g)
		require.NoError(t, err)
		require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
		return d, g.barred
	}
	d, barred := open()
	bufs, err := d.SetGuardedBuffers(5000)
	require.NoError(t, err)
	extra, err := d.GuardedMemory(1)
	require.NoError(t, err)
	assert.Len(t, extra, 4096)
	assert.Len(t, bufs.A.View(), bufs.Size())
	assert.Len(t, bufs.A.Data(), bufs.Size()-zbuf.SizeofZbufHeader)
	assert.NotSame(t, &bufs.A.View()[zbuf.SizeofZbufHeader], &bufs.A.Data()[0], "another address")
	require.NoError(t, d.Protect(bufs.B.View(), false))
	assert.True(t, barred[&bufs.B.View()[0]])
	require.NoError(t, d.Protect(bufs.B.View(), true))
	assert.False(t, barred[&bufs.B.View()[0]])
	says(t, d.Protect(nil, true), "mprotect", "", syscall.EINVAL)
	k.FailNext("map", 1, syscall.ENOMEM)
	_, err = d.GuardedMemory(1)
	says(t, err, "mmap", "", syscall.ENOMEM)
	require.NoError(t, d.Close())
	assert.Zero(t, k.MappedBytes())
	_, err = d.GuardedMemory(1)
	says(t, err, "mmap", "", os.ErrClosed)

	for _, nth := range []int{1, 2, 3, 4} {
		d, _ := open()
		k.FailNext("map", nth, syscall.ENOMEM)
		_, err := d.SetGuardedBuffers(4096)
		says(t, err, "mmap", "", syscall.ENOMEM)
		assert.Zero(t, k.MappedBytes(), "what was mapped is given back")
		require.NoError(t, d.Close())
	}
}

func TestWithoutGuardNothingIsGuarded(t *testing.T) {
	k, _ := newKernel(t)
	d := open(t, k)
	require.NoError(t, d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF))
	_, err := d.SetGuardedBuffers(4096)
	says(t, err, "mmap", "", errors.ErrUnsupported)
	_, err = d.GuardedMemory(4096)
	says(t, err, "mmap", "", errors.ErrUnsupported)
	says(t, d.Protect(make([]byte, 1), false), "mmap", "", errors.ErrUnsupported)
	_, err = d.SetBuffers(0)
	says(t, err, "BIOCSETZBUF", "", syscall.EINVAL)
	bufs, err := d.SetBuffers(4096)
	require.NoError(t, err)
	assert.Nil(t, bufs.A.View())
}
