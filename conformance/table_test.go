package conformance

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// page is the page size of every machine the table is written for.
const page = 4096

// Sizes of the 64-byte frame that most rules use, in a record with struct bpf_hdr of
// a 64-bit machine.
const (
	align  = 8
	hdrlen = 26                                // before an Ethernet frame
	one    = hdrlen + 64                       // a record
	stride = (one + align - 1) / align * align // from one record to the next
)

// full is how many such records fit into a lent page, and fullLen what they take.
const (
	full    = (page-32-one)/stride + 1
	fullLen = (full-1)*stride + one
)

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// rule is one line of the table.
type rule struct {
	name string
	run  func(t *testing.T, w lab.World)
	// only names the world of a rule that another can't show, why says why.
	only, why string
	// differs names the Features that decide what the rule expects. A rule without holds in every
	// release that it was run on.
	differs []string
	// on386 is set for rules of a 32-bit process on a 64-bit kernel, which has no
	// zero-copy and none of the other rules' layouts.
	on386 bool
}

// elsewhere says why the rule does not play on a kernel in this program, or nothing.
func (r *rule) elsewhere(is386 bool) string {
	switch {
	case r.on386 && !is386:
		return "a rule of 32-bit programs"
	case !r.on386 && is386:
		return "a rule of 64-bit programs"
	case r.only == model:
		return r.why
	}
	return ""
}

var table []rule

func add(rules ...rule) bool {
	table = append(table, rules...)
	return true
}

func TestConformance(t *testing.T) {
	k, why := lab.Kernel()
	if k == nil {
		t.Logf("not on the kernel: %s", why)
	} else {
		f, err := probed()
		require.NoError(t, err)
		t.Logf("rules that differ expect what a kernel does that has:%s", describe(f))
	}
	is386 := runtime.GOARCH == "386"
	if is386 {
		t.Log("a 386 binary: only the rules of 32-bit processes")
	} else {
		t.Log("not a 386 binary: no rules of 32-bit processes; run with GOARCH=386 for those")
	}
	seen, decides := map[string]bool{}, map[string]bool{}
	rules, cases := 0, map[string]int{}
	for _, r := range table {
		require.False(t, seen[r.name], "two rules are named %s", r.name)
		seen[r.name] = true
		for _, f := range r.differs {
			require.Contains(t, eachFeature(bpftest.Features{}), f, r.name)
			decides[f] = true
		}
		lab.ReportRule(t, lab.Rule{Name: r.name, Elsewhere: r.elsewhere(is386)})
		if r.on386 != is386 {
			continue
		}
		rules++
		onKernel, onModel := k != nil && r.only != model, r.only != kernel
		if onKernel && testing.Short() && !is386 {
			onModel = false // it answers the same anywhere
		}
		type place struct {
			name string
			w    func() lab.World
		}
		var places []place
		if onKernel {
			places = append(places, place{kernel, func() lab.World { return k }})
		}
		if onModel {
			for _, m := range releases {
				places = append(places, place{m.name, func() lab.World { return newModel(m.f) }})
			}
		}
		for _, p := range places {
			cases[p.name]++
		}
		t.Run(r.name, func(t *testing.T) {
			if r.only != "" {
				t.Logf("on the %s only: %s", r.only, r.why)
			}
			if !onKernel {
				t.Parallel() // with other rules' models; each has its own
			}
			for _, p := range places {
				t.Run(p.name, func(t *testing.T) {
					if !onKernel {
						t.Parallel()
					}
					w := p.w()
					plays := lab.Rule{Name: r.name, Plays: true}
					for _, f := range r.differs {
						has := eachFeature(featuresOf(w))[f]
						t.Logf("differs with %s: %v here", f, has)
						if has {
							plays.Has = append(plays.Has, f)
						}
					}
					if p.name == kernel {
						lab.ReportRule(t, plays)
					}
					r.run(t, w)
					lab.Report(t, lab.Cases, 1)
				})
			}
		})
	}
	for f := range eachFeature(bpftest.Features{}) {
		require.True(t, decides[f], "no rule differs with %s", f)
	}
	t.Logf("%d rules; cases: %v", rules, cases)
}

// atBoot are the sysctls of the running kernel before the tests changed any.
var atBoot = map[string]int{}

func TestMain(m *testing.M) {
	if k, _ := lab.Kernel(); k != nil {
		if err := prepare(k); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// prepare sets what the rules take for granted. Since 14 net.bpf.optimize_writers may have been
// set by the loader.
func prepare(k lab.World) error {
	for name, want := range map[string]int{"zerocopy_enable": 1, "optimize_writers": 0} {
		name = "net.bpf." + name
		v, err := k.Sysctl(name)
		if err == nil && v != want {
			atBoot[name] = v
			err = k.SetSysctl(name, want)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// sess is a descriptor in a test.
type sess struct {
	lab.Desc
	t   *testing.T
	w   lab.World
	p   *lab.Pair
	buf [2][]byte
	h   [2]*lab.Header
	n   uint32 // frames made
}

// open opens a descriptor.
func open(t *testing.T, w lab.World) *sess {
	t.Helper()
	d, err := w.OpenMode(syscall.O_RDWR | syscall.O_NONBLOCK)
	require.NoError(t, err)
	s := &sess{Desc: d, t: t, w: w}
	t.Cleanup(s.close)
	return s
}

// close closes the descriptor, then gives the memory back. Twice is harmless.
func (s *sess) close() {
	if s.Desc == nil {
		return
	}
	d := s.Desc
	s.Desc = nil
	require.NoError(s.t, d.Close())
	for _, b := range s.buf {
		if b != nil {
			require.NoError(s.t, d.Unmap(b))
		}
	}
	s.buf, s.h = [2][]byte{}, [2]*lab.Header{}
}

// pair gives the session its own wire.
func (s *sess) pair() *sess {
	s.t.Helper()
	s.p = lab.NewPair(s.t, s.w)
	return s
}

// lend makes and lends two buffers.
func (s *sess) lend(size int) *sess {
	s.t.Helper()
	s.set(zbuf.BIOCSETBUFMODE, zbuf.BPF_BUFMODE_ZBUF)
	s.alloc(size)
	s.do(zbuf.BIOCSETZBUF, s.zbuf(size))
	return s
}

func (s *sess) alloc(size int) {
	s.t.Helper()
	for i := range s.buf {
		b, err := s.Map(size)
		require.NoError(s.t, err)
		s.buf[i], s.h[i] = b, lab.HeaderOf(b)
	}
}

func (s *sess) zbuf(size int) *zbuf.Zbuf {
	return &zbuf.Zbuf{Bufa: &s.buf[0][0], Bufb: &s.buf[1][0], Buflen: uintptr(size)}
}

// zerocopy opens a descriptor in zero-copy mode on A of a pair.
func zerocopy(t *testing.T, w lab.World, size int) *sess {
	t.Helper()
	s := open(t, w).pair().lend(size)
	s.attach(s.p.A)
	return s
}

// buffered opens a descriptor in buffered mode on A of a pair.
func buffered(t *testing.T, w lab.World, size int) *sess {
	t.Helper()
	s := open(t, w).pair()
	n := uint32(size)
	s.do(zbuf.BIOCSBLEN, &n)
	s.attach(s.p.A)
	return s
}

func ifreq(name string) *zbuf.Ifreq {
	var r zbuf.Ifreq
	copy(r.Name[:], name)
	return &r
}

func (s *sess) attach(ifname string) {
	s.t.Helper()
	s.do(zbuf.BIOCSETIF, ifreq(ifname))
}

// do makes a request that must work.
func (s *sess) do(req zbuf.Request, arg any) {
	s.t.Helper()
	require.NoError(s.t, s.Ioctl(req, arg), "%v", req)
}

func (s *sess) set(req zbuf.Request, v uint32) {
	s.t.Helper()
	s.do(req, &v)
}

func (s *sess) get(req zbuf.Request) uint32 {
	s.t.Helper()
	var v uint32
	s.do(req, &v)
	return v
}

// refuse makes a request that must fail.
func (s *sess) refuse(want syscall.Errno, req zbuf.Request, arg any) {
	s.t.Helper()
	require.Equal(s.t, error(want), s.Ioctl(req, arg), "%v", req)
}

func (s *sess) refuseSet(want syscall.Errno, req zbuf.Request, v uint32) {
	s.t.Helper()
	s.refuse(want, req, &v)
}

func (s *sess) nread() int {
	s.t.Helper()
	var n int32
	s.do(zbuf.FIONREAD, &n)
	return int(n)
}

func (s *sess) stats() (recv, drop uint32) {
	s.t.Helper()
	var st zbuf.Stat
	s.do(zbuf.BIOCGSTATS, &st)
	return st.Recv, st.Drop
}

// rotate is BIOCROTZBUF: which buffer (-1 for none) and how many bytes.
func (s *sess) rotate() (which, n int) {
	s.t.Helper()
	z := zbuf.Zbuf{Bufb: &s.buf[1][0], Buflen: 77}
	s.do(zbuf.BIOCROTZBUF, &z)
	require.Nil(s.t, z.Bufb, "BIOCROTZBUF fills in the first buffer alone")
	switch z.Bufa {
	case nil:
		require.Zero(s.t, z.Buflen)
		return -1, 0
	case &s.buf[0][0]:
		return 0, int(z.Buflen)
	case &s.buf[1][0]:
		return 1, int(z.Buflen)
	}
	require.Fail(s.t, "BIOCROTZBUF returned an address that was never lent")
	return -1, 0
}

// requireHeader compares a buffer's header words: kernel_gen, kernel_len, user_gen.
func (s *sess) requireHeader(i int, kgen, klen, ugen int) {
	s.t.Helper()
	h := s.h[i]
	require.Equal(s.t, fmt.Sprintf("{%d,%d,%d}", kgen, klen, ugen),
		fmt.Sprintf("{%d,%d,%d}", h.KernelGen.Load(), h.KernelLen.Load(), h.UserGen.Load()),
		"header of buffer %c", 'A'+i)
}

// inject makes n more 64-byte frames arrive and returns them.
func (s *sess) inject(n int) [][]byte {
	s.t.Helper()
	var frames [][]byte
	for range n {
		s.n++
		frames = append(frames, lab.Frame(64, s.n))
	}
	s.p.Inject(s.t, frames...)
	return frames
}

// fill makes 64-byte frames arrive until both pages are assigned and one is dropped.
func (s *sess) fill() {
	s.t.Helper()
	s.inject(2*full + 1)
}

// record is a parsed record.
type record struct {
	off             int
	hdrlen          int
	caplen, datalen uint32
	sec             int64
	frac            uint64
	data            []byte
}

// layout says how records look: where bh_caplen is, and what they are aligned to.
type layout struct{ caplen, align int }

// The layouts of struct bpf_hdr and bpf_xhdr for 64-bit processes, and for 32-bit ones.
var (
	hdr64  = layout{16, 8}
	xhdr64 = layout{16, 8}
	hdr32  = layout{8, 4}
	xhdr32 = layout{16, 4}
)

// parse walks records.
func parse(t *testing.T, data []byte, l layout) (recs []record) {
	t.Helper()
	ne := binary.NativeEndian
	for off := 0; off < len(data); {
		b := data[off:]
		require.GreaterOrEqual(t, len(b), l.caplen+10, "a header at %d of %d", off, len(data))
		r := record{
			off:     off,
			caplen:  ne.Uint32(b[l.caplen:]),
			datalen: ne.Uint32(b[l.caplen+4:]),
			hdrlen:  int(ne.Uint16(b[l.caplen+8:])),
		}
		if l.caplen == 8 {
			r.sec, r.frac = int64(int32(ne.Uint32(b))), uint64(ne.Uint32(b[4:]))
		} else {
			r.sec, r.frac = int64(ne.Uint64(b)), ne.Uint64(b[8:])
		}
		require.GreaterOrEqual(t, r.hdrlen, l.caplen+10)
		require.LessOrEqual(t, r.hdrlen+int(r.caplen), len(b), "the record at %d of %d", off, len(data))
		r.data = b[r.hdrlen : r.hdrlen+int(r.caplen)]
		recs = append(recs, r)
		off += roundUp(r.hdrlen+int(r.caplen), l.align)
	}
	return recs
}

// contents returns the length that the header of a buffer gives. The process owns the buffer.
func (s *sess) contents(i int) []byte {
	return s.buf[i][32:][:s.h[i].KernelLen.Load()]
}

// requireFrames compares records' packets.
func (s *sess) requireFrames(data []byte, want ...[]byte) {
	s.t.Helper()
	recs := parse(s.t, data, hdr64)
	require.Len(s.t, recs, len(want))
	for i, r := range recs {
		require.Equal(s.t, want[i], r.data, "packet %d", i)
		require.Equal(s.t, len(want[i]), int(r.datalen))
	}
}

// await is Wait that signals do not end.
func (s *sess) await(rearm bool, timeout time.Duration) zbuf.Event {
	s.t.Helper()
	for until := time.Now().Add(timeout); ; {
		ev, err := s.Wait(rearm, max(time.Until(until), 0))
		require.NoError(s.t, err)
		if ev != (zbuf.Event{}) || time.Until(until) < tick {
			return ev
		}
	}
}

// wait waits for an event that must come.
func (s *sess) wait(rearm bool) zbuf.Event {
	s.t.Helper()
	return s.await(rearm, lab.Patience)
}

// quiet is the time without an event after which a test believes that none will come.
const quiet = 250 * time.Millisecond

// requireQuiet waits for an event that must not come.
func (s *sess) requireQuiet(rearm bool, why string) {
	s.t.Helper()
	for from := time.Now(); time.Since(from) < quiet-tick; rearm = false {
		require.Equal(s.t, zbuf.Event{}, s.await(rearm, quiet), why)
	}
}

// tick is the resolution of the kernel's timeouts at kern.hz=100.
const tick = 10 * time.Millisecond

// ready is poll(2) for POLLIN that does not wait.
func (s *sess) ready() bool {
	s.t.Helper()
	ev, err := s.Poll(lab.PollIn, 0)
	require.NoError(s.t, err)
	return ev&lab.PollIn != 0
}

func timeval(d time.Duration) *zbuf.Timeval {
	tv := new(zbuf.Timeval)
	setField(&tv.Sec, int64(d/time.Second))
	setField(&tv.Usec, int64(d%time.Second/time.Microsecond))
	return tv
}

func setField[T int32 | int64](f *T, v int64) { *f = T(v) }

// sigio is SIGIO on FreeBSD, where the model lives too.
const sigio = 23

// notCapable is ENOTCAPABLE, which not every system has.
const notCapable = bpftest.ENOTCAPABLE
