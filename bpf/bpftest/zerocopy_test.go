package bpftest_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// The numbers in brackets are rows of the table of observations on a 12.1 kernel.
func TestZeroCopy(t *testing.T) {
	lp64(t)
	for name, rule := range map[string]func(t *testing.T){
		"[1] SETBUFMODE is EINVAL while zerocopy_enable is 0, [2] works when it is 1": func(
			t *testing.T,
		) {
			k := bpftest.New()
			s := open(t, k)
			mode := uint32(zbuf.BPF_BUFMODE_ZBUF)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETBUFMODE, &mode)
			require.NoError(t, k.SetSysctl("net.bpf.zerocopy_enable", -1))
			s.do(zbuf.BIOCSETBUFMODE, &mode)
			require.NoError(t, k.SetSysctl("net.bpf.zerocopy_enable", 0))
			var max uintptr
			s.do(zbuf.BIOCGETZMAX, &max)
			require.EqualValues(t, 2097152, max, "the session goes on")
			require.EqualValues(t, 4096, s.get(zbuf.BIOCGBLEN), "the sysctl's size until there are buffers")
			s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_BUFFER)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETBUFMODE, &mode)
		},
		"[3] SETZBUF takes 4 KiB to 2 MiB, [4] not 4 MiB whatever maxbufsize": func(t *testing.T) {
			k := newKernel(bpftest.WithSysctl("net.bpf.maxbufsize", 4<<20))
			for _, size := range []int{4 << 10, 64 << 10, 512 << 10, 2 << 20} {
				s := open(t, k).lend(size)
				require.EqualValues(t, size-32, s.get(zbuf.BIOCGBLEN))
				s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCSBLEN, new(uint32))
				mode := uint32(zbuf.BPF_BUFMODE_BUFFER)
				s.refuse(syscall.EBUSY, zbuf.BIOCSETBUFMODE, &mode)
			}
			s := open(t, k)
			s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
			mem, err := s.Map(8 << 20)
			require.NoError(t, err)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, &zbuf.Zbuf{Bufa: &mem[0], Bufb: &mem[4<<20],
				Buflen: 4 << 20})
		},
		"SETZBUF refuses what is not whole mapped pages": func(t *testing.T) {
			s := open(t, newKernel())
			mem, err := s.Map(4 * page)
			require.NoError(t, err)
			z := func(a, b *byte, n uintptr) *zbuf.Zbuf { return &zbuf.Zbuf{Bufa: a, Bufb: b, Buflen: n} }
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCSETZBUF, z(&mem[0], &mem[page], page))
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCROTZBUF, new(zbuf.Zbuf))
			s.refuse(syscall.EOPNOTSUPP, zbuf.BIOCGETZMAX, new(uintptr))
			s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
			s.refuse(syscall.EINVAL, zbuf.BIOCSETIF, ifreq("em0"))
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, z(nil, &mem[page], page))
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, z(&mem[0], nil, page))
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, z(&mem[0], &mem[page], 0))
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, z(&mem[8], &mem[page], page))
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, z(&mem[0], &mem[page], page+8))
			s.refuse(syscall.EFAULT, zbuf.BIOCSETZBUF, z(&mem[0], &mem[3*page], 2*page))
			mem[page+8] = 7
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, z(&mem[page], &mem[8], page))
			require.Zero(t, mem[page+8], "the first buffer's header was wiped before the second "+
				"was looked at")
			s.do(zbuf.BIOCSETZBUF, z(&mem[0], &mem[0], page))
			require.NoError(t, s.Unmap(mem))
			other := open(t, s.k)
			other.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
			other.refuse(syscall.EFAULT, zbuf.BIOCSETZBUF, z(&mem[0], &mem[page], page))
		},
		"a second SETZBUF is EINVAL and wipes the headers": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			s.receive(1)
			s.rotate()
			require.Equal(t, "{1,90,0}", s.header(0))
			s.refuse(syscall.EINVAL, zbuf.BIOCSETZBUF, s.zbuf())
			require.Equal(t, "{0,0,0}", s.header(0))
		},
		"[5] records are aligned, the last one's padding does not count": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			frames := s.receive(3)
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, 2*stride+one, n)
			require.Equal(t, "{1,282,0}", s.header(0))
			recs := parse(t, s.lent(0))
			require.Len(t, recs, 3)
			for i, r := range recs {
				require.Equal(t, hdrlen, r.hdrlen)
				require.Equal(t, 64, r.caplen)
				require.Equal(t, 64, r.datalen)
				require.Equal(t, frames[i], r.data)
			}
		},
		"[6] stuck tail: what came while A was owned stays until one more packet": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			s.receive(3)
			s.rotate()
			stuck := s.receive(2)
			s.ack(0)
			which, _ := s.rotate()
			require.Equal(t, -1, which)
			ready, err := s.Poll(bpftest.POLLIN, 0)
			require.NoError(t, err)
			require.Zero(t, ready)
			require.Equal(t, 468, s.nread())
			more := s.receive(1)
			which, _ = s.rotate()
			require.Equal(t, 1, which)
			s.requireFrames(s.lent(1), stuck[0], stuck[1], more[0])
		},
		"[7] both owned, [8] acking the newer frees nothing, [9] acking the older does": func(
			t *testing.T,
		) {
			s := zerocopy(t, newKernel())
			s.receive(201)
			require.Equal(t, "{1,4026,0}", s.header(0))
			require.Equal(t, "{1,4026,0}", s.header(1))
			require.Equal(t, zbuf.Stat{Recv: 201, Drop: 117}, s.stat())
			s.ack(1)
			s.receive(5)
			require.Equal(t, zbuf.Stat{Recv: 206, Drop: 122}, s.stat())
			s.ack(0)
			s.receive(5)
			require.Equal(t, zbuf.Stat{Recv: 211, Drop: 122}, s.stat())
			require.Equal(t, "{1,4026,1}", s.header(1), "rotated without being assigned again")
		},
		"once marked full, a store buffer takes no smaller packet either": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			s.receive(full)
			s.rotate()
			s.receive(full - 1)
			s.em0.Receive(frame(500))
			require.EqualValues(t, 1, s.stat().Drop)
			s.receive(1)
			require.EqualValues(t, 2, s.stat().Drop, "it would have fitted")
			require.Equal(t, "{1,3930,0}", s.header(1))
		},
		"[25] stuck tail, second kind, and [26] where it lies": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			s.receive(2*full + 1)
			s.ack(0)
			s.ack(1)
			stuck := s.receive(1)
			which, _ := s.rotate()
			require.Equal(t, -1, which)
			require.Equal(t, most+one, s.nread())
			s.requireFrames(s.buf[0][32:][:one], stuck...)
			more := s.receive(1)
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, stride+one, n)
			s.requireFrames(s.lent(0), stuck[0], more[0])
		},
		"a packet beyond the buffer is cut": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			s.em0.Receive(frame(2 * page))
			_, n := s.rotate()
			require.Equal(t, page-32, n)
			r := parse(t, s.lent(0))[0]
			require.Equal(t, page-32-hdrlen, r.caplen)
			require.Equal(t, 2*page, r.datalen)
		},
		"an empty packet is a header": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			s.em0.Receive(nil)
			s.receive(1)
			_, n := s.rotate()
			require.Equal(t, 32+one, n)
			recs := parse(t, s.lent(0))
			require.Len(t, recs, 2)
			require.Equal(t, record{sec: recs[0].sec, frac: recs[0].frac, hdrlen: hdrlen, data: []byte{}},
				recs[0])
		},
		"pad bytes keep what was there, or are zeroed by later releases": func(t *testing.T) {
			for _, zeroed := range []bool{false, true} {
				s := open(t, newKernel(bpftest.WithFeatures(bpftest.Features{PadZero: zeroed}))).lend(page)
				for i := range s.buf[0][32:] {
					s.buf[0][32+i] = 0xff
				}
				s.attach("em0")
				s.receive(2)
				want := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
				zcopy := 4
				if zeroed {
					want, zcopy = make([]byte, 6), 5
				}
				require.Equal(t, want, s.buf[0][32+one:32+stride])
				require.EqualValues(t, zcopy, s.k.Stats()[0].Zcopy)
			}
		},
		"read(2) is EINVAL for another size, else EOPNOTSUPP": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			_, err := s.Read(make([]byte, page))
			require.Equal(t, syscall.EINVAL, err)
			_, err = s.Read(make([]byte, page-32))
			require.Equal(t, syscall.EOPNOTSUPP, err)
			n, err := s.Read(nil)
			require.NoError(t, err)
			require.Zero(t, n)
		},
		"resets leave alone what the process owns": func(t *testing.T) {
			k := newKernel()
			k.AddInterface("em1", zbuf.DLT_EN10MB, bpftest.AlsoDLT(zbuf.DLT_RAW, 0))
			for _, c := range []struct {
				req zbuf.Request
				arg any
			}{
				{zbuf.BIOCFLUSH, nil},
				{zbuf.BIOCSETF, program(accept)},
				{zbuf.BIOCSETIF, ifreq("em0")},
				{zbuf.BIOCSETIF, ifreq("em1")},
			} {
				s := zerocopy(t, k)
				s.receive(1)
				s.rotate()
				s.receive(2)
				s.do(c.req, c.arg)
				require.Equal(t, one, s.nread(), "%v empties the store buffer", c.req)
				require.Equal(t, zbuf.Stat{}, s.stat())
				require.Equal(t, "{1,90,0}", s.header(0))
				s.ack(0)
				s.do(c.req, c.arg)
				require.Zero(t, s.nread(), "and the hold buffer once it is acknowledged")
			}
			s := zerocopy(t, k)
			s.receive(2*full + 1)
			s.do(zbuf.BIOCFLUSH, nil)
			require.Equal(t, 2*most, s.nread(), "neither of two owned ones")
			s.do(zbuf.BIOCSETFNR, program(accept))
			require.Equal(t, 2*most, s.nread())
		},
		"flush with both acknowledged leaves the store buffer's stale bytes": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			s.receive(2*full + 1)
			s.ack(0)
			s.ack(1)
			s.do(zbuf.BIOCFLUSH, nil)
			require.Equal(t, most, s.nread())
			which, n := s.rotate()
			require.Equal(t, 1, which)
			require.Equal(t, most, n)
			require.Equal(t, "{1,4026,1}", s.header(1), "without a new generation")
			s.receive(1)
			require.Equal(t, one, s.nread())
			which, _ = s.rotate()
			require.Equal(t, 0, which)
		},
		"detached: what is left can be rotated out, and the buffers used again": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			left := s.receive(2)
			require.True(t, s.k.RemoveInterface("em0"))
			which, _ := s.rotate()
			require.Equal(t, 0, which)
			s.requireFrames(s.lent(0), left...)
			which, _ = s.rotate()
			require.Equal(t, -1, which)
			s.ack(0)
			s.em0 = s.k.AddInterface("em0", zbuf.DLT_EN10MB)
			s.attach("em0")
			again := s.receive(1)
			which, _ = s.rotate()
			require.Equal(t, 1, which)
			s.requireFrames(s.lent(1), again...)
		},
		"munmap of lent memory does not stop the kernel": func(t *testing.T) {
			s := zerocopy(t, newKernel())
			require.NoError(t, s.Unmap(s.buf[0]))
			require.Equal(t, syscall.EINVAL, s.Unmap(s.buf[0]))
			s.receive(1)
			require.Equal(t, one, s.nread())
		},
		"[19] no request while traffic is dense": func(t *testing.T) {
			ops := 0
			k := newKernel(bpftest.WithTrace(func(string) { ops++ }))
			s := zerocopy(t, k)
			ops = 0
			seen := 0
			for turn := range 100 {
				s.receive(full)
				if turn == 0 {
					continue
				}
				i := (turn + 1) % 2
				seen += len(parse(t, s.lent(i)))
				s.ack(i)
			}
			require.Equal(t, 99*full, seen)
			require.Zero(t, ops)
			require.Zero(t, s.stat().Drop)
		},
	} {
		t.Run(name, rule)
	}
}

// The kernel dies of a reset in zero-copy mode without buffers [22].
func TestPanic(t *testing.T) {
	for name, c := range map[string]struct {
		req   zbuf.Request
		arg   any
		fatal bool
	}{
		"BIOCSETF":            {zbuf.BIOCSETF, program(accept), true},
		"BIOCFLUSH":           {zbuf.BIOCFLUSH, nil, true},
		"BIOCSETFNR does not": {zbuf.BIOCSETFNR, program(accept), false},
		"BIOCSETWF does not":  {zbuf.BIOCSETWF, program(accept), false},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel()
			s, other := open(t, k), open(t, k)
			s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
			waited := make(chan error)
			go func() {
				_, err := other.Wait(true, time.Minute)
				waited <- err
			}()
			err := s.Ioctl(c.req, c.arg)
			if !c.fatal {
				require.NoError(t, err)
				require.NoError(t, k.Panicked())
				require.NoError(t, other.Wake())
				require.NoError(t, <-waited)
				return
			}
			require.ErrorIs(t, err, bpftest.ErrPanic)
			require.ErrorContains(t, err, c.req.String())
			require.ErrorIs(t, <-waited, bpftest.ErrPanic)
			for op, call := range map[string]func() error{
				"open":     func() error { _, err := k.Open(); return err },
				"ioctl":    func() error { return other.Ioctl(zbuf.BIOCFLUSH, nil) },
				"read":     func() error { _, err := other.Read(make([]byte, 4096)); return err },
				"write":    func() error { _, err := other.Write(frame(64)); return err },
				"wait":     func() error { _, err := other.Wait(true, 0); return err },
				"wake":     func() error { return other.Wake() },
				"poll":     func() error { _, err := other.Poll(bpftest.POLLIN, 0); return err },
				"filter":   func() error { return other.AddFilter(bpftest.EVFILT_READ) },
				"map":      func() error { _, err := other.Map(page); return err },
				"unmap":    func() error { return other.Unmap(nil) },
				"limit":    func() error { return other.Limit(nil, false) },
				"close":    func() error { return other.Close() },
				"sysctl":   func() error { _, err := k.Sysctl("net.bpf.bufsize"); return err },
				"set":      func() error { return k.SetSysctl("net.bpf.bufsize", 1) },
				"stats":    func() error { _, err := k.ReadSysctl("net.bpf.stats", nil); return err },
				"zero":     func() error { return k.WriteSysctl("net.bpf.stats", nil) },
				"injector": func() error { return s.em0.InjectWait(t.Context(), bpftest.Packet{}) },
			} {
				require.ErrorIs(t, call(), bpftest.ErrPanic, op)
			}
			s.em0.Receive(frame(64))
		})
	}
	t.Run("an invalid program is refused before", func(t *testing.T) {
		s := open(t, newKernel())
		s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
		s.refuse(syscall.EINVAL, zbuf.BIOCSETF, program(zbuf.Insn{Op: 0xff}))
	})
}
