package capture_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/capture/stage"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// timed is a source whose packets, which are empty, come at given times after its start.
type timed struct {
	start time.Time
	at    []time.Duration
	next  int
	err   error // comes after the last packet, instead of the end
}

func (s *timed) Describe() string                { return "timed" }
func (s *timed) Statistics() []pcapio.Statistics { return make([]pcapio.Statistics, 1) }
func (s *timed) Notes() []string                 { return nil }
func (s *timed) Close() error                    { return nil }

func (s *timed) Next(ctx context.Context, b *capture.Batch) error {
	if s.start.IsZero() {
		s.start = time.Now()
		b.New = make([]pcapio.Interface, 1)
		return nil
	}
	if s.next == len(s.at) {
		if s.err != nil {
			return s.err
		}
		<-ctx.Done()
		return io.EOF
	}
	select {
	case <-time.After(time.Until(s.start.Add(s.at[s.next]))):
	case <-ctx.Done():
		return io.EOF
	}
	s.next++
	b.Packets = append(b.Packets, capture.Packet{})
	return nil
}

// kept is a sink that knows when a packet reached it, and when it was written out.
type kept struct {
	start     time.Time
	came, out []time.Duration
	flushes   int
	fail      func(flush int) error
	ifaces    int
	finished  bool
	stats     []pcapio.Statistics
}

func (k *kept) AddInterface(pcapio.Interface) error { k.ifaces++; return nil }

func (k *kept) Write(b *capture.Batch) error {
	for range b.Packets {
		k.came = append(k.came, time.Since(k.start))
	}
	return nil
}

func (k *kept) Flush() error {
	k.flushes++
	if k.fail != nil {
		if err := k.fail(k.flushes); err != nil {
			return err
		}
	}
	for len(k.out) < len(k.came) {
		k.out = append(k.out, time.Since(k.start))
	}
	return nil
}

func (k *kept) Finish(stats []pcapio.Statistics) error {
	k.finished, k.stats = true, stats
	return k.Flush()
}

func (k *kept) Written() (packets, bytes uint64) { return uint64(len(k.out)), 0 }

// A packet is written out within half a second, but many packets share a write, and nothing is
// written when there is nothing new.
func TestPacketsAreWrittenOutSoonAndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		for i := range 1000 { // one each 2 ms, then one alone after a long silence
			at = append(at, time.Duration(i)*2*time.Millisecond)
		}
		at = append(at, time.Hour)
		k := &kept{start: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		p := &capture.Pipeline{Source: &timed{at: at}, Sink: k}
		_, err := p.Run(ctx)
		require.NoError(t, err)
		require.Len(t, k.out, len(at))
		for i := range k.out {
			require.LessOrEqual(t, k.out[i]-k.came[i], 400*time.Millisecond, "packet %d", i)
		}
		assert.Less(t, k.flushes, 15, "for 2 s of packets, one more and the end")
	})
}

// At every kind of end the pipeline completes the sink, which has every packet that came before.
func TestEveryEndCompletesTheSink(t *testing.T) {
	at := []time.Duration{0, 1, 2, 3, 4}
	boom := errors.New("boom")
	for _, c := range []struct {
		name    string
		stages  []capture.Stage
		srcErr  error
		fail    func(flush int) error
		packets int
		err     error
	}{
		{"context", nil, nil, nil, 5, nil},
		{"enough", []capture.Stage{stage.Limit(3)}, nil, nil, 3, nil},
		{"exactly enough", []capture.Stage{stage.Limit(5)}, nil, nil, 5, nil},
		{"two limits", []capture.Stage{stage.Limit(4), stage.Limit(2)}, nil, nil, 2, nil},
		{"error of the source", nil, boom, nil, 5, boom},
		{"end of the source", nil, io.EOF, nil, 5, nil},
		{"error of the timer's flush", nil, nil, func(n int) error { return boom }, 0, boom},
		{"error of the last flush", []capture.Stage{stage.Limit(5)}, nil, func(n int) error {
			return boom
		}, 0, boom},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kept{start: time.Now(), fail: c.fail}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				p := &capture.Pipeline{Source: &timed{at: at, err: c.srcErr}, Stages: c.stages, Sink: k}
				stats, err := p.Run(ctx)
				assert.Equal(t, c.err, err)
				assert.True(t, k.finished)
				assert.Equal(t, 1, k.ifaces)
				assert.Equal(t, stats, k.stats)
				packets, _ := k.Written()
				assert.EqualValues(t, c.packets, packets)
				assert.Less(t, time.Since(k.start), 2*time.Minute)
			})
		})
	}
}

// A disk that is full ends a capture even if no packet comes any more.
func TestFailedFlushEndsASilentCapture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		k := &kept{start: time.Now(), fail: func(int) error { return boom }}
		p := &capture.Pipeline{Source: &timed{at: []time.Duration{0}}, Sink: k}
		_, err := p.Run(context.Background())
		assert.Equal(t, boom, err)
		assert.Less(t, time.Since(k.start), time.Second)
	})
}

func TestProgressCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{start: time.Now()}
		p := &capture.Pipeline{Source: &timed{at: []time.Duration{0, time.Second, time.Minute}}, Sink: k}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := p.Run(ctx)
		require.NoError(t, err)
		packets, bytes := p.Progress()
		assert.EqualValues(t, 2, packets)
		assert.Zero(t, bytes)
	})
}
