package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// These rules are about the two buffers: rows 5 to 9, 25 and 26.
var _ = add(
	rule{name: "ring/a 64-byte frame takes 90 bytes, the next begins at 96",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			want := s.inject(1)
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, 90, n, "the last record's padding does not count")
			s.requireHeader(0, 1, 90, 0)
			s.requireFrames(s.contents(0), want...)
			want = s.inject(2)
			s.h[0].Ack()
			want = append(want, s.inject(1)...)
			s.rotate()
			s.requireHeader(1, 1, 2*96+90, 0)
			s.requireFrames(s.contents(1), want...)
		}},
	rule{name: "ring/A is stored to first, then B, then A", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		for i := range 6 {
			want := s.inject(1)
			which, _ := s.rotate()
			require.Equal(t, i%2, which)
			s.requireHeader(which, i/2+1, one, i/2)
			s.requireFrames(s.contents(which), want...)
			s.h[which].Ack()
		}
	}},
	rule{name: "ring/rotation with nothing stored does nothing",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			for range 3 {
				which, _ := s.rotate()
				require.Equal(t, -1, which)
			}
			s.requireHeader(0, 0, 0, 0)
			s.requireHeader(1, 0, 0, 0)
		}},
	rule{name: "ring/rotation with the hold slot taken does nothing",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.rotate()
			s.inject(1)
			for range 3 {
				which, _ := s.rotate()
				require.Equal(t, -1, which)
			}
			s.requireHeader(0, 1, one, 0)
			s.requireHeader(1, 0, 0, 0)
			require.Equal(t, 2*one, s.nread())
		}},
	rule{name: "ring/stuck tail: packets behind an acknowledged hold buffer",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(3)
			s.rotate()
			want := s.inject(2)
			s.h[0].Ack()
			for range 5 {
				which, _ := s.rotate()
				require.Equal(t, -1, which)
				require.False(t, s.ready())
				require.Equal(t, (2*stride+one)+(stride+one), s.nread(), "468")
			}
			require.Equal(t, 468, s.nread())
			want = append(want, s.inject(1)...)
			which, _ := s.rotate()
			require.Equal(t, 1, which)
			s.requireFrames(s.contents(1), want...)
		}},
	rule{name: "ring/both buffers owned: what comes is dropped and counted",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			want := s.inject(200)
			s.requireHeader(0, 1, 4026, 0)
			s.requireHeader(1, 1, 4026, 0)
			recv, drop := s.stats()
			require.Equal(t, 200, int(recv))
			require.Equal(t, 200-2*full, int(drop))
			s.requireFrames(s.contents(0), want[:full]...)
			s.requireFrames(s.contents(1), want[full:2*full]...)
		}},
	rule{name: "ring/the full store buffer is assigned once, by the first drop",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(2 * full)
			s.requireHeader(0, 1, fullLen, 0)
			s.requireHeader(1, 0, 0, 0)
			s.inject(1)
			s.requireHeader(1, 1, fullLen, 0)
			s.inject(5)
			s.requireHeader(1, 1, fullLen, 0)
			_, drop := s.stats()
			require.Equal(t, 6, int(drop))
		}},
	rule{name: "ring/after the first drop a packet that would fit is dropped too",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(full)                                        // A is full, but not yet held
			s.p.Inject(t, lab.Frame(1500, 1), lab.Frame(1500, 2)) // now it is; B has 1022 bytes left
			s.requireHeader(0, 1, fullLen, 0)
			s.p.Inject(t, lab.Frame(1500, 3))
			used := roundUp(hdrlen+1500, align) + hdrlen + 1500
			s.requireHeader(1, 1, used, 0)
			s.inject(1)
			_, drop := s.stats()
			require.Equal(t, 2, int(drop))
		}},
	rule{name: "ring/acknowledging the newer of two frees nothing",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.fill()
			s.h[1].Ack()
			s.inject(5)
			_, drop := s.stats()
			require.Equal(t, 6, int(drop))
			s.h[0].Ack()
			want := s.inject(5)
			_, drop = s.stats()
			require.Equal(t, 6, int(drop), "nothing more")
			s.requireHeader(0, 1, fullLen, 1)
			s.requireHeader(1, 1, fullLen, 1)
			which, _ := s.rotate()
			require.Equal(t, 0, which)
			s.requireFrames(s.contents(0), want...)
		}},
	rule{name: "ring/acknowledging the older of two lets packets in behind the newer",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.fill()
			s.h[0].Ack()
			want := s.inject(3)
			_, drop := s.stats()
			require.Equal(t, 1, int(drop))
			s.requireHeader(0, 1, fullLen, 1)
			s.requireHeader(1, 1, fullLen, 0)
			which, _ := s.rotate()
			require.Equal(t, -1, which, "B is held")
			s.h[1].Ack()
			want = append(want, s.inject(1)...)
			which, _ = s.rotate()
			require.Equal(t, 0, which)
			s.requireHeader(0, 2, 3*stride+one, 1)
			s.requireFrames(s.contents(0), want...)
		}},
	rule{name: "ring/stuck tail, second kind: both acknowledged at once, one packet",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.fill()
			s.h[0].Ack()
			s.h[1].Ack()
			want := s.inject(1)
			for range 3 {
				which, _ := s.rotate()
				require.Equal(t, -1, which)
				require.False(t, s.ready())
				require.Equal(t, fullLen+one, s.nread())
			}
			s.requireHeader(0, 1, fullLen, 1)
			s.requireHeader(1, 1, fullLen, 1)
			s.requireFrames(s.buf[0][32:][:one], want...)
			more := s.inject(1)
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, 186, n)
			s.requireFrames(s.contents(0), append(want, more...)...)
		}},
	rule{name: "ring/an acknowledged store buffer is rotated without a new generation",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.fill()
			s.h[0].Ack()
			s.h[1].Ack()
			s.inject(1)
			s.requireHeader(1, 1, fullLen, 1)
			s.wait(false)
			s.requireQuiet(false, "nothing to tell")
			s.inject(1)
			s.requireHeader(1, 1, fullLen, 1)
			require.Equal(t, stride+one, s.nread(), "reclaimed by the packet after")
		}},
	rule{name: "ring/the tail can be read where it lies, and is assigned later",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(full)
			s.inject(1) // A is held, the packet is in B
			s.h[0].Ack()
			require.Equal(t, fullLen+one, s.nread())
			tail := s.nread() - int(s.h[0].KernelLen.Load())
			require.Equal(t, one, tail)
			recs := parse(t, s.buf[1][32:][:tail], hdr64)
			require.Equal(t, lab.Frame(64, s.n), recs[0].data)
			s.inject(1)
			which, n := s.rotate()
			require.Equal(t, 1, which)
			require.Equal(t, 186, n)
			s.requireFrames(s.contents(1), lab.Frame(64, s.n-1), lab.Frame(64, s.n))
		}},
	rule{name: "ring/the tail can be read where it lies after detach",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.rotate()
			want := s.inject(1)
			s.h[0].Ack()
			require.NoError(t, w.Destroy(s.p.A))
			require.Equal(t, one+one, s.nread())
			which, _ := s.rotate()
			require.Equal(t, -1, which)
			s.requireFrames(s.buf[1][32:][:one], want...)
		}},
	rule{name: "ring/FIONREAD counts an acknowledged hold buffer until it is reclaimed",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.rotate()
			s.h[0].Ack()
			require.Equal(t, one, s.nread())
			s.inject(1)
			require.Equal(t, one, s.nread(), "the new packet's bytes now")
		}},
	rule{name: "ring/poll, kevent, rotation and statistics reclaim nothing",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.rotate()
			s.inject(1)
			s.h[0].Ack()
			s.ready()
			_, err := s.Wait(true, 0)
			require.NoError(t, err)
			s.rotate()
			s.stats()
			s.do(zbuf.BIOCSETFNR, acceptAll())
			s.do(zbuf.BIOCSETWF, acceptAll())
			require.Equal(t, 2*one, s.nread())
		}},
	rule{name: "ring/a packet that does not match reclaims nothing",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			s.inject(1)
			s.rotate()
			s.inject(1)
			s.h[0].Ack()
			s.do(zbuf.BIOCSETFNR, program(retK(0)))
			s.inject(3)
			require.Equal(t, 2*one, s.nread())
			s.do(zbuf.BIOCSETFNR, acceptAll())
			s.inject(1)
			require.Equal(t, stride+one, s.nread())
		}},
	rule{name: "ring/a packet that fits exactly, and one byte more",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			const room = page - 32
			s.inject((room - 1400) / stride)
			used := (room - 1400) / stride * stride
			left := room - used - hdrlen
			s.p.Inject(t, lab.Frame(left, 1))
			s.requireHeader(0, 0, 0, 0)
			require.Equal(t, room, s.nread(), "full to the last byte")
			s.inject(1)
			s.requireHeader(0, 1, room, 0)

			s = zerocopy(t, w, page)
			s.inject((room - 1400) / stride)
			s.p.Inject(t, lab.Frame(left+1, 1))
			s.requireHeader(0, 1, used-stride+one, 0)
			require.Equal(t, used-stride+one+hdrlen+left+1, s.nread())
		}},
	rule{name: "ring/a packet beyond the buffer is cut to it",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			for _, i := range []string{s.p.A, s.p.B} {
				require.NoError(t, w.SetMTU(i, 9000))
			}
			f := lab.Frame(4090, 7)
			s.p.Inject(t, f)
			which, n := s.rotate()
			require.Equal(t, 0, which)
			require.Equal(t, page-32, n)
			r := parse(t, s.contents(0), hdr64)
			require.Len(t, r, 1)
			require.Equal(t, page-32-hdrlen, int(r[0].caplen))
			require.Equal(t, 4090, int(r[0].datalen))
			require.Equal(t, f[:page-32-hdrlen], r[0].data)
		}},
	rule{name: "ring/what is behind the records is not touched, nor is padding unless it is zeroed",
		differs: []string{"PadZero"},
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			for i := 32; i < page; i++ {
				s.buf[0][i] = 0xa5
			}
			s.p.Inject(t, lab.Frame(61, 1), lab.Frame(62, 2))
			s.rotate()
			data := s.buf[0][32:]
			padding := by(featuresOf(w).PadZero, byte(0), 0xa5)
			require.Equal(t, []byte{padding}, data[26+61:88], "padding of the first")
			for i := 88 + 26 + 62; i < len(data); i++ {
				require.Equal(t, byte(0xa5), data[i], "byte %d", i)
			}
		}},
	rule{name: "ring/kernel_gen and kernel_len are all the kernel writes to a header",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			for i := 8; i < 32; i++ {
				s.buf[1][i] = 0xa5
			}
			s.h[1].UserGen.Store(0)
			s.fill()
			for i := 12; i < 32; i++ {
				require.Equal(t, byte(0xa5), s.buf[1][i])
			}
			require.Zero(t, s.h[1].UserGen.Load())
		}},
	rule{name: "ring/a wrong acknowledgement is none", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, page)
		s.inject(1)
		s.rotate()
		s.h[0].UserGen.Store(7)
		s.inject(1)
		require.Equal(t, 2*one, s.nread())
		s.h[0].Ack()
		s.inject(1)
		require.Equal(t, stride+one, s.nread())
	}},
	rule{name: "ring/two descriptors: one that stopped does not hurt the other",
		run: func(t *testing.T, w lab.World) {
			s := zerocopy(t, w, page)
			o := open(t, w).lend(page)
			o.attach(s.p.A)
			var got int
			for range 10 {
				want := s.inject(full)
				which, _ := o.rotate()
				o.requireFrames(o.contents(which), want...)
				o.h[which].Ack()
				got += full
			}
			recv, drop := o.stats()
			require.Equal(t, got, int(recv))
			require.Zero(t, drop)
			_, drop = s.stats()
			require.Equal(t, got-2*full, int(drop))
		}},
	rule{name: "ring/64 KiB: records cross pages", run: func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, 16*page)
		var want [][]byte
		for n := 60; n < 160; n++ {
			want = append(want, lab.Frame(n*5, uint32(n)))
		}
		s.p.Inject(t, want...)
		s.rotate()
		s.requireFrames(s.contents(0), want...)
	}},
)
