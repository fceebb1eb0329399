package bpftest_test

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func with(f bpftest.Features, opts ...bpftest.Option) *bpftest.Kernel {
	return newKernel(append(opts, bpftest.WithFeatures(f))...)
}

func TestReadTimeoutInTicks(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	for _, c := range []struct {
		hz            int
		set           time.Duration
		up, truncated time.Duration
	}{
		{100, 1999999 * us, 2 * time.Second, 1990 * ms},
		{100, 15 * ms, 20 * ms, 10 * ms},
		{100, 10 * ms, 10 * ms, 10 * ms},
		{100, 9999 * us, 10 * ms, 0},
		{100, 5 * ms, 10 * ms, 0},
		{100, 1 * us, 10 * ms, 0},
		{100, 0, 0, 0},
		{1000, 5 * ms, 5 * ms, 5 * ms},
		{1000, 1 * us, 1 * ms, 0},
	} {
		for f, want := range map[bpftest.Features]time.Duration{
			{}: c.up, {TruncateTimeout: true}: c.truncated,
		} {
			s := open(t, with(f, bpftest.WithHZ(c.hz)))
			s.do(zbuf.BIOCSRTIMEOUT, timeval(c.set))
			var tv zbuf.Timeval
			s.do(zbuf.BIOCGRTIMEOUT, &tv)
			require.Equal(t, *timeval(want), tv, "%v at %d Hz, %+v", c.set, c.hz, f)
		}
	}
	t.Run("a timeout that was truncated to nothing never wakes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := bpftest.Features{TruncateTimeout: true}
			s := buffered(t, with(f, bpftest.WithHZ(100)), page)
			s.do(zbuf.BIOCSRTIMEOUT, timeval(5*ms))
			s.receive(1)
			ev, err := s.Wait(true, time.Hour)
			require.NoError(t, err)
			require.Equal(t, zbuf.Event{}, ev)
		})
	})
	t.Run("far too long", func(t *testing.T) {
		for _, f := range []bpftest.Features{{}, {TruncateTimeout: true}} {
			s := open(t, with(f, bpftest.WithHZ(100)))
			tv := new(zbuf.Timeval)
			setField(&tv.Sec, 1<<31-1)
			s.do(zbuf.BIOCSRTIMEOUT, tv)
			s.do(zbuf.BIOCGRTIMEOUT, tv)
			require.EqualValues(t, (1<<31-2)/100, tv.Sec)
		}
	})
}

func TestAttachWakes(t *testing.T) {
	lp64(t)
	changes := map[string]func(s *session){
		"BIOCSETIF": func(s *session) { s.attach("em1") },
		"BIOCSDLT":  func(s *session) { s.set(zbuf.BIOCSDLT, zbuf.DLT_RAW) },
	}
	for name, change := range changes {
		for f, wakes := range map[bpftest.Features]bool{{}: false, {AttachWakes: true}: true} {
			make := func(t *testing.T) *session {
				k := with(f)
				k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.AlsoDLT(zbuf.DLT_RAW, 0))
				k.AddInterface("em1", zbuf.DLT_EN10MB)
				return zerocopy(t, k)
			}
			t.Run(name+": an edge while the hold buffer is the process's", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := make(t)
					s.receive(full + 1)
					ev, err := s.Wait(true, time.Second)
					require.NoError(t, err)
					require.True(t, ev.Readable)
					change(s)
					ev, err = s.Wait(false, time.Second)
					require.NoError(t, err)
					require.Equal(t, wakes, ev.Readable, "%+v", f)
				})
			})
			t.Run(name+": the read timeout starts", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := make(t)
					defer s.Close()
					s.do(zbuf.BIOCSRTIMEOUT, timeval(100*time.Millisecond))
					change(s)
					s.k.Interface("em1").Receive(frame(64))
					if name == "BIOCSDLT" {
						s.em0.Inject(bpftest.Packet{Data: frame(64), DLT: zbuf.DLT_RAW})
					}
					ev, err := s.Wait(false, time.Second)
					require.NoError(t, err)
					require.Equal(t, wakes, ev.Readable, "%+v", f)
				})
			})
			t.Run(name+": poll", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := make(t)
					s.receive(full + 1)
					s.acknowledge(0)
					var done atomic.Bool
					go func() {
						s.Poll(bpftest.POLLIN, time.Second)
						done.Store(true)
					}()
					synctest.Wait()
					change(s)
					synctest.Wait()
					require.False(t, done.Load(), "it looks again, and nothing is there")
					time.Sleep(time.Second) // in the time of the bubble
					synctest.Wait()
					require.True(t, done.Load())
				})
			})
		}
	}
}

func TestStalePromisc(t *testing.T) {
	for f, stale := range map[bpftest.Features]bool{{}: false, {StalePromisc: true}: true} {
		make := func(t *testing.T) (*session, *bpftest.Interface) {
			k := with(f)
			em1 := k.AddInterface("em1", zbuf.DLT_EN10MB)
			s := buffered(t, k, page)
			s.do(zbuf.BIOCPROMISC, nil)
			s.em0.Remove()
			s.attach("em1")
			return s, em1
		}
		t.Run("the mark stays, the interface knows nothing", func(t *testing.T) {
			s, em1 := make(t)
			require.EqualValues(t, 0, em1.Promisc())
			require.Equal(t, stale, s.k.Stats()[0].Promisc == 1, "%+v", f)
			s.do(zbuf.BIOCPROMISC, nil)
			require.Equal(t, !stale, em1.Promisc() == 1, "BIOCPROMISC again: %+v", f)
		})
		leave := map[string]func(s *session) error{
			"close":             func(s *session) error { return s.Close() },
			"another interface": func(s *session) error { return s.Ioctl(zbuf.BIOCSETIF, ifreq("em2")) },
			"another link type": func(s *session) error {
				return s.Ioctl(zbuf.BIOCSDLT, ptr(uint32(zbuf.DLT_RAW)))
			},
			"the interface goes": func(s *session) error { s.k.RemoveInterface("em1"); return nil },
		}
		for name, l := range leave {
			t.Run("leaving by "+name, func(t *testing.T) {
				k := with(f)
				k.AddInterface("em1", zbuf.DLT_EN10MB, bpftest.AlsoDLT(zbuf.DLT_RAW, 0))
				k.AddInterface("em2", zbuf.DLT_EN10MB)
				s := buffered(t, k, page)
				s.do(zbuf.BIOCPROMISC, nil)
				s.em0.Remove()
				s.attach("em1")
				err := l(s)
				if stale && name != "the interface goes" {
					require.ErrorIs(t, err, bpftest.ErrPanic, "%+v", f)
					require.ErrorIs(t, k.Panicked(), bpftest.ErrPanic)
					return
				}
				require.NoError(t, err, "%+v", f)
				require.NoError(t, k.Panicked())
			})
		}
		t.Run("somebody else's reference is taken away", func(t *testing.T) {
			s, em1 := make(t)
			other := open(t, s.k).attach("em1")
			other.do(zbuf.BIOCPROMISC, nil)
			require.NoError(t, s.Close())
			want := 1
			if stale {
				want = 0
			}
			require.Equal(t, want, em1.Promisc(), "%+v", f)
		})
	}
}

func TestWriteOfLaterReleases(t *testing.T) {
	const big = 65536
	errEIO, errENOMEM, tooLong := error(syscall.EIO), error(syscall.ENOMEM), error(syscall.EMSGSIZE)
	for name, c := range map[string]struct {
		f    bpftest.Features
		want map[int]error // by length
	}{
		"12":    {bpftest.Features{}, map[int]error{4096: nil, 4097: errEIO, big + 15: tooLong}},
		"14":    {bpftest.FreeBSD14(), map[int]error{4097: nil, 16384: nil, 16385: errEIO, big + 15: tooLong}},
		"a tap": {bpftest.FreeBSD16(), map[int]error{16384: nil, 16385: errENOMEM, big + 15: errENOMEM}},
	} {
		for n, want := range c.want {
			k := with(c.f)
			k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.MTU(big))
			s := buffered(t, k, page)
			wrote, err := s.Write(frame(n))
			require.Equal(t, want, err, "%s: %d bytes", name, n)
			if want == nil {
				require.Equal(t, n, wrote)
			}
		}
	}
	t.Run("a write of no bytes", func(t *testing.T) {
		for f, counted := range map[bpftest.Features]uint64{
			{}: 1, bpftest.FreeBSD14(): 1, bpftest.FreeBSD16(): 0,
		} {
			s := buffered(t, with(f), page)
			n, err := s.Write(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			st := s.k.Stats()[0]
			require.Equal(t, [3]uint64{counted, 0, counted},
				[3]uint64{st.Wcount, st.Wfcount, st.Wdcount}, "%+v", f)
		}
	})
	t.Run("what is counted", func(t *testing.T) {
		for f, want := range map[bpftest.Features][3]uint64{
			{}: {2, 2, 1}, bpftest.FreeBSD16(): {0, 1, 1},
		} {
			k := with(f)
			fail := false
			k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.Output(func([]byte) error {
				if fail {
					return syscall.ENOBUFS
				}
				return nil
			}))
			s := buffered(t, k, page)
			_, err := s.Write(frame(64))
			require.NoError(t, err)
			fail = true
			_, err = s.Write(frame(64))
			require.Equal(t, syscall.ENOBUFS, err)
			st := k.Stats()[0]
			require.Equal(t, want, [3]uint64{st.Wcount, st.Wfcount, st.Wdcount}, "%+v", f)
		}
	})
	t.Run("detached, down, too short, refused by the filter", func(t *testing.T) {
		s := open(t, with(bpftest.FreeBSD16()))
		write := func(want error, p []byte) {
			t.Helper()
			_, err := s.Write(p)
			require.Equal(t, want, err)
		}
		write(nil, nil)
		write(syscall.ENXIO, frame(64))
		s.attach("em0")
		write(syscall.EMSGSIZE, frame(13))
		s.em0.SetUp(false)
		write(syscall.ENETDOWN, frame(64))
		s.do(zbuf.BIOCSETWF, program(reject))
		write(syscall.EPERM, frame(64))
		usb := open(t, s.k)
		s.k.AddInterface("usbus0", 186, bpftest.NoIndex())
		usb.attach("usbus0")
		_, err := usb.Write(frame(64))
		require.Equal(t, syscall.EOPNOTSUPP, err)
	})
}

// TestTunnel is about link type DLT_NULL that is not loopback.
func TestTunnel(t *testing.T) {
	packet := func(family uint32) []byte {
		return append(binary.NativeEndian.AppendUint32(nil, family), "an IP packet"...)
	}
	const inet, inet6, isDone = 2, 28, 31
	for _, c := range []struct {
		f        bpftest.Features
		hdrcmplt uint32
		family   uint32
		want     error
		seen     uint32 // the family that listeners see
	}{
		{bpftest.Features{}, 0, inet, nil, inet},
		{bpftest.Features{}, 0, inet6, syscall.EAFNOSUPPORT, inet6},
		{bpftest.Features{}, 1, inet, syscall.EAFNOSUPPORT, isDone},
		{bpftest.FreeBSD14(), 1, inet, syscall.EAFNOSUPPORT, isDone},
		{bpftest.FreeBSD16(), 1, inet, nil, inet},
	} {
		var sent []byte
		k := with(c.f)
		k.AddInterface("tun0", zbuf.DLT_NULL,
			bpftest.Output(func(p []byte) error { sent = append(sent, p...); return nil }))
		s := open(t, k)
		s.attach("tun0")
		s.set(zbuf.BIOCSHDRCMPLT, c.hdrcmplt)
		p := packet(c.family)
		n, err := s.Write(p)
		require.Equal(t, c.want, err, "%+v", c)
		require.Equal(t, packet(c.family), p, "the writer's own memory stays")
		if c.want == nil {
			require.Equal(t, len(p), n)
			require.Equal(t, p, sent)
		} else {
			require.Empty(t, sent)
		}
		if zbuf.Alignment == 8 {
			recs := parse(t, s.read())
			require.Len(t, recs, 1, "listeners see it before it is refused")
			require.Equal(t, packet(c.seen), recs[0].data, "%+v", c)
		}
	}
}

func TestNoIndex(t *testing.T) {
	k := with(bpftest.FreeBSD16())
	k.AddInterface("usbus0", 186, bpftest.NoIndex())
	em1 := k.AddInterface("em1", zbuf.DLT_EN10MB)
	s := open(t, k).attach("usbus0")
	_, err := s.InterfaceIndex()
	require.Equal(t, syscall.ENXIO, err)
	require.False(t, s.Detached())
	s.attach("em1")
	i, err := s.InterfaceIndex()
	require.NoError(t, err)
	require.Equal(t, 1, i, "the bus took none")
	require.Equal(t, "em1", em1.Name())
}

// TestReleases names the features of each release, so that a change shows.
func TestReleases(t *testing.T) {
	require.Equal(t, bpftest.Features{}, bpftest.FreeBSD12())
	f14 := bpftest.FreeBSD14()
	require.True(t, f14.PadZero && f14.WriteFilter && f14.SetVLANPCP && f14.FilterInFlight &&
		f14.TruncateTimeout && f14.LongWrite && f14.OwnerCleared && f14.AttachWakes && f14.StalePromisc)
	require.False(t, f14.IfList || f14.StickyFlags || f14.TapWrite || f14.VnetDetach)
	require.Equal(t, f14, bpftest.FreeBSD15())
	f16 := bpftest.FreeBSD16()
	require.True(t, f16.IfList && f16.StickyFlags && f16.TapWrite && f16.VnetDetach)
	for _, f := range []bpftest.Features{{}, f14, f16} {
		s := zerocopy(t, with(f))
		s.receive(3)
		if zbuf.Alignment == 8 {
			want := uint64(6)
			if f.PadZero {
				want = 8
			}
			require.Equal(t, want, s.k.Stats()[0].Zcopy)
		}
		err := s.Ioctl(zbuf.BIOCFLUSH, nil)
		require.NoError(t, err)
		bad := open(t, s.k)
		bad.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
		require.ErrorIs(t, bad.Ioctl(zbuf.BIOCSETF, program(reject)), bpftest.ErrPanic, "all of them")
	}
}
