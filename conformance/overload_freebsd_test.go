package conformance

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

var _ = add(
	rule{name: "overload/zero-copy: matched = delivered + dropped, to the packet",
		only: kernel, why: "a model has no load of its own",
		run: func(t *testing.T, w lab.World) {
			overload(t, w, func(s *sess) *sess { return s.lend(4 * page) })
		}},
	rule{name: "overload/read(2): matched = delivered + dropped, to the packet",
		only: kernel, why: "a model has no load of its own",
		run: func(t *testing.T, w lab.World) {
			overload(t, w, func(s *sess) *sess { s.set(zbuf.BIOCSBLEN, 4*page); return s })
		}},
)

// overload captures a storm, and numbered packets on top of it, into small buffers.
func overload(t *testing.T, w lab.World, prepare func(*sess) *sess) {
	storm, err := lab.NewStorm()
	require.NoError(t, err)
	defer func() { require.NoError(t, storm.Close()) }()
	s := prepare(open(t, w))
	s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_IN)
	s.attach(storm.Ifname)
	out, err := storm.NewFeeder()
	require.NoError(t, err)
	defer out.Close()

	var num numbers
	others := 0
	each := func(packet []byte, _ bool) error {
		if packet[12] == 0x88 && packet[13] == 0xb5 && packet[0] != 0xff {
			return num.check(packet)
		}
		others++
		return nil
	}
	var pass func() (bool, error)
	if s.buf[0] != nil {
		r := inPlaceReader{s: s, each: each}
		defer func() {
			if t.Failed() {
				t.Log("before it failed:\n" + strings.Join(r.trail, "\n"))
			}
		}()
		pass = func() (bool, error) { return r.pass(false) }
	} else {
		buf := make([]byte, s.get(zbuf.BIOCGBLEN))
		r := inPlaceReader{each: each}
		pass = func() (bool, error) {
			n, err := s.Read(buf)
			if errors.Is(err, syscall.EAGAIN) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			return true, r.take(buf[:n], 0, false)
		}
	}

	require.NoError(t, storm.Start())
	var stop atomic.Bool
	sent := make(chan int, 1)
	halt := sync.OnceValue(func() int {
		stop.Store(true)
		return <-sent
	})
	defer halt()
	go func() {
		n := 0
		defer func() { sent <- n }()
		for !stop.Load() {
			f := lab.Frame(60+n%200, uint32(n))
			copy(f, storm.Sink)
			if !assert.NoError(t, out.Write(f)) {
				return
			}
			n++
		}
	}()
	find := func() (x zbuf.XbpfD) {
		for _, x = range listeners(t, w, storm.Ifname) {
			if x.Bufsize == int32(s.get(zbuf.BIOCGBLEN)) {
				return x
			}
		}
		require.Fail(t, "the descriptor is not listed")
		return x
	}
	rng := seeded(t)
	until := time.Now().Add(soak(4 * time.Second))
	for time.Now().Before(until) || find().Dcount == 0 && time.Now().Before(until.Add(lab.Patience)) {
		got, err := pass()
		require.NoError(t, err)
		if !got || rng.IntN(8) == 0 {
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond) // a reader too slow for the load
		}
	}
	wrote := halt()
	require.NoError(t, storm.Stop())

	// Packets that are still on the wire arrive. The wire is at rest if a while brings no more. What
	// was counted before a pass that finds nothing was delivered or dropped, whatever comes later.
	var x zbuf.XbpfD
	for since, atRest := time.Now(), false; !atRest; {
		now := find()
		got, err := pass()
		require.NoError(t, err)
		if got || now.Fcount != x.Fcount {
			since = time.Now()
		} else {
			atRest = time.Since(since) >= quiet
		}
		x = now
	}
	require.Equal(t, int(x.Fcount), num.packets+others+int(x.Dcount), "matched = delivered + dropped")
	require.Equal(t, x.Rcount, x.Fcount)
	require.NotZero(t, x.Dcount, "it was no overload")
	require.LessOrEqual(t, num.packets+num.gaps, wrote)
	t.Logf("%d matched = %d delivered (%d of %d numbered ones) + %d dropped", x.Fcount,
		num.packets+others, num.packets, wrote, x.Dcount)
	lab.Report(t, lab.Packets, x.Fcount)
	lab.Report(t, lab.Lost, x.Fcount-uint64(num.packets+others)-x.Dcount)
}
