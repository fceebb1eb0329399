package bpftest_test

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

const (
	page   = 4096
	hdrlen = 26          // of struct bpf_hdr before an Ethernet frame, on 64-bit machines
	one    = hdrlen + 64 // record of a 64-byte frame
	stride = 96          // from one of those to the next
	full   = 42          // how many of them a lent page takes
	most   = 41*stride + one
)

// session is a descriptor in a test, on interface em0.
type session struct {
	*bpftest.Descriptor
	t   testing.TB
	k   *bpftest.Kernel
	em0 *bpftest.Interface
	buf [2][]byte
	n   byte // frames made
}

func newKernel(opts ...bpftest.Option) *bpftest.Kernel {
	return bpftest.New(append([]bpftest.Option{bpftest.WithSysctl("net.bpf.zerocopy_enable", 1)},
		opts...)...)
}

func open(t testing.TB, k *bpftest.Kernel) *session {
	t.Helper()
	d, err := k.OpenDescriptor()
	require.NoError(t, err)
	s := &session{Descriptor: d, t: t, k: k, em0: k.Interface("em0")}
	if s.em0 == nil {
		s.em0 = k.AddInterface("em0", zbuf.DLT_EN10MB)
	}
	return s
}

// lend gives the kernel two buffers.
func (s *session) lend(size int) *session {
	s.t.Helper()
	s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
	for i := range s.buf {
		mem, err := s.Map(size)
		require.NoError(s.t, err)
		s.buf[i] = mem
	}
	s.do(zbuf.BIOCSETZBUF, s.zbuf())
	return s
}

func (s *session) zbuf() *zbuf.Zbuf {
	return &zbuf.Zbuf{Bufa: &s.buf[0][0], Bufb: &s.buf[1][0], Buflen: uintptr(len(s.buf[0]))}
}

// zerocopy is a descriptor with two lent pages, attached.
func zerocopy(t testing.TB, k *bpftest.Kernel) *session {
	t.Helper()
	return open(t, k).lend(page).attach("em0")
}

// buffered is a descriptor with kernel buffers of size bytes, attached.
func buffered(t testing.TB, k *bpftest.Kernel, size uint32) *session {
	t.Helper()
	s := open(t, k)
	s.do(zbuf.BIOCSBLEN, &size)
	return s.attach("em0")
}

func ifreq(name string) *zbuf.Ifreq {
	var r zbuf.Ifreq
	copy(r.Name[:], name)
	return &r
}

func (s *session) attach(name string) *session {
	s.t.Helper()
	s.do(zbuf.BIOCSETIF, ifreq(name))
	return s
}

func (s *session) do(req zbuf.Request, arg any) {
	s.t.Helper()
	require.NoError(s.t, s.Ioctl(req, arg), "%v", req)
}

func (s *session) refuse(want syscall.Errno, req zbuf.Request, arg any) {
	s.t.Helper()
	require.Equal(s.t, error(want), s.Ioctl(req, arg), "%v", req)
}

func (s *session) set(req zbuf.Request, v uint32) {
	s.t.Helper()
	s.do(req, &v)
}

func (s *session) get(req zbuf.Request) uint32 {
	s.t.Helper()
	v := uint32(0xdeadbeef)
	s.do(req, &v)
	return v
}

func (s *session) nread() int {
	s.t.Helper()
	var n int32
	s.do(zbuf.FIONREAD, &n)
	return int(n)
}

func (s *session) stat() zbuf.Stat {
	s.t.Helper()
	var st zbuf.Stat
	s.do(zbuf.BIOCGSTATS, &st)
	return st
}

func program(ins ...zbuf.Insn) *zbuf.Program {
	p := &zbuf.Program{Len: uint32(len(ins))}
	if len(ins) > 0 {
		p.Insns = &ins[0]
	}
	return p
}

// accept and reject are filters of one instruction.
var (
	accept = zbuf.Insn{Op: 0x06, K: 1<<32 - 1}
	reject = zbuf.Insn{Op: 0x06}
)

func timeval(d time.Duration) *zbuf.Timeval {
	tv := new(zbuf.Timeval)
	setField(&tv.Sec, int64(d/time.Second))
	setField(&tv.Usec, int64(d%time.Second/time.Microsecond))
	return tv
}

func setField[T int32 | int64](f *T, v int64) { *f = T(v) }

// receive makes n more 64-byte frames arrive and returns them.
func (s *session) receive(n int) (frames [][]byte) {
	for range n {
		f := frame(64)
		s.n++
		f[63] = s.n
		s.em0.Receive(f)
		frames = append(frames, f)
	}
	return frames
}

// frame is an Ethernet frame to nobody.
func frame(n int) []byte {
	f := make([]byte, n)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5})
	return f
}

// rotate is BIOCROTZBUF: which buffer, -1 for none, and the bytes in it.
func (s *session) rotate() (which, n int) {
	s.t.Helper()
	z := zbuf.Zbuf{Bufb: &s.buf[1][0], Buflen: 1}
	s.do(zbuf.BIOCROTZBUF, &z)
	require.Nil(s.t, z.Bufb)
	for i := range s.buf {
		if z.Bufa == &s.buf[i][0] {
			return i, int(z.Buflen)
		}
	}
	require.Nil(s.t, z.Bufa)
	require.Zero(s.t, z.Buflen)
	return -1, 0
}

// header returns a buffer's kernel_gen, kernel_len, user_gen as {k,l,u}. Nobody else may
// use the buffer meanwhile.
func (s *session) header(i int) string {
	b := s.buf[i]
	ne := binary.NativeEndian
	return fmt.Sprintf("{%d,%d,%d}", ne.Uint32(b), ne.Uint32(b[4:]), ne.Uint32(b[8:]))
}

func (s *session) ack(i int) { copy(s.buf[i][8:12], s.buf[i][:4]) }

// owned and acknowledge do the part of a reader while the kernel goes on.
func (s *session) owned(i int) bool {
	return bpftest.WordAt(s.buf[i], 0).Load() != bpftest.WordAt(s.buf[i], 8).Load()
}

func (s *session) acknowledge(i int) {
	bpftest.WordAt(s.buf[i], 8).Store(bpftest.WordAt(s.buf[i], 0).Load())
}

// lent returns the contents of an assigned buffer.
func (s *session) lent(i int) []byte {
	return s.buf[i][zbuf.SizeofZbufHeader:][:binary.NativeEndian.Uint32(s.buf[i][4:])]
}

// record is a parsed record of a 64-bit kernel.
type record struct {
	sec, frac       uint64
	caplen, datalen int
	hdrlen          int
	data            []byte
}

// parse walks the records of a stream whose headers are like those of a 64-bit kernel.
func parse(t testing.TB, b []byte) (recs []record) {
	t.Helper()
	ne := binary.NativeEndian
	for off := 0; off < len(b); {
		p := b[off:]
		r := record{
			sec: ne.Uint64(p), frac: ne.Uint64(p[8:]),
			caplen: int(ne.Uint32(p[16:])), datalen: int(ne.Uint32(p[20:])), hdrlen: int(ne.Uint16(p[24:])),
		}
		require.LessOrEqual(t, r.hdrlen+r.caplen, len(p))
		r.data = p[r.hdrlen:][:r.caplen]
		recs = append(recs, r)
		off += (r.hdrlen + r.caplen + zbuf.Alignment - 1) &^ (zbuf.Alignment - 1)
	}
	return recs
}

func (s *session) requireFrames(b []byte, want ...[]byte) {
	s.t.Helper()
	recs := parse(s.t, b)
	require.Len(s.t, recs, len(want))
	for i, r := range recs {
		require.Equal(s.t, want[i], r.data, "packet %d", i)
		require.Equal(s.t, len(want[i]), r.datalen, "packet %d", i)
	}
}

// read reads a whole buffer.
func (s *session) read() []byte {
	s.t.Helper()
	p := make([]byte, s.get(zbuf.BIOCGBLEN))
	n, err := s.Read(p)
	require.NoError(s.t, err)
	return p[:n]
}

func lp64(t *testing.T) {
	t.Helper()
	if zbuf.Alignment != 8 {
		t.Skip("the numbers in this rule are those of a 64-bit machine")
	}
}
