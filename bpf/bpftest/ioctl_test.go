package bpftest_test

import (
	"maps"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// requests are all there are, with an argument that is legal on an attached descriptor.
func requests() map[zbuf.Request]any {
	all := map[zbuf.Request]any{}
	for _, req := range zbuf.Requests() {
		all[req] = req.Argument()
	}
	maps.Copy(all, map[zbuf.Request]any{ // where zero is not legal
		zbuf.BIOCSETF: program(accept), zbuf.BIOCSETFNR: program(accept), zbuf.BIOCSETWF: program(accept),
		zbuf.BIOCSETIF: ifreq("em0"), zbuf.BIOCSDLT: ptr(uint32(zbuf.DLT_EN10MB)),
		zbuf.BIOCSETBUFMODE: ptr(uint32(zbuf.BPF_BUFMODE_BUFFER)), zbuf.FIONBIO: ptr(int32(1)),
	})
	return all
}

func ptr[T any](v T) *T { return &v }

func TestRequests(t *testing.T) {
	t.Run("every request, and what it gives before and after attach in both modes",
		func(t *testing.T) {
			const ok = syscall.Errno(0)
			type want struct{ fresh, buffered, lent, gone syscall.Errno }
			fails := map[zbuf.Request]want{
				zbuf.BIOCSBLEN:      {ok, syscall.EINVAL, syscall.EOPNOTSUPP, ok},
				zbuf.BIOCPROMISC:    {syscall.EINVAL, ok, ok, syscall.EINVAL},
				zbuf.BIOCGDLT:       {syscall.EINVAL, ok, ok, syscall.EINVAL},
				zbuf.BIOCGETIF:      {syscall.EINVAL, ok, ok, syscall.EINVAL},
				zbuf.BIOCSETIF:      {ok, ok, ok, syscall.ENXIO},
				zbuf.BIOCSDLT:       {syscall.EINVAL, ok, ok, syscall.EINVAL},
				zbuf.BIOCGDLTLIST:   {syscall.EINVAL, ok, ok, syscall.EINVAL},
				zbuf.BIOCSETBUFMODE: {ok, syscall.EBUSY, syscall.EBUSY, syscall.EBUSY},
				zbuf.BIOCGETZMAX:    {syscall.EOPNOTSUPP, syscall.EOPNOTSUPP, ok, syscall.EOPNOTSUPP},
				zbuf.BIOCROTZBUF:    {syscall.EOPNOTSUPP, syscall.EOPNOTSUPP, ok, syscall.EOPNOTSUPP},
				zbuf.BIOCSETZBUF:    {syscall.EOPNOTSUPP, syscall.EOPNOTSUPP, syscall.EINVAL, syscall.EOPNOTSUPP},
				zbuf.BIOCSETVLANPCP: {syscall.EINVAL, syscall.EINVAL, syscall.EINVAL, syscall.EINVAL},
				zbuf.BIOCGETIFLIST:  {syscall.EINVAL, syscall.EINVAL, syscall.EINVAL, syscall.EINVAL},
			}
			check := func(s *session, req zbuf.Request, arg any, want syscall.Errno, state string) {
				err := s.Ioctl(req, arg)
				if want == ok {
					require.NoError(t, err, "%v %s", req, state)
					return
				}
				require.Equal(t, error(want), err, "%v %s", req, state)
			}
			for req, arg := range requests() {
				w := fails[req]
				check(open(t, newKernel()), req, arg, w.fresh, "fresh")
				check(buffered(t, newKernel(), page), req, arg, w.buffered, "buffered")
				check(zerocopy(t, newKernel()), req, arg, w.lent, "zero-copy")
				s := buffered(t, newKernel(), page)
				s.k.RemoveInterface("em0")
				check(s, req, arg, w.gone, "detached")
			}
		})
	t.Run("locked: what is allowed, the rest is EPERM", func(t *testing.T) {
		allowed := map[zbuf.Request]bool{}
		for _, r := range []zbuf.Request{
			zbuf.BIOCGBLEN, zbuf.BIOCFLUSH, zbuf.BIOCGDLT, zbuf.BIOCGDLTLIST, zbuf.BIOCGETIF,
			zbuf.BIOCGRTIMEOUT,
			zbuf.BIOCGSTATS, zbuf.BIOCVERSION, zbuf.BIOCGRSIG, zbuf.BIOCGHDRCMPLT, zbuf.BIOCSTSTAMP,
			zbuf.BIOCFEEDBACK,
			zbuf.FIONREAD, zbuf.BIOCLOCK, zbuf.BIOCSRTIMEOUT, zbuf.BIOCIMMEDIATE, zbuf.TIOCGPGRP,
			zbuf.BIOCROTZBUF,
		} {
			allowed[r] = true
		}
		s := zerocopy(t, newKernel())
		s.do(zbuf.BIOCLOCK, nil)
		for req, arg := range requests() {
			if allowed[req] {
				s.do(req, arg)
			} else {
				s.refuse(syscall.EPERM, req, arg)
			}
		}
		s.refuse(syscall.EPERM, zbuf.Request(0x2000427f), nil)
		later := open(t, newKernel(bpftest.WithFeatures(bpftest.Features{IfList: true})))
		later.do(zbuf.BIOCLOCK, nil)
		later.do(zbuf.BIOCGETIFLIST, new(zbuf.IfList))
		_, err := s.Write(frame(64))
		require.NoError(t, err)
	})
	t.Run("unknown numbers are EINVAL", func(t *testing.T) {
		s := open(t, newKernel())
		for _, req := range []zbuf.Request{0, 0x2000427f, zbuf.BIOCGBLEN + 1<<16, 0xc0206921} {
			s.refuse(syscall.EINVAL, req, nil)
			s.refuse(syscall.EINVAL, req, new(uint32))
			s.refuse(syscall.EINVAL, req, new(int32))
			s.refuse(syscall.EINVAL, req, new(zbuf.Stat))
		}
	})
	t.Run("a missing argument or one of another type is EFAULT", func(t *testing.T) {
		s := zerocopy(t, newKernel())
		for req, arg := range requests() {
			if arg == nil {
				continue
			}
			s.refuse(syscall.EFAULT, req, nil)
			s.refuse(syscall.EFAULT, req, new(string))
			s.refuse(syscall.EFAULT, req, reflect.Zero(reflect.TypeOf(arg)).Interface())
		}
	})
	t.Run("closed: EBADF", func(t *testing.T) {
		s := open(t, newKernel())
		require.Equal(t, 1, s.k.OpenCount())
		require.NoError(t, s.Close())
		require.Zero(t, s.k.OpenCount())
		s.refuse(syscall.EBADF, zbuf.BIOCFLUSH, nil)
		for _, call := range []func() error{
			s.Close, s.Wake,
			func() error { _, err := s.Read(make([]byte, 4096)); return err },
			func() error { _, err := s.Write(frame(64)); return err },
			func() error { _, err := s.Wait(true, 0); return err },
			func() error { _, err := s.Poll(in, 0); return err },
			func() error { return s.Limit(nil, true) },
			func() error { return s.AddFilter(bpftest.EVFILT_READ) },
		} {
			require.Equal(t, syscall.EBADF, call())
		}
	})
	t.Run("what is set can be got", func(t *testing.T) {
		s := buffered(t, newKernel(), page)
		require.EqualValues(t, zbuf.BPF_D_INOUT, s.get(zbuf.BIOCGDIRECTION))
		require.EqualValues(t, 23, s.get(zbuf.BIOCGRSIG), "SIGIO there")
		for _, c := range []struct {
			set, get zbuf.Request
			v, want  uint32
		}{
			{zbuf.BIOCSDIRECTION, zbuf.BIOCGDIRECTION, zbuf.BPF_D_IN, zbuf.BPF_D_IN},
			{zbuf.BIOCSDIRECTION, zbuf.BIOCGDIRECTION, zbuf.BPF_D_OUT, zbuf.BPF_D_OUT},
			{zbuf.BIOCSHDRCMPLT, zbuf.BIOCGHDRCMPLT, 7, 1},
			{zbuf.BIOCSHDRCMPLT, zbuf.BIOCGHDRCMPLT, 0, 0},
			{zbuf.BIOCSRSIG, zbuf.BIOCGRSIG, 31, 31},
			{zbuf.BIOCSTSTAMP, zbuf.BIOCGTSTAMP, zbuf.BPF_T_NONE, zbuf.BPF_T_NONE},
			{zbuf.BIOCSTSTAMP, zbuf.BIOCGTSTAMP, zbuf.BPF_T_BINTIME | zbuf.BPF_T_MONOTONIC_FAST, 0x302},
		} {
			s.set(c.set, c.v)
			require.Equal(t, c.want, s.get(c.get), "%v", c.set)
		}
		require.EqualValues(t, zbuf.BPF_BUFMODE_BUFFER, s.get(zbuf.BIOCGETBUFMODE))
		require.EqualValues(t, zbuf.DLT_EN10MB, s.get(zbuf.BIOCGDLT))
		for _, c := range []struct {
			req zbuf.Request
			v   uint32
		}{
			{zbuf.BIOCSDIRECTION, 3}, {zbuf.BIOCSRSIG, 32}, {zbuf.BIOCSTSTAMP, 0x103}, {zbuf.BIOCSTSTAMP, 4},
			{zbuf.BIOCSTSTAMP, 0x400}, {zbuf.BIOCSDLT, zbuf.DLT_RAW},
		} {
			s.refuse(syscall.EINVAL, c.req, &c.v)
		}
		var v zbuf.Version
		s.do(zbuf.BIOCVERSION, &v)
		require.Equal(t, zbuf.Version{Major: 1, Minor: 1}, v)
	})
	t.Run("owner: this process, its group, nobody; else ESRCH", func(t *testing.T) {
		s := open(t, newKernel(bpftest.WithProcess(70, 60)))
		owner := func(set, get zbuf.Request, v, want int32) {
			s.do(set, &v)
			var got int32
			s.do(get, &got)
			require.Equal(t, want, got, "%v %d", set, v)
		}
		owner(zbuf.FIOSETOWN, zbuf.FIOGETOWN, 70, 70)
		owner(zbuf.FIOSETOWN, zbuf.TIOCGPGRP, -60, 60)
		owner(zbuf.TIOCSPGRP, zbuf.FIOGETOWN, 60, -60)
		owner(zbuf.FIOSETOWN, zbuf.FIOGETOWN, 0, 0)
		s.refuse(syscall.ESRCH, zbuf.FIOSETOWN, ptr(int32(60)))
		s.refuse(syscall.ESRCH, zbuf.TIOCSPGRP, ptr(int32(70)))
		for f, want := range map[bpftest.Features]int32{{}: 70, {OwnerCleared: true}: 0} {
			s := open(t, newKernel(bpftest.WithProcess(70, 60), bpftest.WithFeatures(f)))
			for _, refused := range []struct {
				req zbuf.Request
				id  int32
			}{{zbuf.FIOSETOWN, 60}, {zbuf.TIOCSPGRP, 70}} {
				s.do(zbuf.FIOSETOWN, ptr(int32(70)))
				s.refuse(syscall.ESRCH, refused.req, ptr(refused.id))
				var got int32
				s.do(zbuf.FIOGETOWN, &got)
				require.Equal(t, want, got, "%+v after %v that is refused", f, refused.req)
			}
		}
	})
	t.Run("later releases: BIOCSETVLANPCP, flags that stick", func(t *testing.T) {
		s := buffered(t, newKernel(bpftest.WithFeatures(bpftest.Features{SetVLANPCP: true,
			StickyFlags: true})), page)
		s.set(zbuf.BIOCSETVLANPCP, 7)
		s.refuse(syscall.EINVAL, zbuf.BIOCSETVLANPCP, ptr(uint32(8)))
		for _, req := range []zbuf.Request{zbuf.BIOCIMMEDIATE, zbuf.BIOCSHDRCMPLT, zbuf.BIOCFEEDBACK} {
			s.set(req, 1)
			s.set(req, 0)
		}
		s.do(zbuf.FIOASYNC, ptr(int32(1)))
		s.do(zbuf.FIOASYNC, ptr(int32(0)))
		flags := func() [4]int {
			st := s.k.Stats()[0]
			return [4]int{int(st.Immediate), int(st.Hdrcmplt), int(st.Feedback), int(st.Async)}
		}
		require.Equal(t, [4]int{1, 1, 1, 1}, flags())
		s = buffered(t, s.k, page)
		require.Equal(t, [4]int{}, flags())
		s.set(zbuf.BIOCIMMEDIATE, 256)
		s.set(zbuf.BIOCSHDRCMPLT, 4)
		s.set(zbuf.BIOCFEEDBACK, 3)
		s.do(zbuf.FIOASYNC, ptr(int32(-2)))
		require.Equal(t, [4]int{1, 1, 1, 1}, flags(), "they are bits, whatever sets them")
	})
	t.Run("later releases: BIOCGETIFLIST", func(t *testing.T) {
		k := newKernel(bpftest.WithFeatures(bpftest.Features{IfList: true}))
		s := open(t, k)
		k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback(), bpftest.AlsoDLT(zbuf.DLT_RAW, 0))
		var l zbuf.IfList
		s.do(zbuf.BIOCGETIFLIST, &l)
		require.EqualValues(t, 12, l.Size, "a name for each link type")
		require.EqualValues(t, 3, l.Count)
		names := make([]byte, 12)
		s.do(zbuf.BIOCGETIFLIST, &zbuf.IfList{Size: 12, Ubuf: &names[0]})
		require.Equal(t, "lo0\x00lo0\x00em0\x00", string(names))
		clear(names)
		l = zbuf.IfList{Size: 4, Count: 1, Ubuf: &names[0]}
		s.do(zbuf.BIOCGETIFLIST, &l)
		require.Equal(t, "lo0\x00"+strings.Repeat("\x00", 8), string(names))
		require.EqualValues(t, 1, l.Count)
		l = zbuf.IfList{Count: 2}
		s.do(zbuf.BIOCGETIFLIST, &l)
		require.EqualValues(t, 8, l.Size, "what two names need")
		require.EqualValues(t, 3, l.Count, "and how many there are")
		clear(names)
		s.refuse(syscall.ENOSPC, zbuf.BIOCGETIFLIST, &zbuf.IfList{Size: 11, Ubuf: &names[0]})
		require.Zero(t, names[0], "and nothing is written")
		s.refuse(syscall.EFAULT, zbuf.BIOCGETIFLIST, &zbuf.IfList{Size: 12})
	})
}

// [31]: the rights that Capsicum leaves.
func TestLimit(t *testing.T) {
	s := buffered(t, newKernel(), page)
	require.NoError(t, s.Limit([]zbuf.Request{zbuf.BIOCROTZBUF, zbuf.BIOCGSTATS, zbuf.FIONREAD}, true))
	_, err := s.Write(frame(64))
	require.NoError(t, err)
	require.NoError(t, s.Limit([]zbuf.Request{zbuf.BIOCROTZBUF, zbuf.BIOCGSTATS}, false))
	s.stat()
	for _, req := range []zbuf.Request{zbuf.FIONREAD, zbuf.BIOCGDLT, zbuf.BIOCSETIF} {
		s.refuse(bpftest.ENOTCAPABLE, req, nil)
	}
	_, err = s.Write(frame(64))
	require.Equal(t, bpftest.ENOTCAPABLE, err)
	require.Equal(t, bpftest.ENOTCAPABLE, s.Limit([]zbuf.Request{zbuf.FIONREAD}, false))
	require.Equal(t, bpftest.ENOTCAPABLE, s.Limit(nil, true))
	s.em0.Receive(frame(64))
	p := make([]byte, page)
	n, err := s.Read(p)
	require.NoError(t, err)
	require.NotZero(t, n)
	_, err = s.Wait(true, 0)
	require.NoError(t, err)
	require.False(t, s.Detached())
	require.NoError(t, s.Close())
	for _, known := range []error{syscall.EPERM, syscall.EACCES, syscall.EINVAL} {
		require.NotErrorIs(t, bpftest.ENOTCAPABLE, known, "it is told from errors that mean "+
			"something else")
	}
}

// A GOARCH=386 binary on an amd64 kernel [21, 32].
func TestCompat32(t *testing.T) {
	s := open(t, newKernel(bpftest.WithCompat32()))
	s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
	for req, arg := range map[zbuf.Request]any{
		zbuf.BIOCGETZMAX: new(uintptr), zbuf.BIOCSETZBUF: new(zbuf.Zbuf),
		zbuf.BIOCROTZBUF:   new(zbuf.Zbuf),
		zbuf.BIOCGETIFLIST: new(zbuf.IfList),
	} {
		s.refuse(syscall.EINVAL, req, arg)
	}
	s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_BUFFER)
	lo0 := s.k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback())
	s.attach("lo0")
	lo0.Receive(make([]byte, 20))
	require.Len(t, s.read(), 28+20, "the 64-bit header until a compat form was used")
	s.do(zbuf.BIOCGRTIMEOUT, new(zbuf.Timeval))
	lo0.Receive(make([]byte, 20))
	require.Len(t, s.read(), 20+20)
	s.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NANOTIME)
	lo0.Receive(make([]byte, 20))
	require.Len(t, s.read(), 28+20)

	locked := open(t, s.k)
	locked.attach("lo0")
	locked.do(zbuf.BIOCLOCK, nil)
	locked.refuse(syscall.EPERM, zbuf.BIOCROTZBUF, new(zbuf.Zbuf))
	locked.refuse(syscall.EPERM, zbuf.BIOCSETFNR, program(accept))
	lo0.Receive(make([]byte, 20))
	require.Len(t, locked.read(), 28+20)
	locked.do(zbuf.BIOCGDLTLIST, new(zbuf.DLTList))
	lo0.Receive(make([]byte, 20))
	require.Len(t, locked.read(), 20+20)
}
