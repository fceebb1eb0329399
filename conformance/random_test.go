package conformance

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// op is one step of a sequence. What it does depends on nothing but itself and
// the state, so any part of a sequence can be left out.
type op struct {
	Do string `json:"do"`
	S  int    `json:"s,omitempty"` // which of the three descriptors
	N  uint32 `json:"n,omitempty"`
	M  uint32 `json:"m,omitempty"`
}

// sequence is a list of steps with what is fixed for all of them.
type sequence struct {
	// Stamped sequences use all time stamps and compare records but for those; others have
	// none, and compare the lent memory byte by byte.
	Stamped bool `json:"stamped"`
	Ops     []op `json:"ops"`
}

func (s sequence) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// seats is how many descriptors a sequence plays with.
const seats = 3

// side is one of the two kernels that play the same sequence.
type side struct {
	w       lab.World
	p       *lab.Pair
	stamped bool
	seat    [seats]*seat
	sysctls map[string]int // as they were
}

// seat is a descriptor of a side.
type seat struct {
	lab.Desc
	buf  [2][]byte
	gens [2]uint32 // as compared last
	zero bool      // in zero-copy mode
	lent bool
	// timed says that a read timeout is set and has run out. An ioctl would let the next
	// poll start it again, and then results depended on time: it is unset first.
	timed bool
	// promisc and stale say that it put its interface into promiscuous mode, and that the interface
	// went afterwards. Where the mark stays, attaching it again ends in a panic.
	promisc, stale bool
}

func newSide(w lab.World, stamped bool) (*side, error) {
	s := &side{w: w, stamped: stamped, sysctls: map[string]int{}}
	for _, n := range sysctlNames {
		v, err := w.Sysctl(n)
		if err != nil {
			return nil, err
		}
		s.sysctls[n] = v
	}
	return s, s.plug()
}

var sysctlNames = []string{"net.bpf.zerocopy_enable", "net.bpf.maxinsns", "net.bpf.bufsize", "net.bpf.maxbufsize", "net.bpf.optimize_writers"}

// plug makes a wire that takes frames of nearly a page.
func (s *side) plug() error {
	p, err := s.w.NewPair()
	if err != nil {
		return err
	}
	s.p = p
	for _, ifname := range []string{p.A, p.B} {
		if err := s.w.SetMTU(ifname, 4082); err != nil {
			return err
		}
	}
	return nil
}

func (s *side) unplug() error {
	s.p.Close()
	return s.w.Destroy(s.p.A)
}

func (s *side) close() error {
	var errs []error
	for i := range s.seat {
		s.step(op{Do: "close", S: i})
	}
	errs = append(errs, s.unplug())
	for n, v := range s.sysctls {
		errs = append(errs, s.w.SetSysctl(n, v))
	}
	return errors.Join(errs...)
}

func (s *side) end(n uint32) string {
	switch n % 8 {
	case 0:
		return "nosuch0"
	case 1, 2:
		return s.p.B
	}
	return s.p.A
}

// plain are the ioctls without anything special about them: a number in or out.
var plain = func() map[string]zbuf.Request {
	all := map[string]zbuf.Request{}
	for _, req := range zbuf.Requests() {
		if _, number := req.Argument().(*uint32); number {
			all[req.String()] = req
		}
	}
	delete(all, "BIOCSETBUFMODE") // has a step of its own
	delete(all, "BIOCSHDRCMPLT")  // interfaces' own addresses differ, and so would written packets
	return all
}()

// step makes one step and says what came of it.
func (s *side) step(o op) string {
	st := s.seat[o.S%seats]
	switch o.Do {
	case "open":
		if st != nil {
			return "taken"
		}
		mode := []int{syscall.O_RDWR, syscall.O_RDWR, syscall.O_RDWR, syscall.O_RDWR, syscall.O_RDONLY, syscall.O_WRONLY}[o.N%6]
		d, err := s.w.OpenMode(mode | syscall.O_NONBLOCK)
		if err != nil {
			return err.Error()
		}
		st = &seat{Desc: d}
		s.seat[o.S%seats] = st
		// Interfaces' own addresses differ, and so would written packets.
		out := say(st.set(zbuf.BIOCSHDRCMPLT, 1))
		if !s.stamped {
			out += say(st.set(zbuf.BIOCSTSTAMP, zbuf.BPF_T_NONE))
		}
		return out
	case "inject":
		return s.inject(o)
	case "sysctl":
		name := sysctlNames[o.S%len(sysctlNames)]
		v := map[string][]int{
			"net.bpf.zerocopy_enable": {0, 1, 1, 1}, "net.bpf.maxinsns": {4, 512, 512, 512}, "net.bpf.bufsize": {20, 4096, 700, 9000},
			"net.bpf.maxbufsize": {64, 1000, 524288, 524288}, "net.bpf.optimize_writers": {0, 0, 0, 1},
		}[name][o.N%4]
		return fmt.Sprint(name, v, s.w.SetSysctl(name, v))
	case "replug":
		for _, st := range s.seat {
			if st != nil && st.promisc && !st.Detached() {
				st.promisc, st.stale = false, true
			}
		}
		return say(s.unplug()) + say(s.plug())
	case "rename":
		if err := s.w.Rename(s.p.A, "renamed0"); err != nil {
			return err.Error()
		}
		var name string
		if st != nil && !st.timed {
			var r zbuf.Ifreq
			if err := st.Ioctl(zbuf.BIOCGETIF, &r); err != nil {
				name = err.Error()
			} else if n, _, _ := bytes.Cut(r.Name[:], []byte{0}); string(n) == "renamed0" {
				name = "renamed"
			}
		}
		return name + say(s.w.Rename("renamed0", s.p.A))
	case "zero":
		p := make([]byte, lab.SizeofListener)
		if o.N%4 == 0 {
			p[o.N%uint32(len(p))] = 1
		}
		return say(s.w.SetStats(p))
	}
	if st == nil {
		return "none"
	}
	switch o.Do {
	case "close":
		s.seat[o.S%seats] = nil
		err := st.Close()
		for _, b := range st.buf {
			if b != nil {
				err = errors.Join(err, st.Unmap(b))
			}
		}
		return say(err)
	case "poll":
		ev, err := st.Poll([]int16{lab.PollIn, lab.PollIn | lab.PollOut, lab.PollRdNorm, lab.PollIn | lab.PollHup, lab.PollOut}[o.N%5], 0)
		return fmt.Sprint(ev, err)
	case "wait":
		ev, err := st.Wait(o.N%2 == 0, 0)
		return fmt.Sprint(ev, err)
	case "wake":
		return say(st.Wake())
	case "detached":
		return fmt.Sprint(st.Detached())
	case "ack":
		if !st.lent {
			return "no buffers"
		}
		lab.HeaderOf(st.buf[o.N%2]).Ack()
		return "ok"
	case "misack":
		if !st.lent {
			return "no buffers"
		}
		h := lab.HeaderOf(st.buf[o.N%2])
		h.UserGen.Store(h.UserGen.Load() + 1 + o.M%3)
		return "ok"
	case "write":
		f := lab.Frame(size(o.N), o.M)
		n, err := st.Write(f)
		return fmt.Sprint(max(n, 0), err)
	}

	// Everything below is an ioctl or a read.
	if st.timed {
		st.timed = false
		if err := st.Ioctl(zbuf.BIOCSRTIMEOUT, timeval(0)); err != nil {
			return err.Error()
		}
	}
	if req, ok := plain[o.Do]; ok {
		v := o.N
		if o.Do == "BIOCSTSTAMP" && !s.stamped {
			v = zbuf.BPF_T_NONE
		}
		err := st.Ioctl(req, &v)
		return fmt.Sprint(v, err)
	}
	switch o.Do {
	case "BIOCFLUSH":
		if st.zero && !st.lent {
			return "would panic"
		}
		return say(st.Ioctl(zbuf.BIOCFLUSH, nil))
	case "BIOCPROMISC":
		err := st.Ioctl(zbuf.BIOCPROMISC, nil)
		st.promisc = st.promisc || err == nil
		return say(err)
	case "BIOCLOCK":
		return say(st.Ioctl(zbuf.BIOCLOCK, nil))
	case "BIOCSETF", "BIOCSETFNR", "BIOCSETWF":
		if st.zero && !st.lent && o.Do == "BIOCSETF" {
			return "would panic"
		}
		req := map[string]zbuf.Request{"BIOCSETF": zbuf.BIOCSETF, "BIOCSETFNR": zbuf.BIOCSETFNR, "BIOCSETWF": zbuf.BIOCSETWF}[o.Do]
		return say(st.Ioctl(req, somePrograms(o.N)))
	case "BIOCSETIF":
		if st.stale && featuresOf(s.w).StalePromisc {
			return "would panic later"
		}
		return say(st.Ioctl(zbuf.BIOCSETIF, ifreq(s.end(o.N))))
	case "BIOCGETIF":
		var r zbuf.Ifreq
		if err := st.Ioctl(zbuf.BIOCGETIF, &r); err != nil {
			return err.Error()
		}
		n, _, _ := bytes.Cut(r.Name[:], []byte{0})
		return map[string]string{s.p.A: "A", s.p.B: "B"}[string(n)]
	case "BIOCGDLTLIST":
		var room [3]uint32
		l := zbuf.DLTList{Len: o.N % 4}
		if l.Len > 0 {
			l.List, l.Len = &room[0], l.Len-1
		}
		err := st.Ioctl(zbuf.BIOCGDLTLIST, &l)
		return fmt.Sprint(l.Len, room, err)
	case "BIOCGSTATS":
		var v zbuf.Stat
		err := st.Ioctl(zbuf.BIOCGSTATS, &v)
		return fmt.Sprint(v.Recv, v.Drop, err)
	case "BIOCVERSION":
		var v zbuf.Version
		err := st.Ioctl(zbuf.BIOCVERSION, &v)
		return fmt.Sprint(v.Major, v.Minor, err)
	case "BIOCGRTIMEOUT":
		var v zbuf.Timeval
		err := st.Ioctl(zbuf.BIOCGRTIMEOUT, &v)
		return fmt.Sprint(v.Sec, v.Usec, err)
	case "BIOCSRTIMEOUT": // set, looked at, and unset before anything waits
		var v zbuf.Timeval
		in := []*zbuf.Timeval{timeval(0), timeval(time.Duration(o.M)), {Sec: 1, Usec: 1e6}, {Sec: -1}, {Usec: -5}}[o.N%5]
		err := st.Ioctl(zbuf.BIOCSRTIMEOUT, in)
		err2 := st.Ioctl(zbuf.BIOCGRTIMEOUT, &v)
		err3 := st.Ioctl(zbuf.BIOCSRTIMEOUT, timeval(0))
		return fmt.Sprint(err, v.Sec, v.Usec, err2, err3)
	case "expire":
		if err := st.Ioctl(zbuf.BIOCSRTIMEOUT, timeval(tick)); err != nil {
			return err.Error()
		}
		ev, err := st.Poll(lab.PollIn, 12*tick)
		if err == nil && ev == 0 {
			// A machine that stood still for so long may have had both timers run out at once, and
			// have got round to one of them only.
			ev, err = st.Poll(lab.PollIn, 12*tick)
		}
		if err != nil || ev != 0 {
			// It may have been ready before: whether the timeout ran is not known.
			return fmt.Sprint(ev, err, st.Ioctl(zbuf.BIOCSRTIMEOUT, timeval(0)))
		}
		st.timed = true
		return "expired"
	case "FIONREAD":
		var n int32
		err := st.Ioctl(zbuf.FIONREAD, &n)
		return fmt.Sprint(n, err)
	case "unknown":
		return say(st.Ioctl(zbuf.Request(0x20004200|200+o.N%50), nil))
	case "BIOCSETBUFMODE":
		v := []uint32{zmode, zmode, buffer, 0, 3}[o.N%5]
		err := st.Ioctl(zbuf.BIOCSETBUFMODE, &v)
		if err == nil {
			st.zero = v == zmode
		}
		return say(err)
	case "BIOCGETZMAX":
		var v uintptr
		err := st.Ioctl(zbuf.BIOCGETZMAX, &v)
		return fmt.Sprint(v, err)
	case "BIOCSETZBUF":
		return s.lend(st, o)
	case "BIOCROTZBUF":
		var z zbuf.Zbuf
		err := st.Ioctl(zbuf.BIOCROTZBUF, &z)
		which := "-"
		for i, b := range st.buf {
			if b != nil && z.Bufa == &b[0] {
				which = string(rune('A' + i))
			}
		}
		return fmt.Sprint(which, z.Buflen, z.Bufb == nil, err)
	case "read":
		var n uint32
		if err := st.Ioctl(zbuf.BIOCGBLEN, &n); err != nil {
			return err.Error()
		}
		if o.N%8 == 0 {
			n += o.N / 8 % 3
		}
		p := make([]byte, min(n, 1<<20))
		got, err := st.Read(p)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%x", masked(p[:got], s.stamped))
	}
	panic("no such step: " + o.Do)
}

func (st *seat) set(req zbuf.Request, v uint32) error { return st.Ioctl(req, &v) }

func say(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// size maps a number to a frame's size: mostly small, and up to what is refused.
func size(n uint32) int {
	switch n % 16 {
	case 0:
		return int(n/16) % 14
	case 1, 2:
		return 14 + int(n/16)%4082
	case 3:
		return 4090 + int(n/16)%10
	case 4, 5, 6:
		return 14 + int(n/16)%1500
	}
	return 14 + int(n/16)%120
}

// inject makes frames arrive at one end.
func (s *side) inject(o op) string {
	to := s.p.A
	if o.S == 1 {
		to = s.p.B
	}
	count := 1
	if o.N%64 == 0 {
		count = int(o.N/64) % 80
	}
	var out []string
	for i := range count {
		n := size(o.M + uint32(i)*16)
		if err := s.p.Post(to, lab.Frame(n, o.N+uint32(i))); err != nil {
			out = append(out, err.Error())
		}
	}
	return strings.Join(out, ",")
}

// lend makes the first loan, or one more that is refused.
func (s *side) lend(st *seat, o op) string {
	pages := []int{1, 1, 1, 2, 4}[o.N%5]
	if st.lent {
		pages = len(st.buf[0]) / page
	} else if st.buf[0] == nil {
		for i := range st.buf {
			b, err := st.Map(4 * page)
			if err != nil {
				return err.Error()
			}
			st.buf[i] = b
		}
	}
	z := zbuf.Zbuf{Bufa: &st.buf[0][0], Bufb: &st.buf[1][0], Buflen: uintptr(pages * page)}
	switch o.M % 16 {
	case 0:
		z.Bufa = nil
	case 1:
		z.Buflen = 0
	case 2:
		z.Buflen += 8
	case 3:
		z.Bufb = &st.buf[1][64]
	}
	err := st.Ioctl(zbuf.BIOCSETZBUF, &z)
	if err == nil {
		st.lent = true
	}
	return say(err)
}

// somePrograms is a filter: the usual ones and any other.
func somePrograms(n uint32) *zbuf.Program {
	switch n % 8 {
	case 0:
		return &zbuf.Program{}
	case 1, 2:
		return acceptAll()
	case 3:
		return program(retK(n / 8 % 100))
	case 4:
		return oddSeed(n / 8 % 2000)
	case 5:
		return &zbuf.Program{Len: 1 + n/8%3}
	}
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	var prog []zbuf.Insn
	for range 200 { // until one is valid, mostly
		prog = make([]zbuf.Insn, 1+rng.IntN(10))
		for i := range prog {
			prog[i] = randomInsn(rng, len(prog))
		}
		prog[len(prog)-1] = []zbuf.Insn{retK(rng.Uint32() % 3000), {Op: 0x16}}[rng.IntN(2)]
		if zbuf.Validate(prog) == nil {
			break
		}
	}
	return program(prog...)
}

// masked is records without their time stamps, if any, and without their padding: in
// read(2) mode that is whatever the kernel's memory held.
func masked(data []byte, stamped bool) []byte {
	data = slices.Clone(data)
	for off := 0; off+hdrlen <= len(data); {
		if stamped {
			clear(data[off : off+16])
		}
		end := off + int(binary.NativeEndian.Uint16(data[off+24:])) + int(binary.NativeEndian.Uint32(data[off+16:]))
		if end <= off || end > len(data) {
			break
		}
		next := min(roundUp(end, align), len(data))
		clear(data[end:next])
		off = next
	}
	return data
}

// view is everything that can be seen without a request on a descriptor.
type view struct {
	listeners []zbuf.XbpfD // with the end of the wire as Ifname
	headers   [][3]uint32
	mem       [][]byte // what of the lent memory is to be compared
}

// stats reads net.bpf.stats: the listeners at A, then those at B.
func (s *side) stats() (out []zbuf.XbpfD, err error) {
	all, err := s.w.Listeners()
	if err != nil {
		return nil, err
	}
	for i, ifname := range []string{s.p.A, s.p.B} {
		for _, x := range all {
			if string(bytes.TrimRight(x.Ifname[:], "\x00")) == ifname {
				x.Ifname = [zbuf.IFNAMSIZ]byte{"AB"[i]}
				out = append(out, x)
			}
		}
	}
	return out, nil
}

// seen is how many packets have passed each end, as the pair's own descriptor
// counted them: the oldest there, so the last.
func seen(list []zbuf.XbpfD) (n [2]uint64) {
	for _, x := range list {
		n[x.Ifname[0]-'A'] = x.Rcount
	}
	return n
}

func (s *side) view(list []zbuf.XbpfD) view {
	v := view{listeners: list}
	for _, st := range s.seat {
		if st == nil || !st.lent {
			continue
		}
		for j, b := range st.buf {
			h := lab.HeaderOf(b)
			gen := h.KernelGen.Load()
			v.headers = append(v.headers, [3]uint32{gen, h.KernelLen.Load(), h.UserGen.Load()})
			switch {
			case !s.stamped:
				v.mem = append(v.mem, b)
			case gen != st.gens[j]:
				st.gens[j] = gen
				if gen == h.UserGen.Load() {
					break // acknowledged before it was assigned: what is in it by now may be from different times
				}
				v.mem = append(v.mem, masked(b[32:][:min(int(h.KernelLen.Load()), len(b)-32)], true))
			}
		}
	}
	return v
}

// unlike says how two views differ, or nothing.
func unlike(an string, a view, bn string, b view) string {
	for i := range max(len(a.listeners), len(b.listeners)) {
		if i >= len(a.listeners) || i >= len(b.listeners) || a.listeners[i] != b.listeners[i] {
			return fmt.Sprintf("\n%s: %+v\n%s: %+v", an, a.listeners[min(i, len(a.listeners)):], bn, b.listeners[min(i, len(b.listeners)):])
		}
	}
	if !slices.Equal(a.headers, b.headers) {
		return fmt.Sprintf("headers {kernel_gen, kernel_len, user_gen}: %s %v, %s %v", an, a.headers, bn, b.headers)
	}
	for i, m := range a.mem {
		if bytes.Equal(m, b.mem[i]) {
			continue
		}
		at := 0
		for at < min(len(m), len(b.mem[i])) && m[at] == b.mem[i][at] {
			at++
		}
		from := max(at-8, 0)
		return fmt.Sprintf("memory %d differs at byte %d (from %d on): %s %x, %s %x", i, at, from, an, clip(string(m[from:])), bn, clip(string(b.mem[i][from:])))
	}
	return ""
}

// play plays a sequence on both and returns the first difference.
func play(a, b lab.World, seq sequence) (at int, diff string, err error) {
	var s [2]*side
	for i, w := range []lab.World{a, b} {
		if s[i], err = newSide(w, seq.Stamped); err != nil {
			return 0, "", err
		}
		defer func() { err = errors.Join(err, s[i].close()) }()
	}
	for at, o := range seq.Ops {
		// The model goes first: being synchronous, it says how many packets to wait for.
		rb := s[1].step(o)
		ra := s[0].step(o)
		if ra != rb {
			return at, fmt.Sprintf("%s: %s, %s: %s", a.Name(), clip(ra), b.Name(), clip(rb)), nil
		}
		lb, err := s[1].stats()
		if err != nil {
			return at, "", err
		}
		la, err := s[0].stats()
		if err != nil {
			return at, "", err
		}
		for deadline := time.Now().Add(3 * time.Second); seen(la) != seen(lb); {
			if time.Now().After(deadline) {
				return at, fmt.Sprintf("packets seen at A and B: %s %v, %s %v", a.Name(), seen(la), b.Name(), seen(lb)), nil
			}
			if la, err = s[0].stats(); err != nil {
				return at, "", err
			}
		}
		if o.Do == "inject" || o.Do == "write" {
			// The list was read from the newest on: of the others it may be older than of the last.
			if la, err = s[0].stats(); err != nil {
				return at, "", err
			}
		}
		if diff := unlike(a.Name(), s[0].view(la), b.Name(), s[1].view(lb)); diff != "" {
			return at, diff, nil
		}
	}
	return len(seq.Ops), "", nil
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// generate makes about n steps.
func generate(rng *rand.Rand, n int) sequence {
	seq := sequence{Stamped: rng.IntN(4) == 0}
	do := func(o op) { seq.Ops = append(seq.Ops, o) }
	for len(seq.Ops) < n {
		s, r, m := rng.IntN(seats), rng.Uint32(), rng.Uint32()
		switch x := rng.IntN(1000); {
		case x < 30 || len(seq.Ops) == 0: // a session as programs make it
			do(op{"close", s, 0, 0})
			do(op{"open", s, 0, 0})
			if rng.IntN(4) > 0 {
				do(op{"BIOCSETBUFMODE", s, 0, 0})
				do(op{"BIOCSETZBUF", s, r, 15})
			} else {
				do(op{"BIOCSBLEN", s, []uint32{32, 100, 300, 1000, 4096, 5000}[rng.IntN(6)], 0})
			}
			if rng.IntN(3) == 0 {
				do(op{"BIOCSETF", s, m, 0})
			}
			do(op{"BIOCSETIF", s, r, 0})
			if rng.IntN(3) == 0 {
				do(op{"BIOCIMMEDIATE", s, 1, 0})
			}
		case x < 45:
			do(op{[]string{"open", "close"}[rng.IntN(2)], s, r, 0})
		case x < 400:
			do(op{"inject", max(rng.IntN(5)-3, 0), r, m})
		case x < 470:
			do(op{"ack", s, r, 0})
		case x < 480:
			do(op{"misack", s, r, m})
		case x < 550:
			do(op{"BIOCROTZBUF", s, 0, 0})
		case x < 600:
			do(op{"read", s, r, 0})
		case x < 650:
			do(op{"poll", s, r, 0})
		case x < 720:
			do(op{"wait", s, r, 0})
		case x < 730:
			do(op{[]string{"wake", "detached"}[rng.IntN(2)], s, 0, 0})
		case x < 770:
			do(op{"write", s, r, m})
		case x < 790:
			do(op{"BIOCFLUSH", s, 0, 0})
		case x < 840:
			do(op{[]string{"BIOCSETF", "BIOCSETFNR", "BIOCSETWF"}[rng.IntN(3)], s, r, 0})
		case x < 855:
			do(op{"BIOCSETIF", s, r, 0})
		case x < 865:
			do(op{"BIOCIMMEDIATE", s, r % 2, 0})
		case x < 875:
			do(op{"BIOCSDIRECTION", s, r % 4, 0})
		case x < 882:
			do(op{"BIOCSTSTAMP", s, []uint32{0, 1, 2, 3, 0x100, 0x201, 0x302, 7}[r%8], 0})
		case x < 887:
			do(op{"BIOCFEEDBACK", s, r % 2, 0})
		case x < 891:
			do(op{"expire", s, 0, 0})
		case x < 894:
			do(op{"replug", 0, 0, 0})
		case x < 896:
			do(op{"rename", s, 0, 0})
		case x < 900:
			do(op{"zero", 0, r, 0})
		case x < 905:
			do(op{"sysctl", rng.IntN(5), r, 0})
		case x < 907:
			do(op{"BIOCLOCK", s, 0, 0})
		default:
			o := []string{"BIOCGBLEN", "BIOCSBLEN", "BIOCGDLT", "BIOCSDLT", "BIOCGRSIG", "BIOCSRSIG", "BIOCGHDRCMPLT", "BIOCGDIRECTION", "BIOCGTSTAMP",
				"BIOCGETBUFMODE", "BIOCSETVLANPCP", "BIOCPROMISC", "BIOCGETIF", "BIOCGDLTLIST", "BIOCGSTATS", "BIOCVERSION", "BIOCGRTIMEOUT",
				"BIOCSRTIMEOUT", "FIONREAD", "FIONREAD", "FIONREAD", "unknown", "BIOCSETBUFMODE", "BIOCGETZMAX", "BIOCSETZBUF"}
			name := o[rng.IntN(len(o))]
			arg := r
			switch name {
			case "BIOCSBLEN":
				arg = r % 6000
			case "BIOCSDLT":
				arg = r % 2
			case "BIOCSETVLANPCP":
				arg = r % 9
			case "BIOCSRSIG":
				arg = r % 40
			case "BIOCSRTIMEOUT":
				m %= 3e9
			}
			do(op{name, s, arg, m})
		}
	}
	return seq
}

// shorten leaves out what a difference does not need.
func shorten(a, b lab.World, seq sequence, at int) sequence {
	seq.Ops = slices.Clone(seq.Ops[:at+1])
	until := time.Now().Add(60 * time.Second)
	for n := len(seq.Ops) / 2; n > 0; n /= 2 {
		for i := 0; i+n <= len(seq.Ops) && time.Now().Before(until); {
			less := sequence{seq.Stamped, slices.Delete(slices.Clone(seq.Ops), i, i+n)}
			at, diff, err := play(a, b, less)
			if err == nil && diff != "" {
				less.Ops = less.Ops[:at+1]
				seq = less
			} else {
				i += n
			}
		}
	}
	return seq
}

// requireSame plays random sequences until n steps were made.
func requireSame(t *testing.T, a, b lab.World, n int) {
	rng := seeded(t)
	steps := 0
	from := time.Now()
	for steps < n {
		seq := generate(rng, 800)
		at, diff, err := play(a, b, seq)
		require.NoError(t, err, "after %d steps", steps)
		if diff != "" {
			short := shorten(a, b, seq, at)
			last, again, _ := play(a, b, short)
			if again == "" {
				again = "it did not show again"
			}
			require.Fail(t, "a difference", "after %d steps: %s\nshortened to %d steps, step %d: %s\nreplay: ZBUF_REPLAY='%v'", steps+at, diff, len(short.Ops), last, again, short)
		}
		if (steps+at)/10000 != steps/10000 {
			t.Logf("%d steps in %v", steps+at, time.Since(from).Round(time.Second))
		}
		steps += at
	}
	t.Logf("%d steps in %v without a difference", steps, time.Since(from).Round(time.Second))
	lab.Report(t, lab.Operations, uint64(steps))
}

// TestRandomSequences plays random sequences on the kernel and on the model, side by
// side, and compares every result, header, counter and packet. ZBUF_STEPS says how many
// steps, ZBUF_SEED from which seed; ZBUF_REPLAY is a sequence that was printed.
func TestRandomSequences(t *testing.T) {
	k, why := lab.Kernel()
	if k == nil {
		t.Skip("nothing to compare the model with: ", why)
	}
	only64(t)
	if text := os.Getenv("ZBUF_REPLAY"); text != "" {
		var seq sequence
		require.NoError(t, json.Unmarshal([]byte(text), &seq))
		m, err := modelOf(k)
		require.NoError(t, err)
		at, diff, err := play(k, m, seq)
		require.NoError(t, err)
		require.Empty(t, diff, "step %d", at)
		return
	}
	n := 4000
	if v, err := strconv.Atoi(os.Getenv("ZBUF_STEPS")); err == nil {
		n = v
	}
	m, err := modelOf(k)
	require.NoError(t, err)
	t.Logf("the model has:%s", describe(featuresOf(m)))
	requireSame(t, k, m, n)
}

// only64 skips where records have another layout.
func only64(t *testing.T) {
	if runtime.GOARCH == "386" {
		t.Skip("a 386 binary gets no zero-copy from the kernel, and records of another layout: rules 386/… show those")
	}
}

// onlyModels skips what would take long in a guest and has nothing to do with its kernel.
func onlyModels(t *testing.T) {
	if k, _ := lab.Kernel(); k != nil {
		t.Skip("models alone: run where there is no kernel to compare with")
	}
}

// TestRandomSequencesAreRepeatable plays them on two models.
func TestRandomSequencesAreRepeatable(t *testing.T) {
	only64(t)
	onlyModels(t)
	for _, r := range releases {
		t.Run(r.name, func(t *testing.T) {
			requireSame(t, newModel(r.f), newModel(r.f), 4000)
		})
	}
}

// TestRandomSequencesFind plays them on models that differ on purpose: the difference
// must be found and shortened to what shows it.
func TestRandomSequencesFind(t *testing.T) {
	only64(t)
	onlyModels(t)
	for name, c := range map[string]struct {
		opt  bpftest.Option
		most int
		need string
	}{
		"zeroed padding":        {bpftest.WithFeatures(bpftest.Features{PadZero: true}), 12, "inject"},
		"a request of 14":       {bpftest.WithFeatures(bpftest.Features{SetVLANPCP: true}), 2, "BIOCSETVLANPCP"},
		"flags that are sticky": {bpftest.WithFeatures(bpftest.Features{StickyFlags: true}), 8, "BIOCIMMEDIATE"},
		"truncated timeouts":    {bpftest.WithFeatures(bpftest.Features{TruncateTimeout: true}), 2, "BIOCSRTIMEOUT"},
		"attaching that wakes":  {bpftest.WithFeatures(bpftest.Features{AttachWakes: true}), 12, "BIOCSETIF"},
		"writes that count":     {bpftest.WithFeatures(bpftest.Features{TapWrite: true}), 1, "inject"},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 7))
			for range 40 {
				seq := generate(rng, 400)
				a, b := lab.Model(c.opt), lab.Model()
				at, diff, err := play(a, b, seq)
				require.NoError(t, err)
				if diff == "" {
					continue
				}
				short := shorten(a, b, seq, at)
				t.Log(short)
				require.LessOrEqual(t, len(short.Ops), c.most)
				require.True(t, slices.ContainsFunc(short.Ops, func(o op) bool { return o.Do == c.need }))
				return
			}
			require.Fail(t, "not found in 16,000 steps")
		})
	}
}
