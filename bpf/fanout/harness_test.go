package fanout_test

import (
	"encoding/binary"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// frame returns a UDP packet of a conversation, in one direction or the other, with a number in it.
func frame(flow uint16, back bool, number uint32) []byte {
	p := make([]byte, 64)
	binary.BigEndian.PutUint16(p[12:], 0x0800)
	ip := p[14:]
	ip[0], ip[9] = 0x45, 17
	ends := [2][]byte{{10, 0, byte(flow >> 8), 1}, {192, 0, 2, byte(flow)}}
	ports := [2]uint16{1024 + flow, 53}
	src, dst := 0, 1
	if back {
		src, dst = 1, 0
	}
	copy(ip[12:], ends[src])
	copy(ip[16:], ends[dst])
	binary.BigEndian.PutUint16(ip[20:], ports[src])
	binary.BigEndian.PutUint16(ip[22:], ports[dst])
	binary.BigEndian.PutUint32(ip[28:], number)
	return p
}

// parse is the inverse of frame.
func parse(p []byte) (flow uint16, number uint32) {
	ip := p[14:]
	port := max(binary.BigEndian.Uint16(ip[20:]), binary.BigEndian.Uint16(ip[22:]))
	return port - 1024, binary.BigEndian.Uint32(ip[28:])
}

func byFlow(_ uint32, p []byte) uint32 {
	flow, _ := parse(p)
	return uint32(flow)
}

// capture is a reader on an interface of the model.
type capture struct {
	k   *bpftest.Kernel
	em0 *bpftest.Interface
	r   *bpf.Reader
}

func newCapture(t testing.TB, cfg bpf.Config) *capture {
	t.Helper()
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	w := &capture{k: k, em0: k.AddInterface("em0", zbuf.DLT_EN10MB)}
	cfg.System = k
	r, err := bpf.Open("em0", cfg)
	require.NoError(t, err)
	w.r = r
	t.Cleanup(func() { r.Close() })
	return w
}

// released checks that no lease is out.
func (w *capture) released(t testing.TB) {
	t.Helper()
	w.r.SetReadDeadline(time.Now().Add(-time.Second))
	for {
		l, err := w.r.Lease(t.Context())
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
		require.NoError(t, l.Release())
	}
	w.r.SetReadDeadline(time.Time{})
}

// modes runs f in both buffer modes, each in a synctest bubble. There time passes only while all
// goroutines wait. The bubble ends when all goroutines have ended.
func modes(t *testing.T, f func(t *testing.T, cfg bpf.Config)) {
	for _, mode := range []bpf.Mode{bpf.ZeroCopy, bpf.Buffered} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, bpf.Config{Mode: mode}) })
		})
	}
}

// ledger checks that workers get each packet once, and a conversation at one worker, in order.
type ledger struct {
	worker map[uint16]int    // of each flow, by worker
	last   map[uint16]uint32 // number
	count  int
}

func newLedgers(n int) []ledger {
	ls := make([]ledger, n)
	for i := range ls {
		ls[i] = ledger{map[uint16]int{}, map[uint16]uint32{}, 0}
	}
	return ls
}

func (l *ledger) note(t *testing.T, p bpf.Packet) {
	flow, number := parse(p.Data())
	if last, known := l.last[flow]; known {
		assert.Greater(t, number, last, "flow %d out of order", flow)
	}
	l.last[flow] = number
	l.worker[flow]++
	l.count++
}

func check(t *testing.T, ledgers []ledger, flows, packets int) {
	t.Helper()
	at := map[uint16]int{}
	total, busy := 0, 0
	for i, l := range ledgers {
		total += l.count
		if l.count > 0 {
			busy++
		}
		for flow := range l.worker {
			other, twice := at[flow]
			assert.False(t, twice, "flow %d at workers %d and %d", flow, other, i)
			at[flow] = i
		}
	}
	assert.Len(t, at, flows)
	assert.Equal(t, packets, total)
	assert.Equal(t, len(ledgers), busy, "workers that had something")
}
