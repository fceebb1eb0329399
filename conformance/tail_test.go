package conformance

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// soak is the time that each random test runs: ZBUF_SOAK, a duration.
func soak(short time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("ZBUF_SOAK")); err == nil {
		return d
	}
	return short
}

// seeded returns a generator and prints its seed; ZBUF_SEED sets it.
func seeded(t *testing.T) *rand.Rand {
	return rand.New(rand.NewPCG(lab.RandomSeed(t), 0))
}

var _ = add(
	rule{name: "assignment/buffers alternate, A first", run: alternate},
	rule{name: "tail/reading the store buffer in place is exact: 4 KiB", run: inPlace(1)},
	rule{name: "tail/reading the store buffer in place is exact: 16 KiB", run: inPlace(4)},
	rule{name: "tail/reading the store buffer in place is exact: 256 KiB", run: inPlace(64)},
)

// alternate does random things, and after each of them looks at both generations: a
// step assigns one buffer at most, and never the same twice in turn.
func alternate(t *testing.T, w lab.World) {
	s := zerocopy(t, w, page)
	rng := seeded(t)
	accept := []zbuf.Insn{{Op: 0x06, K: 0xffff}}
	counts := map[string]int{}
	var gens [2]uint32
	next := 0
	until := time.Now().Add(soak(by(w.Name() == kernel, 5*time.Second, 200*time.Millisecond)))
	for time.Now().Before(until) || counts["assigned"] <= 100 &&
		time.Now().Before(until.Add(5*lab.Patience)) {
		var op string
		switch n := rng.IntN(100); {
		case n < 60:
			op = "packet"
			s.n++
			s.p.Inject(t, lab.Frame(60+rng.IntN(1400), s.n))
		case n < 75:
			op = "rotate"
			s.rotate()
		case n < 83:
			op = "ack A"
			s.h[0].Ack()
		case n < 91:
			op = "ack B"
			s.h[1].Ack()
		case n < 95:
			op = "flush"
			s.do(zbuf.BIOCFLUSH, nil)
		case n < 97:
			op = "filter"
			s.do(zbuf.BIOCSETF, &zbuf.Program{Len: 1, Insns: &accept[0]})
		default:
			op = "attach"
			s.attach(s.p.A)
		}
		counts[op]++
		for range 2 {
			g := s.h[next].KernelGen.Load()
			if g == gens[next] {
				break
			}
			require.Equal(t, gens[next]+1, g, "%s: one generation at a time", op)
			gens[next] = g
			counts["assigned"]++
			next = 1 - next
		}
		require.Equal(t, gens, [2]uint32{s.h[0].KernelGen.Load(), s.h[1].KernelGen.Load()},
			"%s: out of turn", op)
	}
	require.Greater(t, counts["assigned"], 100, "%v", counts)
	t.Logf("%v", counts)
	operations := 0
	for op, n := range counts {
		if op != "assigned" {
			operations += n
		}
	}
	lab.Report(t, lab.Operations, uint64(operations))
}

// inPlace lets a writer send numbered packets in bursts, with pauses, while a reader
// takes assigned buffers and, when there are none, reads what lies in the store buffer.
// Before it acknowledges a buffer it zeroes bh_hdrlen of the first record, so that later
// a nonzero one tells where the kernel stores. Nothing may be lost, doubled or late.
func inPlace(pages int) func(t *testing.T, w lab.World) {
	return func(t *testing.T, w lab.World) {
		s := zerocopy(t, w, pages*page)
		rng := seeded(t)
		var sent, early atomic.Int64
		done, gone := make(chan error, 1), make(chan struct{})
		var stop atomic.Bool
		until := time.Now().Add(soak(by(w.Name() == kernel, 4*time.Second, 300*time.Millisecond)))
		go func(rng *rand.Rand) {
			defer close(gone)
			done <- burst(s.p, rng, &sent, func() bool {
				return stop.Load() || time.Now().After(until) &&
					(early.Load() > 10 || time.Now().After(until.Add(5*lab.Patience)))
			}, pages)
		}(rand.New(rand.NewPCG(rng.Uint64(), 0)))
		defer func() { stop.Store(true); <-gone }() // before what it writes to is closed

		r := inPlaceReader{s: s}
		var num numbers
		r.each = func(packet []byte, inPlace bool) error {
			if inPlace {
				early.Add(1)
			}
			return num.check(packet)
		}
		ended := false
		for {
			if rng.IntN(200) == 0 { // a slow reader now and then, so that both buffers fill
				time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) // a pause of any length
			}
			got, err := r.pass(rng.IntN(3) == 0)
			require.NoError(t, err, "after %d packets", num.next)
			if got {
				continue
			}
			if ended {
				break
			}
			select {
			case err := <-done:
				require.NoError(t, err)
				s.p.Settle(t)
				ended = true
				continue
			default:
			}
			if _, err := s.Poll(lab.PollIn, 10*time.Millisecond); err != nil {
				require.NoError(t, err)
			}
		}
		recv, drop := s.stats()
		require.Equal(t, int(sent.Load()), int(recv))
		require.Equal(t, int(recv), num.packets+int(drop), "delivered + dropped")
		require.Equal(t, int(drop), num.gaps+int(sent.Load())-num.next,
			"packets missing in the numbering")
		require.Greater(t, int(early.Load()), 10, "packets read in place")
		t.Logf("%d sent = %d delivered + %d dropped; %d read in place, %d rotations, both owned %d times",
			sent.Load(), num.packets, drop, early.Load(), r.rotations, r.both)
		lab.Report(t, lab.Packets, uint64(recv))
		lab.Report(t, lab.Lost, uint64(recv)-uint64(num.packets)-uint64(drop))
	}
}

// burst is the writer of inPlace.
func burst(p *lab.Pair, rng *rand.Rand, sent *atomic.Int64, stop func() bool, pages int) error {
	for !stop() {
		n := 1 + rng.IntN(12)
		if rng.IntN(12) == 0 {
			n = 300 * min(pages, 8)
		}
		for range n {
			if err := p.Post(p.A, lab.Frame(60+rng.IntN(300), uint32(sent.Load()))); err != nil {
				return err
			}
			if sent.Add(1)%64 == 0 {
				if err := p.SettleNow(); err != nil { // the wire's queue is finite
					return err
				}
			}
		}
		switch rng.IntN(3) {
		case 0:
			time.Sleep(time.Duration(rng.IntN(80)) * time.Millisecond) // a pause of any length
		case 1:
			end := time.Now().Add(time.Duration(rng.IntN(3000)) * time.Microsecond)
			for time.Now().Before(end) {
			}
		}
	}
	return nil
}

// numbers checks that numbered frames come in order, once, and whole.
type numbers struct{ next, packets, gaps int }

func (n *numbers) check(packet []byte) error {
	num := int(lab.Seed(packet))
	if num < n.next {
		return fmt.Errorf("number %d where %d or later must come", num, n.next)
	}
	// The addresses are the sender's business.
	if want := lab.Frame(len(packet), uint32(num)); string(want[12:]) != string(packet[12:]) {
		return fmt.Errorf("number %d is torn", num)
	}
	n.gaps += num - n.next
	n.next = num + 1
	n.packets++
	return nil
}

// inPlaceReader takes assigned buffers. If there are none, it reads the store buffer in place.
type inPlaceReader struct {
	s    *sess
	each func(packet []byte, inPlace bool) error
	turn int    // which buffer is assigned next
	skip [2]int // bytes of the buffer that were read in place
	lens [2]int // kernel_len of the last assignment

	rotations, both int

	trail []string // what was done last, to explain a failure
}

// note remembers a step and the generations, the kernel's and the user's.
func (r *inPlaceReader) note(format string, args ...any) {
	h := r.s.h
	if len(r.trail) == 24 {
		r.trail = r.trail[1:]
	}
	r.trail = append(r.trail, fmt.Sprintf(format, args...)+fmt.Sprintf(" [A %d/%d, B %d/%d]",
		h[0].KernelGen.Load(), h[0].UserGen.Load(), h[1].KernelGen.Load(), h[1].UserGen.Load()))
}

// mark is the word that holds bh_hdrlen of the first record.
func (r *inPlaceReader) mark(i int) *atomic.Uint32 { return lab.WordAt(r.s.buf[i], 32+24) }

// pass takes what there is, the buffers in turn. lazy acknowledges two owned buffers only
// after both were read.
func (r *inPlaceReader) pass(lazy bool) (got bool, err error) {
	s := r.s
	if s.h[0].Owned() && s.h[1].Owned() {
		r.both++
	}
	var ack []int
	for range 2 {
		i := r.turn
		if !s.h[i].Owned() {
			break
		}
		r.turn = 1 - i
		r.lens[i] = int(s.h[i].KernelLen.Load())
		r.note("take %c, %d bytes but %d", 'A'+i, r.lens[i], r.skip[i])
		if err := r.take(s.buf[i][32:][:r.lens[i]], r.skip[i], false); err != nil {
			return false, fmt.Errorf("buffer %c: %w", 'A'+i, err)
		}
		r.skip[i] = 0
		got = true
		if lazy {
			ack = append(ack, i)
		} else {
			r.ack(i)
		}
	}
	for _, i := range ack {
		r.ack(i)
	}
	if got {
		return true, nil
	}

	a, b := r.mark(0).Load() != 0, r.mark(1).Load() != 0
	if a && b {
		if s.h[0].Owned() || s.h[1].Owned() {
			return true, nil // assigned while the marks were looked at
		}
		return false, fmt.Errorf("both buffers are marked as stored to, and none is owned")
	}
	var n int32
	if err := s.Ioctl(zbuf.FIONREAD, &n); err != nil {
		return false, err
	}
	var z zbuf.Zbuf
	if err := s.Ioctl(zbuf.BIOCROTZBUF, &z); err != nil {
		return false, err
	}
	if s.h[0].Owned() || s.h[1].Owned() {
		r.rotations++
		r.note("rotated, FIONREAD was %d", n)
		return true, nil
	}
	if z.Bufa != nil {
		return true, nil // a stale buffer moved on
	}
	if !a && !b {
		return false, nil
	}
	i := 0
	if b {
		i = 1
	}
	valid := int(n) - r.lens[1-i]
	if valid <= 0 || valid > len(s.buf[i])-32 {
		return false, fmt.Errorf("FIONREAD %d, buffer %c was last assigned %d: %d bytes can't be in %c",
			n, 'A'+1-i, r.lens[1-i], valid, 'A'+i)
	}
	if valid == r.skip[i] {
		return false, nil
	}
	r.note("in place %c, %d bytes but %d", 'A'+i, valid, r.skip[i])
	if err := r.take(s.buf[i][32:][:valid], r.skip[i], true); err != nil {
		return false, fmt.Errorf("in place in %c, %d bytes: %w", 'A'+i, valid, err)
	}
	r.skip[i] = valid
	return true, nil
}

func (r *inPlaceReader) ack(i int) {
	r.mark(i).Store(0)
	r.s.h[i].Ack()
}

// take passes on the records behind those that were read in place.
func (r *inPlaceReader) take(data []byte, skip int, inPlace bool) error {
	if skip > len(data) {
		return fmt.Errorf("%d bytes were read in place, %d are there", skip, len(data))
	}
	for off := roundUp(skip, align); off < len(data); {
		packet, n, err := first(data[off:])
		if err == nil {
			err = r.each(packet, inPlace)
		}
		if err != nil {
			return fmt.Errorf("record at %d of %d: %w", off, len(data), err)
		}
		off += n
	}
	return nil
}

// first returns the first record's packet and where the next record begins.
func first(data []byte) (packet []byte, next int, err error) {
	if len(data) < hdrlen {
		return nil, 0, fmt.Errorf("%d bytes are no header", len(data))
	}
	caplen := int(binary.NativeEndian.Uint32(data[16:]))
	hlen := int(binary.NativeEndian.Uint16(data[24:]))
	if hlen != hdrlen || caplen < 18 || hlen+caplen > len(data) {
		return nil, 0, fmt.Errorf("hdrlen %d, caplen %d, %d bytes left", hlen, caplen, len(data))
	}
	return data[hlen : hlen+caplen], roundUp(hlen+caplen, align), nil
}

// randomInsn is an instruction that is valid more often than not in a program of n.
func randomInsn(rng *rand.Rand, n int) zbuf.Insn {
	ops := []uint16{0x00, 0x01, 0x02, 0x03, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x61, 0x80, 0x81,
		0xb1,
		0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c,
		0x84, 0x94, 0x9c, 0xa4, 0xac,
		0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07, 0x87}
	in := zbuf.Insn{
		Op: ops[rng.IntN(len(ops))],
		Jt: uint8(rng.IntN(max(n/2, 1))),
		Jf: uint8(rng.IntN(max(n/2, 1))),
		K:  uint32(rng.IntN(20)),
	}
	switch rng.IntN(20) {
	case 0:
		in.K = rng.Uint32()
	case 1:
		in.Op = uint16(rng.Uint32())
	}
	return in
}
