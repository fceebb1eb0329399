package bpftest_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

func TestInterfaces(t *testing.T) {
	for name, rule := range map[string]func(t *testing.T, k *bpftest.Kernel){
		"directions": func(t *testing.T, k *bpftest.Kernel) {
			for direction, want := range map[uint32]int{zbuf.BPF_D_IN: 2, zbuf.BPF_D_INOUT: 3,
				zbuf.BPF_D_OUT: 1} {
				s := buffered(t, k, page)
				s.set(zbuf.BIOCSDIRECTION, direction)
				s.em0.Receive(frame(64))
				s.em0.Transmit(frame(64))
				s.em0.Receive(frame(64))
				require.EqualValues(t, want, s.stat().Recv, "direction %d: the rest is not even counted",
					direction)
			}
		},
		"a pair is a wire": func(t *testing.T, k *bpftest.Kernel) {
			b := k.AddInterface("b", zbuf.DLT_EN10MB)
			s := buffered(t, k, page)
			far := open(t, k).attach("b")
			bpftest.Pair(s.em0, b)
			require.Same(t, b, s.em0.Peer())
			far.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
			s.em0.Transmit(frame(64))
			require.EqualValues(t, 1, far.stat().Recv)
			b.SetUp(false)
			s.em0.Transmit(frame(64))
			require.EqualValues(t, 1, far.stat().Recv, "down: lost")
			require.EqualValues(t, 2, s.stat().Recv)
			b.SetUp(true)
			k.RemoveInterface("em0")
			require.Nil(t, b.Peer())
		},
		"an interface that goes down loses what arrives": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			s.em0.SetUp(false)
			s.em0.Receive(frame(64))
			require.Zero(t, s.stat().Recv)
		},
		"renaming is not leaving": func(t *testing.T, k *bpftest.Kernel) {
			s := buffered(t, k, page)
			s.em0.Rename("wan")
			require.Equal(t, "wan", s.em0.Name())
			var r zbuf.Ifreq
			s.do(zbuf.BIOCGETIF, &r)
			require.Equal(t, *ifreq("wan"), r)
			s.em0.Receive(frame(64))
			require.EqualValues(t, 1, s.stat().Recv)
			s.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq("em0"))
			require.False(t, k.RemoveInterface("em0"))
			k.AddInterface("em0", zbuf.DLT_EN10MB)
			require.Panics(t, func() { s.em0.Rename("em0") })
			require.Panics(t, func() { k.AddInterface("em0", zbuf.DLT_EN10MB) })
			require.Panics(t, func() { k.AddInterface("sixteen-bytes-xx", zbuf.DLT_EN10MB) })
		},
		"moving to another vnet: out of sight and down, but attached": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s := buffered(t, k, page)
			s.em0.MoveAway()
			require.Nil(t, k.Interface("em0"))
			require.False(t, s.Detached())
			_, err := s.InterfaceIndex()
			require.Equal(t, syscall.ENXIO, err)
			var r zbuf.Ifreq
			s.do(zbuf.BIOCGETIF, &r)
			require.Equal(t, *ifreq("em0"), r)
			s.refuse(syscall.ENXIO, zbuf.BIOCSETIF, ifreq("em0"))
			_, err = s.Write(frame(64))
			require.Equal(t, syscall.ENETDOWN, err)
			s.em0.Receive(frame(64))
			s.em0.MoveBack()
			s.em0.MoveBack()
			s.em0.Receive(frame(64))
			require.Zero(t, s.stat().Recv, "down until it is brought up")
			s.em0.SetUp(true)
			s.em0.Receive(frame(64))
			require.EqualValues(t, 1, s.stat().Recv)
			s.attach("em0")
			s.em0.MoveAway()
			s.em0.Remove()
			require.True(t, s.Detached())
		},
		"an interface's index is its own": func(t *testing.T, k *bpftest.Kernel) {
			s := open(t, k)
			_, err := s.InterfaceIndex()
			require.Equal(t, syscall.ENXIO, err, "not attached")
			k.AddInterface("em1", zbuf.DLT_EN10MB)
			s.attach("em1")
			second, err := s.InterfaceIndex()
			require.NoError(t, err)
			first, err := s.attach("em0").InterfaceIndex()
			require.NoError(t, err)
			require.NotEqual(t, first, second)
			s.em0.Rename("wan")
			renamed, err := s.InterfaceIndex()
			require.NoError(t, err)
			require.Equal(t, first, renamed)
			require.NoError(t, s.Limit(nil, false))
			_, err = s.InterfaceIndex()
			require.Equal(t, bpftest.ENOTCAPABLE, err, "it makes an ioctl")
		},
		"moving to another vnet, where that detaches": func(t *testing.T, _ *bpftest.Kernel) {
			s := buffered(t, newKernel(bpftest.WithFeatures(bpftest.Features{VnetDetach: true})), page)
			s.do(zbuf.BIOCPROMISC, nil)
			s.em0.MoveAway()
			require.True(t, s.Detached())
			require.Zero(t, s.em0.Promisc())
			s.refuse(syscall.EINVAL, zbuf.BIOCGDLT, new(uint32))
			s.em0.SetUp(true)
			s.em0.Receive(frame(64))
			require.NoError(t, s.em0.InjectWait(t.Context(), bpftest.Packet{Data: frame(64)}))
			s.em0.MoveBack()
			require.True(t, s.Detached())
			s.attach("em0")
			s.em0.Receive(frame(64))
			require.EqualValues(t, 1, s.stat().Recv)
		},
		"promiscuous mode goes with the descriptor": func(t *testing.T, k *bpftest.Kernel) {
			k.AddInterface("em1", zbuf.DLT_EN10MB)
			s, other := buffered(t, k, page), buffered(t, k, page)
			s.do(zbuf.BIOCPROMISC, nil)
			s.do(zbuf.BIOCPROMISC, nil)
			other.do(zbuf.BIOCPROMISC, nil)
			require.Equal(t, 2, s.em0.Promisc())
			s.attach("em1")
			require.Equal(t, 1, s.em0.Promisc())
			require.NoError(t, other.Close())
			require.Zero(t, s.em0.Promisc())
		},
		"link types: list, choice, headers of each": func(t *testing.T, k *bpftest.Kernel) {
			ath := k.AddInterface("ath0", zbuf.DLT_EN10MB,
				bpftest.AlsoDLT(zbuf.DLT_IEEE802_11, 24), bpftest.AlsoDLT(zbuf.DLT_IEEE802_11_RADIO, 0))
			s := open(t, k).attach("ath0")
			s.do(zbuf.BIOCPROMISC, nil)
			var l zbuf.DLTList
			s.do(zbuf.BIOCGDLTLIST, &l)
			require.EqualValues(t, 3, l.Len)
			list := make([]uint32, 4)
			l.List = &list[0]
			l.Len = 2
			s.refuse(syscall.ENOMEM, zbuf.BIOCGDLTLIST, &l)
			require.EqualValues(t, 2, l.Len)
			l.Len = 4
			s.do(zbuf.BIOCGDLTLIST, &l)
			require.EqualValues(t, 3, l.Len)
			require.Equal(t, []uint32{zbuf.DLT_IEEE802_11_RADIO, zbuf.DLT_IEEE802_11, zbuf.DLT_EN10MB, 0},
				list)

			ath.Receive(frame(64))
			s.set(zbuf.BIOCSDLT, zbuf.DLT_EN10MB)
			require.EqualValues(t, 1, s.stat().Recv, "the same one changes nothing")
			s.set(zbuf.BIOCSDLT, zbuf.DLT_IEEE802_11)
			require.Zero(t, s.stat().Recv)
			require.Equal(t, 1, ath.Promisc(), "kept")
			require.EqualValues(t, zbuf.DLT_IEEE802_11, s.get(zbuf.BIOCGDLT))
			ath.Receive(frame(64))
			ath.Inject(bpftest.Packet{Data: frame(64), DLT: zbuf.DLT_IEEE802_11_RADIO})
			require.Zero(t, s.stat().Recv)
			ath.Inject(bpftest.Packet{Data: frame(64), DLT: zbuf.DLT_IEEE802_11})
			require.EqualValues(t, 1, s.stat().Recv)
			ath.Inject(bpftest.Packet{Data: frame(64), DLT: zbuf.DLT_RAW})
			s.refuse(syscall.EINVAL, zbuf.BIOCSDLT, ptr(uint32(zbuf.DLT_RAW)))
		},
		"optimize_writers [24]: nothing until BIOCSETFNR, a program, or two of one instruction": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			require.NoError(t, k.SetSysctl("net.bpf.optimize_writers", 1))
			for _, c := range []struct {
				name  string
				after []func(s *session)
				recv  uint32
			}{
				{"filter before attach only", nil, 0},
				{"SETFNR", []func(s *session){func(s *session) { s.do(zbuf.BIOCSETFNR, program(accept)) }}, 1},
				{"one SETF of one instruction", []func(s *session){func(s *session) {
					s.do(zbuf.BIOCSETF, program(accept))
				}}, 0},
				{"two of them", []func(s *session){
					func(s *session) { s.do(zbuf.BIOCSETF, program(accept)) },
					func(s *session) { s.do(zbuf.BIOCSETF, program(accept)) },
				}, 1},
				{"SETF of two instructions", []func(s *session){func(s *session) {
					s.do(zbuf.BIOCSETF, program(zbuf.Insn{Op: 0x00}, accept))
				}}, 1},
				{"an empty program", []func(s *session){func(s *session) { s.do(zbuf.BIOCSETFNR, program()) }},
					0},
				{"a write filter", []func(s *session){func(s *session) {
					s.do(zbuf.BIOCSETWF, program(accept))
				}}, 0},
			} {
				s := open(t, k)
				s.do(zbuf.BIOCSETFNR, program(accept))
				s.attach("em0")
				for _, f := range c.after {
					f(s)
				}
				s.em0.Receive(frame(64))
				require.Equal(t, c.recv, s.stat().Recv, c.name)
			}
			w, err := k.OpenMode(syscall.O_WRONLY | syscall.O_NONBLOCK)
			require.NoError(t, err)
			require.NoError(t, k.SetSysctl("net.bpf.optimize_writers", 0))
			require.NoError(t, w.Ioctl(zbuf.BIOCSETFNR, program(accept)))
			require.NoError(t, w.Ioctl(zbuf.BIOCSETIF, ifreq("em0")))
			k.Interface("em0").Receive(frame(64))
			var st zbuf.Stat
			require.NoError(t, w.Ioctl(zbuf.BIOCGSTATS, &st))
			require.EqualValues(t, 1, st.Recv, "a filter before attach makes a reader of it")
		},
		"every listener has its own copy": func(t *testing.T, k *bpftest.Kernel) {
			a, b, c := buffered(t, k, page), zerocopy(t, k), buffered(t, k, page)
			b.do(zbuf.BIOCSETFNR, program(reject))
			c.do(zbuf.BIOCSETFNR, program(zbuf.Insn{Op: 0x06, K: 20}))
			f := a.receive(1)[0]
			require.Equal(t, f, parse(t, a.read())[0].data)
			require.Zero(t, b.nread())
			require.EqualValues(t, 1, b.stat().Recv)
			r := parse(t, c.read())[0]
			require.Equal(t, f[:20], r.data)
			require.Equal(t, 64, r.datalen)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if zbuf.Alignment != 8 && name == "every listener has its own copy" {
				lp64(t)
			}
			rule(t, newKernel())
		})
	}
}

func TestWrite(t *testing.T) {
	for name, rule := range map[string]func(t *testing.T, k *bpftest.Kernel){
		"refusals, in the kernel's order": func(t *testing.T, k *bpftest.Kernel) {
			s := open(t, k)
			_, err := s.Write(frame(64))
			require.Equal(t, syscall.ENXIO, err)
			s.attach("em0")
			s.em0.SetUp(false)
			_, err = s.Write(nil)
			require.Equal(t, syscall.ENETDOWN, err)
			s.em0.SetUp(true)
			n, err := s.Write(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			s.do(zbuf.BIOCSETWF, program(reject))
			for n, want := range map[int]error{
				13: syscall.EMSGSIZE, 14: syscall.EPERM, 1514: syscall.EPERM, 1515: syscall.EMSGSIZE,
			} {
				_, err := s.Write(frame(n))
				require.Equal(t, want, err, n)
			}
			s.do(zbuf.BIOCSETWF, program())
			s.em0.SetMTU(9000)
			_, err = s.Write(frame(4097))
			require.Equal(t, syscall.EIO, err, "no mbuf is longer than a page")
			n, err = s.Write(frame(4096))
			require.NoError(t, err)
			require.Equal(t, 4096, n)
			st := k.Stats()[0]
			require.EqualValues(t, 8, st.Wcount, "counted since the attach")
			require.EqualValues(t, 7, st.Wdcount)
			require.EqualValues(t, 1, st.Wfcount)
		},
		"the source address is the interface's, unless the header is complete": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			var out []byte
			k.AddInterface("hw0", zbuf.DLT_EN10MB, bpftest.HardwareAddr([6]byte{6, 5, 4, 3, 2, 1}),
				bpftest.Output(func(p []byte) error { out = append([]byte(nil), p...); return nil }))
			s := open(t, k).attach("hw0")
			f := frame(64)
			_, err := s.Write(f)
			require.NoError(t, err)
			require.Equal(t, []byte{6, 5, 4, 3, 2, 1}, out[6:12])
			require.Equal(t, frame(64), f)
			s.set(zbuf.BIOCSHDRCMPLT, 1)
			_, err = s.Write(f)
			require.NoError(t, err)
			require.Equal(t, f, out)
		},
		"what is written goes out, past the writer too, and reaches the peer": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			b := k.AddInterface("b", zbuf.DLT_EN10MB)
			s := buffered(t, k, page)
			bpftest.Pair(s.em0, b)
			other, far := buffered(t, k, page), open(t, k).attach("b")
			other.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
			far.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
			_, err := s.Write(frame(64))
			require.NoError(t, err)
			require.EqualValues(t, 1, s.stat().Recv)
			require.Zero(t, other.stat().Recv)
			require.EqualValues(t, 1, far.stat().Recv)
		},
		"feedback: the copy comes in; the original is hidden unless the writer chose a direction": func(
			t *testing.T, k *bpftest.Kernel,
		) {
			s, in, out := buffered(t, k, page), buffered(t, k, page), buffered(t, k, page)
			in.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
			out.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_OUT)
			s.set(zbuf.BIOCFEEDBACK, 1)
			_, err := s.Write(frame(64))
			require.NoError(t, err)
			require.Equal(t, [3]uint32{1, 1, 0}, [3]uint32{s.stat().Recv, in.stat().Recv, out.stat().Recv})
			s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
			_, err = s.Write(frame(64))
			require.NoError(t, err)
			require.Equal(t, [3]uint32{2, 2, 1}, [3]uint32{s.stat().Recv, in.stat().Recv, out.stat().Recv})
		},
		"the driver's error is write's": func(t *testing.T, k *bpftest.Kernel) {
			k.AddInterface("bad0", zbuf.DLT_EN10MB, bpftest.Output(func([]byte) error {
				return syscall.ENOBUFS
			}))
			s := open(t, k).attach("bad0")
			s.set(zbuf.BIOCFEEDBACK, 1)
			_, err := s.Write(frame(64))
			require.Equal(t, syscall.ENOBUFS, err)
			st := k.Stats()[0]
			require.EqualValues(t, 1, st.Wfcount)
			require.EqualValues(t, 1, st.Wdcount)
			require.Zero(t, st.Rcount, "no feedback")
		},
		"loopback: comes in once; only IP": func(t *testing.T, k *bpftest.Kernel) {
			k.AddInterface("lo0", zbuf.DLT_NULL, bpftest.Loopback())
			s := open(t, k).attach("lo0")
			s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
			p := make([]byte, 24)
			_, err := s.Write(p)
			require.Equal(t, syscall.EAFNOSUPPORT, err)
			for i := range 4 {
				p[i] = 0
			}
			p[0], p[3] = 2, 2 // AF_INET in either byte order, and something else in neither
			_, err = s.Write(p)
			require.Equal(t, syscall.EAFNOSUPPORT, err)
			for _, af := range []uint32{2, 28} {
				ne.PutUint32(p, af)
				_, err = s.Write(p)
				require.NoError(t, err)
			}
			require.EqualValues(t, 2, s.stat().Recv)
			_, err = s.Write(p[:3])
			require.Equal(t, syscall.EMSGSIZE, err)
		},
		"other link types": func(t *testing.T, k *bpftest.Kernel) {
			for _, c := range []struct {
				dlt  uint32
				n    int
				want error
				sent int
			}{
				{zbuf.DLT_RAW, 1, nil, 1}, {zbuf.DLT_SLIP, 1, nil, 1}, {zbuf.DLT_FDDI, 1, nil, 1},
				{zbuf.DLT_NULL, 3, syscall.EMSGSIZE, 0}, {zbuf.DLT_NULL, 4, syscall.EAFNOSUPPORT, 0},
				{zbuf.DLT_PPP, 3, syscall.EMSGSIZE, 0}, {zbuf.DLT_PPP, 5, nil, 5},
				{zbuf.DLT_ATM_RFC1483, 11, syscall.EMSGSIZE, 0}, {zbuf.DLT_ATM_RFC1483, 13, nil, 13},
				{zbuf.DLT_IEEE802_11, 5, nil, 5},
				{zbuf.DLT_IEEE802_11_RADIO, 13, syscall.EMSGSIZE, 0}, {zbuf.DLT_IEEE802_11_RADIO, 20, nil, 16},
				{147, 20, syscall.EIO, 0},
			} {
				var sent int
				i := k.AddInterface("x0", c.dlt, bpftest.Output(func(p []byte) error {
					sent = len(p)
					return nil
				}))
				s := open(t, k).attach(i.Name())
				p := make([]byte, c.n)
				if c.n > 1 {
					p[1] = 4
				}
				_, err := s.Write(p)
				require.Equal(t, c.want, err, "%+v", c)
				require.Equal(t, c.sent, sent, "%+v", c)
				if c.dlt == zbuf.DLT_IEEE802_11_RADIO && err == nil {
					p[1] = 15
					_, err = s.Write(p)
					require.Equal(t, syscall.EINVAL, err, "parameters longer than they can be")
				}
				k.RemoveInterface("x0")
			}
		},
	} {
		t.Run(name, func(t *testing.T) { rule(t, newKernel()) })
	}
}

func TestInjectWait(t *testing.T) {
	lp64(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKernel()
		s := zerocopy(t, k)
		other := buffered(t, k, page)
		other.do(zbuf.BIOCSETFNR, program(reject))
		other.receive(1)
		s.do(zbuf.BIOCFLUSH, nil)
		const packets = 1000
		done := make(chan error)
		go func() {
			for i := range packets {
				f := frame(64)
				f[62], f[63] = byte(i>>8), byte(i)
				if err := s.em0.InjectWait(t.Context(), bpftest.Packet{Data: f}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		seen, finished := 0, false
		for i := 0; seen < packets; {
			if !s.owned(i) {
				if which, _ := s.rotate(); which >= 0 {
					continue
				}
				synctest.Wait()
				select {
				case err := <-done:
					require.NoError(t, err)
					finished = true
				default:
				}
				if finished && !s.owned(i) {
					s.em0.Receive(frame(14)) // the tail sticks until one more packet matches
				}
				continue
			}
			for _, r := range parse(t, s.lent(i)) {
				if len(r.data) > 14 {
					require.Equal(t, seen, int(r.data[62])<<8|int(r.data[63]))
					seen++
				}
			}
			s.acknowledge(i)
			i ^= 1
		}
		require.True(t, finished)
		require.Zero(t, s.stat().Drop)

		s.receive(2*full + 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stop")
		time.AfterFunc(time.Second, func() { cancel(stop) })
		require.Equal(t, stop, s.em0.InjectWait(ctx, bpftest.Packet{Data: frame(64)}))
		drops := s.stat().Drop
		go func() { done <- s.em0.InjectWait(t.Context(), bpftest.Packet{Data: frame(64), Out: true}) }()
		synctest.Wait()
		k.RemoveInterface("em0")
		require.NoError(t, <-done, "nobody is left to drop it")
		require.Equal(t, drops, s.stat().Drop)
	})
}
