package sender

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/pcapio"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// Each packet of a file arrives at the other end, or the sender says that it was left out.
func TestKernelSendAccountsForEveryPacket(t *testing.T) {
	rounds, sent, left := 0, 0, 0
	wires(t, func(t *testing.T, w wire) {
		seeds := uint64(100)
		if testing.Short() {
			seeds = 20
		}
		got := w.receive(t)
		for seed := range seeds {
			rnd := rand.New(rand.NewPCG(seed, 2))
			mtu := []int{1500, 576, 9000, 65000}[rnd.IntN(4)]
			w.setMTU(t, mtu)
			limit := min(14+mtu, w.memory)
			var frames, want [][]byte
			var short, long int
			for i := range rnd.IntN(40) {
				n := []int{0, 1, 13, 14, 42, limit - 1, limit, limit + 1, w.memory, w.memory + 1, mtu + 14,
					mtu + 15, rnd.IntN(20000)}[rnd.IntN(13)]
				frame := lab.Frame(n, uint32(seed)<<16+uint32(i))
				frames = append(frames, frame)
				switch {
				case n < 14:
					short++
				case n > limit:
					long++
				default:
					want = append(want, frame)
				}
			}
			before := len(got.all())
			pipe := rnd.IntN(2) == 0
			cfg := Config{TopSpeed: true, Loop: 1}
			if !pipe {
				cfg.Loop = 1 + rnd.Uint64N(2)
			}
			s := w.send(t, fixture.File(t, 0, frames...), pipe, cfg)
			loop := int(cfg.Loop)
			require.EqualValues(t, loop*len(want), s.Packets, "seed %d, MTU %d", seed, mtu)
			require.EqualValues(t, loop*short, s.left.tooShort, "seed %d, MTU %d", seed, mtu)
			require.EqualValues(t, loop*long, s.left.tooLong, "seed %d, MTU %d", seed, mtu)
			require.Eventually(t, func() bool { return len(got.all()) >= before+loop*len(want) },
				lab.Patience, time.Millisecond)
			for i, p := range got.all()[before:] {
				require.True(t, bytes.Equal(want[i%len(want)], p), "seed %d: packet %d", seed, i)
			}
			require.Len(t, got.all(), before+loop*len(want))
			rounds, sent, left = rounds+1, sent+loop*len(want), left+loop*(short+long)
		}
	})
	t.Logf("%d files, %d packets arrived and %d were left out", rounds, sent, left)
}

// Files that were sent wrongly once.
func TestKernelSendOfOddFiles(t *testing.T) {
	wires(t, func(t *testing.T, w wire) {
		got := w.receive(t)
		for _, pipe := range []bool{false, true} {
			before := len(got.all())
			s := w.send(t, "testdata/short.pcap", pipe, Config{Loop: 1})
			assert.EqualValues(t, 2, s.Packets)
			assert.Equal(t, "4 too short (a link header has 14 bytes)", s.LeftOut(w.m))

			w.setMTU(t, 9000)
			s = w.send(t, "testdata/jumbo.pcap", pipe, Config{Loop: 1})
			arrive := 7
			if w.memory < 9014 {
				assert.EqualValues(t, 4, s.Packets)
				assert.Equal(t, "1 too long for "+w.to+" (it takes 4096 bytes, which is the memory that the "+
					"kernel finds for one write; "+
					"the longest packet has 9000)", s.LeftOut(w.m))
				arrive--
			} else {
				assert.EqualValues(t, 5, s.Packets)
				assert.Empty(t, s.LeftOut(w.m))
			}

			w.setMTU(t, 1500)
			s = w.send(t, "testdata/jumbo.pcap", pipe, Config{Loop: 1})
			assert.EqualValues(t, 2, s.Packets)
			assert.Equal(t, "3 too long for "+w.to+" (it takes 1514 bytes, which is its MTU of 1500 and a "+
				"link header of 14; "+
				"the longest packet has 9000)", s.LeftOut(w.m))
			require.Eventually(t, func() bool { return len(got.all()) == before+arrive+2 }, lab.Patience,
				time.Millisecond)
		}
	})
}

// The kernel does not say how much memory a write gets. What happened to packets does, and else
// the release.
func TestWriteMemory(t *testing.T) {
	w := modelWire(bpftest.Features{})
	for _, c := range []struct {
		name              string
		noMemory, longest int
		want              int
	}{
		{"by the release, 12.1", 0, 60, 4096},
		{"a packet was longer than a page and was sent", 0, 5000, 16384},
		{"a packet was longer than a page and was not", 5000, 60, 4096},
		{"one was sent and one was not", 20000, 5000, 16384},
	} {
		s := &Sender{out: &outlet{}, longestSent: c.longest}
		s.left.noMemory = c.noMemory
		assert.Equal(t, c.want, s.writeMemory(w.m), c.name)
	}
}

// tun takes packets only without BIOCSHDRCMPLT.
func TestSendOnATunnel(t *testing.T) {
	k := bpftest.New()
	var got [][]byte
	k.AddInterface("tun0", zbuf.DLT_NULL, bpftest.Output(func(p []byte) error {
		got = append(got, bytes.Clone(p))
		return nil
	}))
	w := wire{to: "tun0", m: &machine.Machine{BPF: k, Sysctl: scenario.Sysctls(k), Stop: func() {}}}
	s := w.send(t, "testdata/null4.pcap", false, Config{Loop: 1})
	assert.EqualValues(t, 1, s.Packets)
	require.Len(t, got, 1)
}

// timesOf sends packets that were captured at the given seconds and returns when each left.
func timesOf(t *testing.T, cfg Config, seconds ...float64) (left []time.Duration) {
	w := modelWire(bpftest.Features{})
	var b bytes.Buffer
	out := pcapio.NewWriter(&b)
	_, err := out.AddInterface(pcapio.Interface{LinkType: 1})
	require.NoError(t, err)
	for i, s := range seconds {
		require.NoError(t, out.WritePacket(0, int64(s), int64((s-float64(int64(s)))*1e9),
			lab.Frame(60, uint32(i)), 60))
	}
	require.NoError(t, out.Finish())
	f, err := Open(t.Context(), "-", &b)
	require.NoError(t, err)
	defer f.Close()
	s, _, err := New(w.m, w.to, []*File{f}, cfg)
	require.NoError(t, err)
	defer s.Close()
	start := time.Now()
	s.Sent = func() { left = append(left, time.Since(start)) }
	require.NoError(t, s.Run(t.Context()))
	return left
}

// Packets leave as far apart as they were captured. One without a time, beside others with one,
// leaves at once: there are no 42 years to wait.
func TestPacketsLeaveAsTheyWereCaptured(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name  string
		cfg   Config
		times []float64
		want  []time.Duration
	}{
		{"as captured", Config{Loop: 1}, []float64{100, 101, 101.5, 104}, []time.Duration{0, s, 1500 * time.Millisecond, 4 * s}},
		{"out of order", Config{Loop: 1}, []float64{100, 102, 101, 103}, []time.Duration{0, 2 * s, 2 * s, 3 * s}},
		{"no time in front", Config{Loop: 1}, []float64{0, 1.7e9, 1.7e9 + 1}, []time.Duration{0, 0, s}},
		{"no time between", Config{Loop: 1}, []float64{1.7e9, 0, 1.7e9 + 1, 0}, []time.Duration{0, 0, s, s}},
		{"no times", Config{Loop: 1}, []float64{0, 0, 0}, []time.Duration{0, 0, 0}},
		{"since boot", Config{Loop: 1}, []float64{5, 7}, []time.Duration{0, 2 * s}},
		{"packets a second", Config{Loop: 1, PPS: 2}, []float64{0, 1.7e9, 3}, []time.Duration{0, s / 2, s}},
		{"bits a second", Config{Loop: 1, Rate: 480}, []float64{9, 99, 999}, []time.Duration{0, s, 2 * s}},
		{"twice as fast", Config{Loop: 1, Multiplier: 2}, []float64{100, 101, 104}, []time.Duration{0, s / 2, 2 * s}},
		{"half as fast", Config{Loop: 1, Multiplier: 0.5}, []float64{100, 101}, []time.Duration{0, 2 * s}},
		{"a gap that is too long", Config{Loop: 1, MaxGap: s}, []float64{100, 100.5, 1.7e9, 1.7e9 + 2}, []time.Duration{0, s / 2, 3 * s / 2, 5 * s / 2}},
		{"a gap that is allowed", Config{Loop: 1, MaxGap: 2 * time.Hour}, []float64{100, 7300}, []time.Duration{0, 7200 * s}},
		{"a gap of an hour", Config{Loop: 1}, []float64{100, 3700}, []time.Duration{0, 3600 * s}},
		{"a gap that is shorter when multiplied", Config{Loop: 1, Multiplier: 2}, []float64{100, 7300}, []time.Duration{0, 3600 * s}},
		{"a limit", Config{Loop: 1, Limit: 2}, []float64{100, 101, 1e9}, []time.Duration{0, s}},
		{"top speed", Config{Loop: 1, TopSpeed: true}, []float64{1, 1e9}, []time.Duration{0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { assert.Equal(t, c.want, timesOf(t, c.cfg, c.times...)) })
		})
	}
}

// A wait that looks like a hang is announced.
func TestLongWaitsAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modelWire(bpftest.Features{})
		name := fixture.File(t, 3*time.Hour, lab.Frame(60, 0), lab.Frame(60, 1))
		f := openFile(t, name, false)
		s, _, err := New(w.m, w.to, []*File{f}, Config{Loop: 1, MaxGap: 5 * time.Hour})
		require.NoError(t, err)
		defer s.Close()
		var waits []time.Duration
		s.Waits = func(d time.Duration) { waits = append(waits, d) }
		require.NoError(t, s.Run(t.Context()))
		assert.Equal(t, []time.Duration{3 * time.Hour}, waits)
	})
}

// The end of the context ends the wait for a pipe, and the wait for the next packet.
func TestContextEndsSending(t *testing.T) {
	w := modelWire(bpftest.Features{})
	file, err := os.ReadFile(fixture.File(t, time.Hour, lab.Frame(60, 0), lab.Frame(60, 1)))
	require.NoError(t, err)
	for name, n := range map[string]int{"before the head": 0, "in the middle": len(file) - 70,
		"between packets": len(file)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				r, pw := io.Pipe()
				f, err := Open(ctx, "-", r)
				require.NoError(t, err)
				defer f.Close()
				s, _, err := New(w.m, w.to, []*File{f}, Config{Loop: 1})
				require.NoError(t, err)
				defer s.Close()
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx) }()
				pw.Write(file[:n])
				synctest.Wait()
				cancel(capture.ErrInterrupted)
				assert.Equal(t, capture.ErrInterrupted, <-done)
				assert.EqualValues(t, min(n, 1), s.Packets)
				pw.Close()
			})
		})
	}
}

// A pipe can't be sent twice, and its packets can turn out to be of another link type.
func TestPipesThatCanNotBeSent(t *testing.T) {
	w := modelWire(bpftest.Features{})
	name := fixture.File(t, 0, lab.Frame(60, 0))
	_, _, err := New(w.m, w.to, []*File{openFile(t, name, true)}, Config{Loop: 2})
	assert.ErrorIs(t, err, ErrLoop)
	_, _, err = New(w.m, w.to, []*File{openFile(t, name, true)}, Config{Loop: 0})
	assert.ErrorIs(t, err, ErrLoop)

	s, _, err := New(w.m, w.to, []*File{openFile(t, "testdata/null4.pcap", true)}, Config{Loop: 1})
	require.NoError(t, err, "not known yet")
	defer s.Close()
	assert.EqualError(t, s.Run(t.Context()), "after 0 packets: the packets are of link type 0 "+
		"(LINKTYPE_), and epair0b takes EN10MB")
}

// Nobody waits for more than an hour who has not asked for it. Where a file can be read before,
// nothing is sent.
func TestLongGapsNeedAFlag(t *testing.T) {
	w := modelWire(bpftest.Features{})
	short := fixture.File(t, time.Hour, lab.Frame(60, 0), lab.Frame(60, 1))
	long := fixture.File(t, time.Hour+time.Second, lab.Frame(60, 0), lab.Frame(60, 1))
	files := []*File{openFile(t, short, false), openFile(t, long, false)}
	_, plan, err := New(w.m, w.to, files, Config{Loop: 1})
	var gap *LongGapError
	require.ErrorAs(t, err, &gap)
	assert.Equal(t, Gap{time.Hour + time.Second, long, 2}, gap.Gap)
	assert.EqualValues(t, 4, plan.Packets)
	for name, cfg := range map[string]Config{"allowed": {MaxGap: time.Minute},
		"faster": {Multiplier: 2}, "behind the limit": {Limit: 3}, "at a rate": {Rate: 1},
		"packets a second": {PPS: 1}, "top speed": {TopSpeed: true}} {
		cfg.Loop = 1
		s, _, err := New(w.m, w.to, files, cfg)
		require.NoError(t, err, name)
		s.Close()
	}

	s, _, err := New(w.m, w.to, []*File{openFile(t, long, true)}, Config{Loop: 1})
	require.NoError(t, err, "not known yet")
	defer s.Close()
	require.ErrorAs(t, s.Run(t.Context()), &gap)
	assert.EqualValues(t, 1, s.Packets)
}

// The packets of all files arrive in turn, in each round.
func TestFilesAreSentInTurn(t *testing.T) {
	w := modelWire(bpftest.Features{})
	got := w.receive(t)
	var files []*File
	for i := range uint32(3) {
		files = append(files, openFile(t, fixture.File(t, 0, lab.Frame(60, 2*i), lab.Frame(60, 2*i+1)),
			false))
	}
	s, plan, err := New(w.m, w.to, files, Config{TopSpeed: true, Loop: 2, Limit: 11})
	require.NoError(t, err)
	defer s.Close()
	assert.EqualValues(t, 6, plan.Packets)
	require.NoError(t, s.Run(t.Context()))
	require.Eventually(t, func() bool { return len(got.all()) >= 11 }, lab.Patience, time.Millisecond)
	for i, p := range got.all() {
		require.Equal(t, lab.Frame(60, uint32(i%6)), p, "packet %d", i)
	}
	require.Len(t, got.all(), 11)
}
