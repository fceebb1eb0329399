package bpftest_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// TestInFlight has a packet pass the filter, then makes a request, then lets the packet be stored.
func TestInFlight(t *testing.T) {
	lp64(t)
	raw := bpftest.AlsoDLT(zbuf.DLT_RAW, 0)
	setFilter := func(req zbuf.Request) func(*session) {
		return func(s *session) { s.do(req, program(reject)) }
	}
	flush := func(s *session) { s.do(zbuf.BIOCFLUSH, nil) }
	set := func(req zbuf.Request, v uint32) func(*session) {
		return func(s *session) { s.set(req, v) }
	}
	rules := map[string]struct {
		change func(s *session)
		// The bytes that are stored afterwards, on 13 and later and before. The length of the header and
		// the counters on 13 and later.
		after, before  int
		hdrlen         int
		recv, captured uint64
		dropped        uint64
	}{
		"nothing":                   {func(*session) {}, 1, 1, hdrlen, 1, 1, 0},
		"BIOCSETF":                  {setFilter(zbuf.BIOCSETF), 1, 0, hdrlen, 0, 1, 0},
		"BIOCSETFNR":                {setFilter(zbuf.BIOCSETFNR), 1, 1, hdrlen, 1, 1, 0},
		"BIOCFLUSH":                 {flush, 1, 1, hdrlen, 0, 1, 0},
		"BIOCSDIRECTION":            {set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_OUT), 1, 1, hdrlen, 1, 1, 0},
		"BIOCSETIF, the same again": {func(s *session) { s.attach("em0") }, 1, 1, hdrlen, 0, 1, 0},
		"BIOCSETIF, another":        {func(s *session) { s.attach("tun0") }, 1, 0, 28, 0, 1, 0},
		"BIOCSDLT":                  {set(zbuf.BIOCSDLT, zbuf.DLT_RAW), 1, 0, 32, 0, 1, 0},
		"the interface goes":        {func(s *session) { s.em0.Remove() }, 0, 1, 0, 1, 1, 1},
	}
	for name, c := range rules {
		for release, f := range map[string]bpftest.Features{
			"13": {FilterInFlight: true}, "12.1": {},
		} {
			t.Run(name+"/"+release, func(t *testing.T) {
				k := newKernel(bpftest.WithFeatures(f))
				em0 := k.AddInterface("em0", zbuf.DLT_EN10MB, raw)
				k.AddInterface("tun0", zbuf.DLT_NULL)
				s := zerocopy(t, k)
				frame := frame(64)
				finish := em0.BeginInject(bpftest.Packet{Data: frame})
				require.Zero(t, s.nread(), "nothing is stored before")
				c.change(s)
				finish()
				finish()
				want, wantHdrlen := c.after, c.hdrlen
				if !f.FilterInFlight {
					want = c.before
					wantHdrlen = hdrlen
				}
				which, n := s.rotate()
				if want == 0 {
					require.Equal(t, -1, which)
				} else {
					recs := parse(t, s.lent(which)[:n])
					require.Len(t, recs, 1)
					require.Equal(t, frame, recs[0].data)
					require.Equal(t, wantHdrlen, recs[0].hdrlen)
				}
				if f.FilterInFlight {
					require.Equal(t, zbuf.Stat{Recv: uint32(c.recv), Drop: uint32(c.dropped)}, s.stat())
					if list := k.Stats(); len(list) == 1 {
						require.Equal(t, c.captured, list[0].Fcount)
					}
				}
			})
		}
	}
	t.Run("what the filter refuses is not in flight", func(t *testing.T) {
		s := zerocopy(t, newKernel(bpftest.WithFeatures(bpftest.Features{FilterInFlight: true})))
		s.do(zbuf.BIOCSETF, program(reject))
		finish := s.em0.BeginInject(bpftest.Packet{Data: frame(64)})
		s.do(zbuf.BIOCSETFNR, program(accept))
		finish()
		require.Zero(t, s.nread())
		require.Equal(t, zbuf.Stat{Recv: 1}, s.stat())
	})
	t.Run("a packet that goes out reaches the peer when it is finished, once", func(t *testing.T) {
		k := newKernel()
		a, b := k.AddInterface("em0", zbuf.DLT_EN10MB), k.AddInterface("em1", zbuf.DLT_EN10MB)
		bpftest.Pair(a, b)
		s := open(t, k).lend(page).attach("em1")
		finish := a.BeginInject(bpftest.Packet{Data: frame(64), Out: true})
		require.Zero(t, s.nread())
		finish()
		finish()
		require.Equal(t, one, s.nread())
	})
	t.Run("a packet overtakes one that was begun before it", func(t *testing.T) {
		s := zerocopy(t, newKernel())
		first := frame(64)
		finish := s.em0.BeginInject(bpftest.Packet{Data: first})
		first = append([]byte(nil), first...)
		second := s.receive(1)
		finish()
		which, _ := s.rotate()
		s.requireFrames(s.lent(which), second[0], first)
	})
	t.Run("an interface that is down, and a closed descriptor", func(t *testing.T) {
		s := zerocopy(t, newKernel())
		s.em0.SetUp(false)
		s.em0.BeginInject(bpftest.Packet{Data: frame(64)})()
		require.Equal(t, zbuf.Stat{}, s.stat())
		s.em0.SetUp(true)
		finish := s.em0.BeginInject(bpftest.Packet{Data: frame(64)})
		require.NoError(t, s.Close())
		finish()
		require.Empty(t, s.k.Stats())
	})
}

// TestWithInFlight counts the packets that are stored behind a reset, over many seeds.
func TestWithInFlight(t *testing.T) {
	lp64(t)
	const most, delay, packets = 3, time.Millisecond, 20
	run := func(t *testing.T, seed uint64, f bpftest.Features, reset func(s *session)) (behind int) {
		synctest.Test(t, func(t *testing.T) {
			s := zerocopy(t, newKernel(bpftest.WithFeatures(f), bpftest.WithInFlight(most, delay, seed)))
			defer s.Close()
			sent := s.receive(packets)
			if n := s.nread(); n > 0 {
				require.GreaterOrEqual(t, (n+stride-one)/stride, packets-most, "never more than %d", most)
			}
			if reset != nil {
				reset(s)
			}
			time.Sleep(delay) // in the time of the bubble
			which, n := s.rotate()
			if n == 0 {
				require.NotNil(t, reset, "nothing is lost without a reset")
				return
			}
			recs := parse(t, s.lent(which))
			behind = len(recs)
			for i, r := range recs {
				require.Equal(t, sent[packets-behind+i], r.data, "in order, and the newest")
			}
		})
		return behind
	}
	flush := func(s *session) { s.do(zbuf.BIOCFLUSH, nil) }
	setf := func(s *session) { s.do(zbuf.BIOCSETF, program(reject)) }
	seen := map[string]map[int]int{"flush": {}, "13": {}, "12.1": {}, "again": {}, "no reset": {}}
	for seed := range uint64(200) {
		seen["no reset"][run(t, seed, bpftest.Features{}, nil)]++
		seen["flush"][run(t, seed, bpftest.Features{}, flush)]++
		seen["12.1"][run(t, seed, bpftest.Features{}, setf)]++
		seen["13"][run(t, seed, bpftest.Features{FilterInFlight: true}, setf)]++
		seen["again"][run(t, seed, bpftest.Features{FilterInFlight: true}, setf)]++
	}
	require.Equal(t, map[int]int{packets: 200}, seen["no reset"])
	require.Equal(t, map[int]int{0: 200}, seen["12.1"], "BIOCSETF waits for what is in flight")
	require.Equal(t, seen["13"], seen["again"], "the seed decides")
	for _, name := range []string{"13", "flush"} {
		for n := range most + 1 {
			require.NotZero(t, seen[name][n], "%s: %d packets behind the reset", name, n)
		}
		require.Len(t, seen[name], most+1, "%s: no more than that", name)
	}
}

// TestInFlightRoom shows that InjectWait counts packets in flight.
func TestInFlightRoom(t *testing.T) {
	lp64(t)
	k := newKernel(bpftest.WithInFlight(5, time.Hour, 1))
	s := zerocopy(t, k)
	defer s.Close()
	for i := range uint32(2 * full) {
		p := frame(64)
		binary.NativeEndian.PutUint32(p[20:], i)
		require.NoError(t, s.em0.InjectWait(t.Context(), bpftest.Packet{Data: p}))
	}
	s.do(zbuf.BIOCSETFNR, program(reject)) // nothing is in flight any more
	require.Equal(t, zbuf.Stat{Recv: 2 * full}, s.stat())
	require.Equal(t, 2*most, s.nread())
}
