package bpf_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// Sealed frames: whose, a number, when it was sent, and a checksum over all of it.
const (
	sealWriter = 11 // the last byte of the source address
	sealNumber = 14 // behind the Ethernet header
	sealStamp  = 18
	sealSum    = 4 // from the end
	sealMin    = 64
)

// A sealer makes sealed frames.
type sealer struct {
	writer uint8
	to     [6]byte
	sent   uint32 // the number of the next frame
	rng    *rand.Rand
	random [64 << 10]byte
	frame  [2048]byte
}

func newSealer(rng *rand.Rand, writer int) *sealer {
	s := &sealer{rng: rng, writer: uint8(writer), to: [6]byte{0x02}}
	for i := range s.random {
		s.random[i] = byte(rng.Uint32())
	}
	return s
}

// seal returns the next frame, which is valid until the call after.
func (s *sealer) seal(now time.Duration, length int) []byte {
	f := s.frame[:length]
	copy(f, s.random[s.rng.IntN(len(s.random)-length):])
	copy(f, s.to[:])
	f[6], f[sealWriter], f[12], f[13] = 0x02, s.writer, 0x88, 0xb5
	binary.BigEndian.PutUint32(f[sealNumber:], s.sent)
	binary.BigEndian.PutUint64(f[sealStamp:], uint64(now))
	binary.BigEndian.PutUint32(f[length-sealSum:], sumOf(f))
	return f
}

// sumOf uses the polynomial that machines have an instruction for: the race detector makes anything
// else slow.
func sumOf(f []byte) uint32 { return crc32.Checksum(f[:len(f)-sealSum], castagnoli) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A ledger has the frames that one reader has got.
type ledger struct {
	writers  [2]numbers
	numbered uint64
	other    []byte     // a frame that may come besides, any number of times
	slow     []lab.Span // deliveries that took longer than the read timeout
	worst    time.Duration
	copied   [2048]byte
	// quiet, if there is one, is since when the sender pauses, or 0. Then only a delivery in a pause
	// can be late: before, it may wait for the processor that the sender has.
	quiet *atomic.Int64

	delivered atomic.Uint64 // whole leases, for others to see
}

// numbers has the frames that came of one writer.
type numbers struct {
	next    uint32 // the number that comes next if nothing was dropped
	missing uint64 // numbers passed over
}

// enter checks that a frame is whole and later than those before, and returns when it was sent.
func (l *ledger) enter(f []byte, now time.Duration) (sent time.Duration, err error) {
	// The race detector sees a copy. It does not see the loads of a checksum in assembly.
	f = l.copied[:copy(l.copied[:], f)]
	switch {
	case l.other != nil && len(f) > 0 && f[0] == l.other[0]:
		if !bytes.Equal(f, l.other) {
			return 0, fmt.Errorf("torn: %x where %x was sent", f, l.other)
		}
		return 0, nil // nobody knows when; a call in a pause finds it there
	case len(f) < sealMin || int(f[sealWriter]) >= len(l.writers):
		return 0, fmt.Errorf("%x is no frame of ours, %d numbered ones after the first", f, l.numbered)
	}
	w := &l.writers[f[sealWriter]]
	n := binary.BigEndian.Uint32(f[sealNumber:])
	if sum := binary.BigEndian.Uint32(f[len(f)-sealSum:]); sum != sumOf(f) {
		return 0, fmt.Errorf("torn: %d bytes, number %d where %d or later must come, checksum "+
			"%#x, not %#x", len(f), n, w.next, sumOf(f), sum)
	}
	if n < w.next {
		return 0, fmt.Errorf("number %d where %d or later must come", n, w.next)
	}
	w.missing += uint64(n - w.next)
	w.next = n + 1
	l.numbered++
	return time.Duration(binary.BigEndian.Uint64(f[sealStamp:])), nil
}

// read takes leases until the reader's deadline. pause is called while a lease is out, and without
// one.
func (l *ledger) read(
	ctx context.Context, r *bpf.Reader, lag *lab.Lag, timeout time.Duration, pause func(leased bool),
) error {
	for {
		called := lag.Now()
		lease, err := r.Lease(ctx)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		now := lag.Now()
		oldest, count := now, uint64(0)
		for p := range lease.Packets() {
			sent, err := l.enter(p.Data(), now)
			if err != nil {
				return errors.Join(err, lease.Release())
			}
			oldest = min(oldest, sent)
			count++
		}
		if err := lease.Err(); err != nil {
			return err
		}
		oldest = max(oldest, called) // the reader itself was busy till then
		if l.quiet != nil {
			since := time.Duration(l.quiet.Load())
			if oldest = max(oldest, since); since == 0 {
				oldest = now
			}
		}
		l.worst = max(l.worst, now-oldest)
		if now-oldest > timeout {
			l.slow = append(l.slow, lab.Span{From: oldest, To: now})
		}
		l.delivered.Add(count)
		pause(true)
		if err := lease.Release(); err != nil {
			return err
		}
		pause(false)
	}
}

// paces are the ways in which readers pause.
var paces = []struct {
	name  string
	pause func(rng *rand.Rand) func(leased bool)
}{
	{"fast", func(*rand.Rand) func(bool) { return func(bool) {} }},
	{"slow", func(rng *rand.Rand) func(bool) {
		return func(leased bool) {
			if leased {
				time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond) // a pause of any length
			}
		}
	}},
	{"stop-and-go", func(rng *rand.Rand) func(bool) {
		stop := time.Now()
		leased := false
		return func(out bool) {
			if out != leased || time.Now().Before(stop) {
				return
			}
			time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond) // a pause of any length
			stop = time.Now().Add(time.Duration(rng.IntN(20)) * time.Millisecond)
			leased = rng.IntN(2) == 0
		}
	}},
}

// Numbered and checksummed packets, to three readers at once, in real time, so that the kernel's
// side and the readers' are concurrent for the race detector. Each reader: delivered + dropped =
// received, in order, none twice, none torn, no tail late. ZBUF_PACKETS is how many packets in all.
// TestNumberedPacketsWithPauses holds the read timeout to the tick, where time is exact.
func TestAccounting(t *testing.T) {
	packets, bursts := 160_000, 16
	if testing.Short() {
		packets, bursts = 40_000, 8
	}
	packets = lab.Setting(t, "ZBUF_PACKETS", packets)
	sizes := map[bpf.Mode][]int{
		bpf.ZeroCopy: {4096, 16 << 10, 256 << 10, 2 << 20},
		bpf.Buffered: {4096, 16 << 10, 256 << 10, 512 << 10},
	}
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		for _, size := range sizes[mode] {
			t.Run(fmt.Sprintf("%v/%dK", mode, size>>10), func(t *testing.T) {
				account(t, mode, size, packets/8, min(20_000, packets/8/bursts))
			})
		}
	}
}

func account(t *testing.T, mode bpf.Mode, size, packets, between int) {
	const timeout = 20 * time.Millisecond
	// A tail that sticks comes when the reader looks by itself, every 700 ms: this tells it from one
	// that a busy machine delays.
	const late = timeout + 400*time.Millisecond
	seed := lab.RandomSeed(t)
	k := bpftest.New(zerocopyOn(true))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)
	lag := lab.WatchLag(t)
	readers := make([]*bpf.Reader, len(paces))
	for i := range readers {
		r, err := bpf.Open("em0", bpf.Config{System: k, Mode: mode, BufferSize: size,
			ReadTimeout: timeout})
		require.NoError(t, err)
		defer r.Close()
		readers[i] = r
	}

	var all sync.WaitGroup
	ledgers, errs := make([]ledger, len(readers)), make([]error, len(readers))
	failed := make(chan struct{}, len(readers)+1)
	var quiet atomic.Int64
	for i, r := range readers {
		ledgers[i].quiet = &quiet
		pause := paces[i].pause(rand.New(rand.NewPCG(seed, uint64(i+1))))
		all.Go(func() {
			if errs[i] = ledgers[i].read(t.Context(), r, lag, timeout, pause); errs[i] != nil {
				failed <- struct{}{}
			}
		})
	}
	// through waits until the readers have everything, without a call on their descriptors, which
	// would wake them.
	through := func(sent uint32) error {
		return lab.Until(func() (bool, error) {
			list := k.Stats()
			for i := range ledgers {
				// the newest comes first
				if x := list[len(list)-1-i]; ledgers[i].delivered.Load()+x.Dcount < uint64(sent) {
					return len(failed) > 0, nil
				}
			}
			return true, nil
		})
	}
	f := flood{sealer: newSealer(rand.New(rand.NewPCG(seed, 0)), 0), lag: lag, packets: packets,
		between: between}
	began := time.Now()
	for f.burst(em0) && len(failed) == 0 {
		quiet.Store(int64(lag.Now()))
		switch f.rng.IntN(4) {
		case 0:
			time.Sleep(time.Duration(f.rng.IntN(60)) * time.Millisecond) // a pause of any length
		case 1:
			readers[f.rng.IntN(len(readers))].Stats() // stops the kernel's read timeout
		default:
			if err := through(f.sent); !assert.NoError(t, err, "a tail is stuck") {
				failed <- struct{}{}
			}
		}
		quiet.Store(0)
	}
	took := time.Since(began)
	for _, r := range readers {
		r.SetReadDeadline(time.Now()) // what is there still comes
	}
	all.Wait()
	lost := uint64(0)
	for i, r := range readers {
		l := &ledgers[i]
		require.NoError(t, errs[i], "the %s reader", paces[i].name)
		s, err := r.Stats()
		require.NoError(t, err)
		beyond := lag.Late(l.slow, late)
		t.Logf("%s: %d received = %d delivered + %d dropped; worst delay %v, of the machine %v; %+v",
			paces[i].name, s.Received, l.delivered.Load(), s.Dropped, l.worst, lag.Worst(), s)
		assert.EqualValues(t, f.sent, s.Received)
		assert.EqualValues(t, s.Received, l.delivered.Load()+s.Dropped, "delivered + dropped")
		assert.EqualValues(t, s.Dropped, l.writers[0].missing+uint64(f.sent-l.writers[0].next),
			"missing in the numbering")
		assert.NotZero(t, l.delivered.Load())
		assert.Empty(t, beyond, "late deliveries")
		lost += s.Received - l.delivered.Load() - s.Dropped + uint64(len(beyond))
	}
	t.Logf("%d packets to %d readers in %v, %v each", f.sent, len(readers), took,
		took/time.Duration(f.sent))
	lab.Report(t, lab.Packets, uint64(f.sent))
	lab.Report(t, lab.Lost, lost)
}

// A flood injects sealed frames in bursts.
type flood struct {
	*sealer
	lag              *lab.Lag
	packets, between int // in all, and between pauses, about
}

// burst injects frames until it is time for a pause. It returns false when there were enough.
func (f *flood) burst(em0 *bpftest.Interface) bool {
	end := min(int(f.sent)+1+f.rng.IntN(2*f.between), f.packets)
	for int(f.sent) < end {
		n := 1 + f.rng.IntN(12)
		if f.rng.IntN(3) == 0 {
			n = 1 + f.rng.IntN(4000)
		}
		now := f.lag.Now()
		for i := range min(n, end-int(f.sent)) {
			length := sealMin + f.rng.IntN(16)
			if i%32 == 0 {
				now = f.lag.Now()
				length = sealMin + f.rng.IntN(1400)
			}
			em0.Receive(f.seal(now, length))
			f.sent++
		}
		runtime.Gosched()
	}
	return end < f.packets
}
