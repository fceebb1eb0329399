package conformance

import (
	"bytes"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// getAndSet checks a pair of requests on one number.
func getAndSet(get, set zbuf.Request, initial uint32, good map[uint32]uint32, bad ...uint32) func(
	*testing.T, lab.World,
) {
	return func(t *testing.T, w lab.World) {
		s := open(t, w)
		require.Equal(t, initial, s.get(get), "a new descriptor's %v", get)
		for in, out := range good {
			s.set(set, in)
			require.Equal(t, out, s.get(get), "%v after %v of %d", get, set, in)
		}
		was := s.get(get)
		for _, v := range bad {
			s.refuseSet(syscall.EINVAL, set, v)
			require.Equal(t, was, s.get(get))
		}
	}
}

// same maps values to themselves.
func same(vs ...uint32) map[uint32]uint32 {
	m := map[uint32]uint32{}
	for _, v := range vs {
		m[v] = v
	}
	return m
}

var _ = add(
	rule{name: "ioctl/BIOCVERSION is 1.1", run: func(t *testing.T, w lab.World) {
		var v zbuf.Version
		open(t, w).do(zbuf.BIOCVERSION, &v)
		require.Equal(t, zbuf.Version{Major: 1, Minor: 1}, v)
	}},
	rule{name: "ioctl/BIOCSRSIG: SIGIO first, up to 31",
		run: getAndSet(zbuf.BIOCGRSIG, zbuf.BIOCSRSIG, sigio, same(0, 1, 31), 32, 0xffffffff)},
	rule{name: "ioctl/BIOCSHDRCMPLT: 0 or 1",
		differs: []string{"StickyFlags"},
		run: func(t *testing.T, w lab.World) {
			for _, c := range []struct{ set, get uint32 }{{0, 0}, {1, 1}, {5, 1}, {0xffffffff, 1}} {
				s := open(t, w)
				s.set(zbuf.BIOCSHDRCMPLT, c.set)
				require.Equal(t, c.get, s.get(zbuf.BIOCGHDRCMPLT))
				s.set(zbuf.BIOCSHDRCMPLT, 0)
				require.Equal(t, by(featuresOf(w).StickyFlags, c.get, 0), s.get(zbuf.BIOCGHDRCMPLT))
			}
		}},
	rule{name: "ioctl/BIOCSDIRECTION: 0, 1, 2",
		run: getAndSet(zbuf.BIOCGDIRECTION, zbuf.BIOCSDIRECTION, zbuf.BPF_D_INOUT,
			same(zbuf.BPF_D_IN, zbuf.BPF_D_INOUT, zbuf.BPF_D_OUT), 3, 0xffffffff)},
	rule{name: "ioctl/BIOCSTSTAMP: a format with one flag, or none at all",
		run: getAndSet(zbuf.BIOCGTSTAMP, zbuf.BIOCSTSTAMP, zbuf.BPF_T_MICROTIME,
			same(0, 1, 2, 3, 0x100, 0x101, 0x102, 0x200, 0x201, 0x202, 0x300, 0x301, 0x302),
			4, 5, 7, 0x103, 0x203, 0x303, 0x400, 0x500, 0x1000, 0x80000000)},
	rule{name: "ioctl/BIOCIMMEDIATE and BIOCFEEDBACK take any value",
		differs: []string{"StickyFlags"},
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.attach(s.p.A)
			s.set(zbuf.BIOCIMMEDIATE, 5)
			s.set(zbuf.BIOCFEEDBACK, 7)
			x, sticky := s.listener(), featuresOf(w).StickyFlags
			require.Equal(t, by(sticky, 1, 5), int(x.Immediate))
			require.Equal(t, by(sticky, 1, 7), int(x.Feedback))
			s.set(zbuf.BIOCIMMEDIATE, 256)
			require.Equal(t, by(sticky, 1, 0), int(s.listener().Immediate),
				"kept in a byte, or a bit for ever")
			s.set(zbuf.BIOCIMMEDIATE, 0)
			s.set(zbuf.BIOCFEEDBACK, 0)
			require.Equal(t, by(sticky, 1, 0), int(s.listener().Immediate))
			require.Equal(t, by(sticky, 1, 0), int(s.listener().Feedback), "can be turned off again, or not")
		}},
	rule{name: "ioctl/BIOCSRTIMEOUT is kept in ticks, rounded up or down",
		differs: []string{"TruncateTimeout"},
		run: func(t *testing.T, w lab.World) {
			hz, err := w.Sysctl("kern.hz")
			require.NoError(t, err)
			tick := time.Second / time.Duration(hz)
			down := featuresOf(w).TruncateTimeout
			s := open(t, w)
			for _, c := range []struct{ in, up, down time.Duration }{
				{0, 0, 0},
				{time.Microsecond, tick, 0},
				{tick / 2, tick, 0},
				{tick - time.Microsecond, tick, 0},
				{tick, tick, tick},
				{tick + time.Microsecond, 2 * tick, tick},
				{10 * tick, 10 * tick, 10 * tick},
				{1999999 * time.Microsecond, 2 * time.Second, 2*time.Second - tick},
				{time.Hour, time.Hour, time.Hour},
			} {
				s.do(zbuf.BIOCSRTIMEOUT, timeval(c.in))
				got := timeval(time.Minute)
				s.do(zbuf.BIOCGRTIMEOUT, got)
				require.Equal(t, timeval(by(down, c.down, c.up)), got, "%v at %d Hz", c.in, hz)
			}
		}},
	rule{name: "ioctl/BIOCSRTIMEOUT refuses what is no time", run: func(t *testing.T, w lab.World) {
		s := open(t, w)
		s.do(zbuf.BIOCSRTIMEOUT, timeval(time.Second))
		for _, v := range [][2]int64{{-1, 0}, {0, -1}, {0, 1e6}, {1, 2e6}} {
			tv := new(zbuf.Timeval)
			setField(&tv.Sec, v[0])
			setField(&tv.Usec, v[1])
			s.refuse(syscall.EINVAL, zbuf.BIOCSRTIMEOUT, tv)
		}
		got := new(zbuf.Timeval)
		s.do(zbuf.BIOCGRTIMEOUT, got)
		require.Equal(t, timeval(time.Second), got)
	}},
	rule{name: "ioctl/unknown ones are EINVAL",
		differs: []string{"SetVLANPCP", "IfList"},
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.attach(s.p.A)
			for _, c := range []struct {
				known bool
				req   zbuf.Request
				arg   any
			}{
				{featuresOf(w).SetVLANPCP, zbuf.BIOCSETVLANPCP, ptr(uint32(3))},
				{featuresOf(w).IfList, zbuf.BIOCGETIFLIST, new(zbuf.IfList)},
				{false, zbuf.Request(0x20004200 | 200), nil},
				{false, zbuf.Request(0x20004200 | 101), nil},
			} {
				if c.known {
					s.do(c.req, c.arg)
				} else {
					s.refuse(syscall.EINVAL, c.req, c.arg)
				}
			}
		}},
	rule{name: "ioctl/BIOCSETVLANPCP: 0 to 7",
		differs: []string{"SetVLANPCP"},
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			for v, valid := range map[uint32]bool{0: true, 7: true, 8: false, 1<<32 - 1: false} {
				err := s.Ioctl(zbuf.BIOCSETVLANPCP, &v)
				require.Equal(t, by(featuresOf(w).SetVLANPCP && valid, nil, error(syscall.EINVAL)), err, "%d",
					v)
			}
		}},
	rule{name: "ioctl/FIONREAD of a new descriptor is 0", run: func(t *testing.T, w lab.World) {
		require.Zero(t, open(t, w).nread())
	}},
	rule{name: "ioctl/what needs an interface is EINVAL without",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			s.refuse(syscall.EINVAL, zbuf.BIOCGDLT, new(uint32))
			s.refuse(syscall.EINVAL, zbuf.BIOCGETIF, new(zbuf.Ifreq))
			s.refuse(syscall.EINVAL, zbuf.BIOCGDLTLIST, new(zbuf.DLTList))
			s.refuse(syscall.EINVAL, zbuf.BIOCPROMISC, nil)
			s.refuseSet(syscall.EINVAL, zbuf.BIOCSDLT, 1)
			require.Equal(t, [2]uint32{0, 0}, [2]uint32(two(s.stats())), "statistics do not")
			s.do(zbuf.BIOCFLUSH, nil)
		}},
	rule{name: "ioctl/BIOCSETIF: no such interface is ENXIO", run: func(t *testing.T, w lab.World) {
		s := open(t, w).pair()
		for _, n := range []string{"", "nosuch0", "epair", "ABCDEFGHIJKLMNO"} {
			s.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq(n))
		}
		s.attach(s.p.A)
		s.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq("nosuch0"))
		require.Equal(t, s.p.A, s.ifname(), "a refused one leaves the old")
	}},
	rule{name: "ioctl/BIOCSETIF on the same interface resets",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(3)
			s.attach(s.p.A)
			require.Zero(t, s.nread())
			require.Equal(t, [2]uint32{0, 0}, [2]uint32(two(s.stats())))
			want := s.inject(1)
			s.rotate()
			s.requireFrames(s.contents(0), want...)
		}},
	rule{name: "ioctl/BIOCSETIF on another interface moves", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		o := lab.NewPair(t, w)
		s.inject(2)
		s.attach(o.A)
		require.Equal(t, o.A, s.ifname())
		require.Zero(t, s.nread())
		s.inject(1)
		require.Zero(t, s.nread())
		f := lab.Frame(64, 99)
		o.Inject(t, f)
		s.rotate()
		s.requireFrames(s.contents(0), f)
	}},
	rule{name: "ioctl/BIOCGDLT: Ethernet is 1, loopback 0", run: func(t *testing.T, w lab.World) {
		s := open(t, w).pair()
		s.attach(s.p.A)
		require.Equal(t, 1, int(s.get(zbuf.BIOCGDLT)))
		s.attach("lo0")
		require.Equal(t, 0, int(s.get(zbuf.BIOCGDLT)))
	}},
	rule{name: "ioctl/BIOCGDLTLIST: the number, the list, ENOMEM",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.attach(s.p.A)
			l := zbuf.DLTList{Len: 77}
			s.do(zbuf.BIOCGDLTLIST, &l)
			require.Equal(t, 1, int(l.Len))
			var room [3]uint32
			l = zbuf.DLTList{Len: 3, List: &room[0]}
			s.do(zbuf.BIOCGDLTLIST, &l)
			require.Equal(t, 1, int(l.Len))
			require.Equal(t, [3]uint32{1, 0, 0}, room)
			s.refuse(syscall.ENOMEM, zbuf.BIOCGDLTLIST, &zbuf.DLTList{Len: 0, List: &room[0]})
		}},
	rule{name: "ioctl/BIOCSDLT: the type it has resets nothing, another is EINVAL",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(2)
			s.set(zbuf.BIOCSDLT, 1)
			require.Equal(t, stride+one, s.nread())
			recv, _ := s.stats()
			require.Equal(t, 2, int(recv))
			s.refuseSet(syscall.EINVAL, zbuf.BIOCSDLT, 12)
			require.Equal(t, stride+one, s.nread())
		}},
	rule{name: "ioctl/BIOCPROMISC shows in the statistics, twice is harmless",
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.attach(s.p.A)
			require.Zero(t, s.listener().Promisc)
			s.do(zbuf.BIOCPROMISC, nil)
			s.do(zbuf.BIOCPROMISC, nil)
			require.Equal(t, 1, int(s.listener().Promisc))
			s.attach(s.p.A)
			require.Equal(t, 1, int(s.listener().Promisc), "the same interface again")
			s.attach(s.p.B)
			require.Zero(t, listeners(t, w, s.p.B)[0].Promisc, "another interface")
		}},
	rule{name: "ioctl/owners: FIOSETOWN, TIOCSPGRP and their opposites",
		differs: []string{"OwnerCleared"},
		run: func(t *testing.T, w lab.World) {
			s := open(t, w)
			own := func(req zbuf.Request) int32 {
				v := int32(77)
				s.do(req, &v)
				return v
			}
			require.Zero(t, own(zbuf.FIOGETOWN))
			require.Zero(t, own(zbuf.TIOCGPGRP))
			pid := int32(os.Getpid())
			s.do(zbuf.FIOSETOWN, &pid)
			require.Equal(t, pid, own(zbuf.FIOGETOWN))
			require.Equal(t, -pid, own(zbuf.TIOCGPGRP))
			none := int32(99999)
			for _, req := range []zbuf.Request{zbuf.FIOSETOWN, zbuf.TIOCSPGRP} {
				s.do(zbuf.FIOSETOWN, &pid)
				s.refuse(syscall.ESRCH, req, &none)
				require.Equal(t, by(featuresOf(w).OwnerCleared, 0, pid), own(zbuf.FIOGETOWN),
					"%v that is refused", req)
			}
			zero := int32(0)
			s.do(zbuf.FIOSETOWN, &zero)
			require.Zero(t, own(zbuf.FIOGETOWN))
		}},
	rule{name: "ioctl/FIOASYNC shows in the statistics",
		differs: []string{"StickyFlags"},
		run: func(t *testing.T, w lab.World) {
			s := open(t, w).pair()
			s.attach(s.p.A)
			on, off := int32(1), int32(0)
			s.do(zbuf.FIOASYNC, &on)
			require.Equal(t, 1, int(s.listener().Async))
			s.do(zbuf.FIOASYNC, &off)
			require.Equal(t, by(featuresOf(w).StickyFlags, 1, 0), int(s.listener().Async))
		}},
	rule{name: "lock/what a locked descriptor allows", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.do(zbuf.BIOCLOCK, nil)
		require.Equal(t, 1, int(s.listener().Locked))
		s.inject(1)
		var n uint32
		var dlts [2]uint32
		ok := []struct {
			req zbuf.Request
			arg any
		}{
			{zbuf.BIOCGBLEN, &n},
			{zbuf.BIOCGDLT, &n},
			{zbuf.BIOCGDLTLIST, &zbuf.DLTList{Len: 2, List: &dlts[0]}},
			{zbuf.BIOCGETIF, new(zbuf.Ifreq)},
			{zbuf.BIOCGRTIMEOUT, new(zbuf.Timeval)},
			{zbuf.BIOCSRTIMEOUT, new(zbuf.Timeval)},
			{zbuf.BIOCGSTATS, new(zbuf.Stat)},
			{zbuf.BIOCVERSION, new(zbuf.Version)},
			{zbuf.BIOCGRSIG, &n},
			{zbuf.BIOCGHDRCMPLT, &n},
			{zbuf.BIOCSTSTAMP, new(uint32)},
			{zbuf.BIOCFEEDBACK, new(uint32)},
			{zbuf.FIONREAD, new(int32)},
			{zbuf.BIOCLOCK, nil},
			{zbuf.BIOCIMMEDIATE, new(uint32)},
			{zbuf.TIOCGPGRP, new(int32)},
			{zbuf.BIOCROTZBUF, new(zbuf.Zbuf)},
			{zbuf.BIOCFLUSH, nil},
		}
		for _, c := range ok {
			s.do(c.req, c.arg)
		}
		require.Equal(t, 1, int(s.h[0].KernelGen.Load()), "it was rotated")
	}},
	rule{name: "lock/everything else is EPERM", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.do(zbuf.BIOCLOCK, nil)
		v, i := uint32(1), int32(1)
		for _, c := range []struct {
			req zbuf.Request
			arg any
		}{
			{zbuf.BIOCSBLEN, &v}, {zbuf.BIOCSETF, acceptAll()}, {zbuf.BIOCSETFNR, acceptAll()},
			{zbuf.BIOCSETWF, acceptAll()},
			{zbuf.BIOCPROMISC, nil}, {zbuf.BIOCSETIF, ifreq(s.p.A)}, {zbuf.BIOCSRSIG, &v},
			{zbuf.BIOCSHDRCMPLT, &v},
			{zbuf.BIOCGDIRECTION, &v}, {zbuf.BIOCSDIRECTION, &v}, {zbuf.BIOCSDLT, &v},
			{zbuf.BIOCGETBUFMODE, &v},
			{zbuf.BIOCSETBUFMODE, &v}, {zbuf.BIOCGETZMAX, new(uintptr)}, {zbuf.BIOCSETZBUF, s.zbuf(page)},
			{zbuf.BIOCGTSTAMP, &v}, {zbuf.FIOASYNC, &i}, {zbuf.FIOSETOWN, &i},
			{zbuf.FIOGETOWN, &i}, {zbuf.TIOCSPGRP, &i}, {zbuf.FIONBIO, &i}, {zbuf.BIOCSETVLANPCP, &v},
			{zbuf.Request(0x20004200 | 200), nil},
		} {
			s.refuse(syscall.EPERM, c.req, c.arg)
		}
	}},
	rule{name: "lock/capture and write go on", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.set(zbuf.BIOCSHDRCMPLT, 1)
		s.do(zbuf.BIOCLOCK, nil)
		f := lab.Frame(70, 1)
		n, err := s.Write(f)
		require.NoError(t, err)
		require.Equal(t, 70, n)
		s.rotate()
		s.requireFrames(s.contents(0), f)
	}},
	rule{name: "limit/what was not listed is ENOTCAPABLE", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		require.NoError(t, s.Limit([]zbuf.Request{zbuf.BIOCROTZBUF, zbuf.BIOCGSTATS}, false))
		s.inject(1)
		recv, _ := s.stats()
		require.Equal(t, 1, int(recv))
		which, _ := s.rotate()
		require.Equal(t, 0, which)
		s.refuse(notCapable, zbuf.FIONREAD, new(int32))
		s.refuse(notCapable, zbuf.BIOCGDLT, new(uint32))
		_, err := s.Write(lab.Frame(64, 1))
		require.Equal(t, error(notCapable), err)
		require.Equal(t, zbuf.Event{Readable: true, Data: one}, s.wait(true), "waiting goes on")
		require.NoError(t, s.Wake())
		require.Equal(t, zbuf.Event{Woken: true}, s.wait(false))
		require.False(t, s.Detached())
	}},
	rule{name: "limit/with write", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		require.NoError(t, s.Limit([]zbuf.Request{zbuf.FIONREAD}, true))
		n, err := s.Write(lab.Frame(64, 1))
		require.NoError(t, err)
		require.Equal(t, 64, n)
		require.Equal(t, one, s.nread())
		s.refuse(notCapable, zbuf.BIOCROTZBUF, new(zbuf.Zbuf))
	}},
	rule{name: "limit/no request at all", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		require.NoError(t, s.Limit(nil, false))
		s.refuse(notCapable, zbuf.BIOCGSTATS, new(zbuf.Stat))
		s.refuse(notCapable, zbuf.BIOCFLUSH, nil)
	}},
	rule{name: "limit/can only be tightened", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		require.NoError(t, s.Limit([]zbuf.Request{zbuf.FIONREAD, zbuf.BIOCGSTATS}, false))
		require.NoError(t, s.Limit([]zbuf.Request{zbuf.FIONREAD}, false))
		require.Equal(t, error(notCapable), s.Limit([]zbuf.Request{zbuf.BIOCGSTATS}, false))
		s.nread()
	}},
)

func two(a, b uint32) []uint32 { return []uint32{a, b} }

// ifname is BIOCGETIF.
func (s *sess) ifname() string {
	s.t.Helper()
	var r zbuf.Ifreq
	s.do(zbuf.BIOCGETIF, &r)
	name, _, _ := bytes.Cut(r.Name[:], []byte{0})
	return string(name)
}
