package conformance

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// flying is a descriptor on a model, with a packet that has passed its filter and is not stored.
func flying(t *testing.T, w lab.World) (s *sess, frame []byte, finish func()) {
	t.Helper()
	s = zerocopy(t, w, page)
	frame = lab.Frame(64, 1)
	k := w.(interface {
		Interface(name string) *bpftest.Interface
	})
	return s, frame, k.Interface(s.p.A).BeginInject(bpftest.Packet{Data: frame})
}

const noHold = "a packet can't be held between filter and buffer on a kernel"

// Rules of packets in flight: the filter has run, the descriptor's lock is not taken yet.
var _ = add(
	rule{name: "flight/BIOCSETF: what passed the old filter may be stored behind it",
		only: model, why: noHold, differs: []string{"FilterInFlight"},
		run: func(t *testing.T, w lab.World) {
			s, frame, finish := flying(t, w)
			s.do(zbuf.BIOCSETF, program(retK(0)))
			finish()
			require.Equal(t, by(featuresOf(w).FilterInFlight, [][]byte{frame}, nil), s.captured())
		}},
	rule{name: "flight/BIOCSETIF: what the old interface showed may be stored behind it",
		only: model, why: noHold, differs: []string{"FilterInFlight"},
		run: func(t *testing.T, w lab.World) {
			s, frame, finish := flying(t, w)
			s.attach("lo0")
			finish()
			which, n := s.rotate()
			if !featuresOf(w).FilterInFlight {
				require.Equal(t, -1, which)
				return
			}
			recs := parse(t, s.contents(which)[:n], hdr64)
			require.Len(t, recs, 1)
			require.Equal(t, frame, recs[0].data)
			require.Equal(t, 28, recs[0].hdrlen, "with the header of the new interface")
		}},
	rule{name: "flight/BIOCFLUSH and BIOCSDIRECTION wait in no release",
		only: model, why: noHold,
		run: func(t *testing.T, w lab.World) {
			s, frame, finish := flying(t, w)
			s.do(zbuf.BIOCFLUSH, nil)
			s.set(zbuf.BIOCSDIRECTION, zbuf.BPF_D_OUT)
			finish()
			require.Equal(t, [][]byte{frame}, s.captured())
		}},
	rule{name: "flight/writers on several processors while BIOCSETF changes the filter",
		differs: []string{"FilterInFlight"},
		run:     strays},
)

// magic marks the packets of strays; the next word is the packet's class.
const magic = 0x7a627566

// classOf passes packets of one class. The instructions in front take time: a filter runs before
// the descriptor is locked.
func classOf(class uint32) *zbuf.Program {
	prog := make([]zbuf.Insn, 0, 512)
	for len(prog) < 500 {
		prog = append(prog, zbuf.Insn{Op: 0x20, K: 4}) // ld [4]
	}
	return program(append(prog,
		zbuf.Insn{Op: 0x15, Jf: 3, K: magic},
		zbuf.Insn{Op: 0x20, K: 8},
		zbuf.Insn{Op: 0x15, Jf: 1, K: class},
		retK(0xffffffff), retK(0))...)
}

// strays has writers send packets of every class to loopback, which shows them to bpf in the
// writer's own thread, while the filter goes from class to class. A packet of another class than
// the filter's that is read after BIOCSETF has returned was in flight.
func strays(t *testing.T, w lab.World) {
	const classes = 3
	writers := max(runtime.NumCPU()-1, 1) // one processor is for the changes
	s := open(t, w)
	n := uint32(1 << 16)
	s.do(zbuf.BIOCSBLEN, &n)
	s.do(zbuf.BIOCSETF, classOf(1))
	s.attach("lo0")

	var stop atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer stop.Store(true)
	for range writers {
		out := open(t, w)
		out.attach("lo0")
		all.Go(func() {
			p := make([]byte, 40)
			binary.NativeEndian.PutUint32(p, 2) // AF_INET
			binary.BigEndian.PutUint32(p[4:], magic)
			for i := uint32(0); !stop.Load(); i++ {
				binary.BigEndian.PutUint32(p[8:], i%(classes+1))
				if _, err := out.Write(p); !assert.NoError(t, err) {
					return
				}
			}
		})
	}

	buf := make([]byte, n)
	changes, packets, stray := 0, 0, 0
	until := time.Now().Add(soak(by(w.Name() == kernel, 4*time.Second, 200*time.Millisecond)))
	for ; packets == 0 || time.Now().Before(until); changes++ {
		class := uint32(1 + changes%classes)
		s.do(zbuf.BIOCSETF, classOf(class))
		var got int
		require.NoError(t, lab.Until(func() (bool, error) {
			var err error
			got, err = s.Read(buf)
			if errors.Is(err, syscall.EAGAIN) {
				return false, nil
			}
			return true, err
		}))
		for _, r := range parse(t, buf[:got], hdr64) {
			require.EqualValues(t, magic, binary.BigEndian.Uint32(r.data[4:]))
			have := binary.BigEndian.Uint32(r.data[8:])
			require.NotZero(t, have, "no filter passes this class")
			packets++
			if have != class {
				stray++
			}
		}
	}
	t.Logf("%d changes of the filter, %d packets, %d that only an old filter passed", changes, packets,
		stray)
	if !featuresOf(w).FilterInFlight {
		require.Zero(t, stray, "BIOCSETF waits for what is in flight")
	}
}
