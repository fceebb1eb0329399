package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

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
		mode := []int{syscall.O_RDWR, syscall.O_RDWR, syscall.O_RDWR, syscall.O_RDWR, syscall.O_RDONLY,
			syscall.O_WRONLY}[o.N%6]
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
			"net.bpf.zerocopy_enable": {0, 1, 1, 1}, "net.bpf.maxinsns": {4, 512, 512, 512},
			"net.bpf.bufsize":    {20, 4096, 700, 9000},
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
		ev, err := st.Poll([]int16{lab.PollIn, lab.PollIn | lab.PollOut, lab.PollRdNorm,
			lab.PollIn | lab.PollHup, lab.PollOut}[o.N%5], 0)
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
		req := map[string]zbuf.Request{"BIOCSETF": zbuf.BIOCSETF, "BIOCSETFNR": zbuf.BIOCSETFNR,
			"BIOCSETWF": zbuf.BIOCSETWF}[o.Do]
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
		in := []*zbuf.Timeval{timeval(0), timeval(time.Duration(o.M)), {Sec: 1, Usec: 1e6}, {Sec: -1},
			{Usec: -5}}[o.N%5]
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
			if err := outlast(s.w, tick); err != nil {
				return err.Error()
			}
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
