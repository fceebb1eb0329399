package main

import (
	"bytes"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/fixture"
	"github.com/zbuf-go/zbuf/internal/machine"
	"github.com/zbuf-go/zbuf/internal/scenario"
)

// outlet is a model whose em0 keeps the packets that leave through it.
type outlet struct {
	mu   sync.Mutex
	sent [][]byte
	at   []time.Time
	fail func(n int) error // what the nth write, from 0, fails with
	n    int
}

func (o *outlet) machine() *machine.Machine {
	k := bpftest.New()
	k.AddInterface("em0", zbuf.DLT_EN10MB, bpftest.Output(func(p []byte) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		n := o.n
		o.n++
		if o.fail != nil {
			if err := o.fail(n); err != nil {
				return err
			}
		}
		o.sent = append(o.sent, bytes.Clone(p))
		o.at = append(o.at, time.Now())
		return nil
	}))
	return &machine.Machine{
		BPF: k, Sysctl: scenario.Sysctls(k), Stop: func() {},
		Interfaces: func() ([]machine.Interface, error) {
			return []machine.Interface{{Name: "em0", Up: true, MTU: 1500}}, nil
		},
	}
}

// send runs `bpfctl send` there.
func (o *outlet) send(args ...string) (code int, said string) {
	var stdout, stderr bytes.Buffer
	code = runOn(&target{host: o.machine}, append([]string{"send", "-i", "em0"}, args...), nil,
		&stdout, &stderr)
	return code, stderr.String() + stdout.String()
}

// numbered is n frames that differ, of lengths that em0 takes.
func numbered(n int) (all [][]byte) {
	for i := range n {
		all = append(all, scenario.Frame(60+i*37%1455, uint32(i)))
	}
	return all
}

func TestSendKeepsBytesAndOrder(t *testing.T) {
	want := numbered(500)
	for _, loop := range []int{1, 3} {
		var o outlet
		code, said := o.send(fixture.File(t, 0, want...), "--topspeed", "--loop",
			map[int]string{1: "1", 3: "3"}[loop])
		require.Equal(t, exitOK, code, said)
		require.Len(t, o.sent, loop*len(want))
		for i, p := range o.sent {
			require.True(t, bytes.Equal(want[i%len(want)], p), "packet %d", i)
		}
	}
}

func TestSendTiming(t *testing.T) {
	frames := make([][]byte, 11)
	for i := range frames {
		frames[i] = scenario.Frame(1250, uint32(i)) // 10,000 bits
	}
	for _, c := range []struct {
		name  string
		apart time.Duration
		args  []string
		least time.Duration
	}{
		{"as captured", 20 * time.Millisecond, nil, 200 * time.Millisecond},
		{"packets a second", time.Hour, []string{"--pps", "50"}, 200 * time.Millisecond},
		{"bits a second", time.Hour, []string{"--rate", "500K"}, 200 * time.Millisecond},
		{"as captured, backwards", -time.Hour, nil, 0},
		{"top speed", time.Hour, []string{"--topspeed"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o outlet
			file := fixture.File(t, c.apart, frames...)
			began := time.Now() // before the schedule begins, which the first packet may be late for
			code, said := o.send(append(c.args, file)...)
			require.Equal(t, exitOK, code, said)
			require.Len(t, o.at, len(frames))
			for i := range o.at {
				due := c.least * time.Duration(i) / 10
				require.GreaterOrEqual(t, o.at[i].Sub(began), due, "packet %d is not early", i)
			}
			assert.Less(t, o.at[10].Sub(o.at[0]), c.least+10*time.Second)
		})
	}
}

func TestSendCountsWhatDoesNotFit(t *testing.T) {
	var o outlet
	code, said := o.send("--topspeed", fixture.File(t, 0, scenario.Frame(60, 0),
		scenario.Frame(1515, 1), scenario.Frame(1514, 2), scenario.Frame(9000, 3), make([]byte, 13),
		scenario.Frame(70, 4)))
	require.Equal(t, exitFail, code)
	require.Len(t, o.sent, 3)
	assert.Contains(t, said, "em0: 3 packets sent, 1644 bytes, ")
	assert.Contains(t, said, "bpfctl: packets were left out: 2 too long for em0 (it takes 1514 "+
		"bytes, which is its MTU of 1500 and a link header of 14; the longest packet has 9000), "+
		"1 too short (a link header has 14 bytes)\n")
}

func TestSendErrors(t *testing.T) {
	file := fixture.File(t, 0, numbered(10)...)
	t.Run("a full queue is waited for", func(t *testing.T) {
		o := outlet{fail: func(n int) error {
			if n%2 == 0 {
				return syscall.ENOBUFS
			}
			return nil
		}}
		code, said := o.send("--topspeed", file)
		require.Equal(t, exitOK, code, said)
		require.Equal(t, numbered(10), o.sent, "each once, in order")
	})
	t.Run("another ends it", func(t *testing.T) {
		o := outlet{fail: func(n int) error {
			if n == 4 {
				return syscall.EPERM
			}
			return nil
		}}
		code, said := o.send("--topspeed", file)
		require.Equal(t, exitFail, code)
		require.Len(t, o.sent, 4)
		assert.Regexp(t, `(?m)^bpfctl: after 4 packets: .*em0: .*not permitted.*\n$`, said)
	})
}

func TestBitRate(t *testing.T) {
	for text, want := range map[string]float64{"1": 1, "500K": 5e5, "100M": 1e8, "1g": 1e9,
		"2.5m": 2.5e6, "1e6": 1e6} {
		var r bitRate
		require.NoError(t, r.Set(text))
		assert.Equal(t, want, float64(r))
	}
	for _, text := range []string{"", "K", "0", "-1", "NaN", "Inf", "1e16", "1T", "1KK"} {
		assert.Error(t, new(bitRate).Set(text), "%q", text)
	}
}
