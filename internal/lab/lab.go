package lab

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// Patience limits the time that a test waits for something that must happen. The emulated machine
// is slow. A test that passes never waits that long.
const Patience = 20 * time.Second

// World is one kernel, or a model of one.
type World interface {
	// Name is "kernel" or "model".
	Name() string

	zbuf.System

	// OpenMode opens a descriptor with other rights than reading and writing: O_RDONLY, O_WRONLY or
	// O_RDWR, with O_NONBLOCK or without.
	OpenMode(flags int) (Desc, error)

	// NewPair makes two Ethernet interfaces joined by a wire, both up.
	NewPair() (*Pair, error)

	// Destroy removes an interface, and the other end of its wire.
	Destroy(ifname string) error

	// Rename gives an interface another name.
	Rename(ifname, to string) error

	// SetUp marks an interface up or down.
	SetUp(ifname string, up bool) error

	// SetMTU sets the largest payload of a frame.
	SetMTU(ifname string, mtu int) error

	// Leave moves an interface into a new network stack. back moves it back.
	Leave(ifname string) (back func() error, err error)

	// NewTunnel makes a tun(4), up, whose other end is open. close removes it.
	NewTunnel() (ifname string, close func() error, err error)

	// Sysctl and SetSysctl read and set an integer sysctl. A model has those below net.bpf, and
	// kern.hz.
	Sysctl(name string) (int, error)
	SetSysctl(name string, v int) error

	// Tunable returns the value that the loader has for a name (kenv(1)), or "".
	Tunable(name string) (string, error)

	// Stats reads the sysctl net.bpf.stats into p. If p is nil, it returns the size.
	Stats(p []byte) (n int, err error)

	// Listeners returns the answer of Stats as structs.
	Listeners() ([]zbuf.XbpfD, error)

	// SetStats writes the sysctl net.bpf.stats.
	SetStats(p []byte) error
}

// Desc is a bare descriptor.
type Desc interface {
	zbuf.Backend

	// Poll is poll(2). Events are those of the FreeBSD kernel, Poll*.
	Poll(events int16, timeout time.Duration) (revents int16, err error)

	// Watch adds filters to a fresh kqueue with EV_ADD and EV_CLEAR.
	Watch(filters ...int16) (Queue, error)
}

// Queue is a kqueue that watches one descriptor.
type Queue interface {
	// Wait returns the edges since the last call, or waits for one. It returns none if the timeout has
	// passed. A signal may end it early.
	Wait(timeout time.Duration) ([]bpftest.Edge, error)
	Close() error
}

// Events of poll(2) on FreeBSD.
const (
	PollIn     = 0x0001
	PollPri    = 0x0002
	PollOut    = 0x0004
	PollErr    = 0x0008
	PollHup    = 0x0010
	PollRdNorm = 0x0040
	PollWrNorm = 0x0004
)

// Filters of kevent(2) on FreeBSD.
const (
	FilterRead  = -1
	FilterWrite = -2
)

// Pair is a wire between two interfaces. Tests capture on A. To make frames arrive at A, the Pair
// writes them to B.
type Pair struct {
	World World
	A, B  string

	write map[string]Desc // one descriptor on each end
	seen  map[string]Desc // counts the frames that pass each end
	count map[string]uint32
}

// NewPair makes a pair. It is removed at the end of the test.
func NewPair(t testing.TB, w World) *Pair {
	t.Helper()
	p, err := w.NewPair()
	require.NoError(t, err, "make a pair of interfaces")
	t.Cleanup(func() {
		p.Close()
		w.Destroy(p.A) // gone already in tests that destroy it
	})
	return p
}

// Watch opens the descriptors that the pair uses. They are the first on their interfaces. bpf
// serves the latest first. So every other descriptor has had the frames that these have counted.
func (p *Pair) Watch() error {
	p.write, p.seen, p.count = map[string]Desc{}, map[string]Desc{}, map[string]uint32{}
	nothing := []zbuf.Insn{{Op: 0x06}}
	for _, ifname := range []string{p.A, p.B} {
		for _, m := range []map[string]Desc{p.seen, p.write} {
			d, err := p.World.OpenMode(syscall.O_RDWR | syscall.O_NONBLOCK)
			if err != nil {
				return err
			}
			m[ifname] = d
			one := uint32(1)
			var req zbuf.Ifreq
			copy(req.Name[:], ifname)
			for _, c := range []struct {
				req zbuf.Request
				arg any
			}{
				{zbuf.BIOCSETF, &zbuf.Program{Len: 1, Insns: &nothing[0]}},
				{zbuf.BIOCSHDRCMPLT, &one},
				{zbuf.BIOCSETIF, &req},
				// With net.bpf.optimize_writers it would count nothing without a filter.
				{zbuf.BIOCSETFNR, &zbuf.Program{Len: 1, Insns: &nothing[0]}},
			} {
				if err := d.Ioctl(c.req, c.arg); err != nil {
					return fmt.Errorf("%v on %s: %w", c.req, ifname, err)
				}
			}
		}
	}
	return nil
}

// Close closes the descriptors that Watch opened.
func (p *Pair) Close() {
	for _, m := range []map[string]Desc{p.write, p.seen} {
		for _, d := range m {
			d.Close()
		}
	}
	p.write, p.seen = nil, nil
}

// Other returns the other end.
func (p *Pair) Other(ifname string) string {
	if ifname == p.A {
		return p.B
	}
	return p.A
}

// Inject makes frames arrive at A, and waits until they have.
func (p *Pair) Inject(t testing.TB, frames ...[]byte) {
	t.Helper()
	require.NoError(t, p.Deliver(p.A, frames...))
}

// Send makes A send frames. They have passed A when it returns.
func (p *Pair) Send(t testing.TB, frames ...[]byte) {
	t.Helper()
	require.NoError(t, p.Deliver(p.B, frames...))
}

// Deliver makes frames arrive at one end and waits until they have.
func (p *Pair) Deliver(to string, frames ...[]byte) error {
	for _, f := range frames {
		if n, err := p.write[p.Other(to)].Write(f); err != nil {
			return fmt.Errorf("write %d bytes on %s: %w", len(f), p.Other(to), err)
		} else if n != len(f) {
			return fmt.Errorf("write on %s took %d of %d bytes", p.Other(to), n, len(f))
		}
		p.count[p.A]++ // both ends see each frame, one as it leaves
		p.count[p.B]++
	}
	return p.SettleNow()
}

// window is the number of posted frames that may be on the way. A wire of FreeBSD 12.1 whose queue
// overflows (at 2,100) loses frames, shows others twice, and may never carry anything again.
const window = 1000

// Post makes a frame arrive, as [Pair.Deliver] does. It waits only if very many are on the way.
func (p *Pair) Post(to string, frame []byte) error {
	return p.PostBy(to, func() error {
		_, err := p.write[p.Other(to)].Write(frame)
		return err
	})
}

// PostBy does the same as [Pair.Post] for a frame that the test writes by other means.
func (p *Pair) PostBy(to string, write func() error) error {
	if p.count[to]%(window/10) == 0 {
		err := Until(func() (bool, error) {
			var st zbuf.Stat
			err := p.seen[to].Ioctl(zbuf.BIOCGSTATS, &st)
			return int32(p.count[to]-st.Recv) < window, err
		})
		if err != nil {
			return fmt.Errorf("%d packets were sent to %s, %d are still on the way: %w", p.count[to], to,
				window, err)
		}
	}
	err := write()
	if err == nil {
		p.count[p.A]++
		p.count[p.B]++
	}
	return err
}

// Settle waits until everything posted has arrived.
func (p *Pair) Settle(t testing.TB) {
	t.Helper()
	require.NoError(t, p.SettleNow())
}

// SettleNow does the same as [Pair.Settle], for goroutines other than the test's.
func (p *Pair) SettleNow() error {
	for _, ifname := range []string{p.A, p.B} {
		var st zbuf.Stat
		want := p.count[ifname]
		err := Until(func() (bool, error) {
			err := p.seen[ifname].Ioctl(zbuf.BIOCGSTATS, &st)
			return int32(st.Recv-want) >= 0, err
		})
		if err != nil {
			return fmt.Errorf("%d of %d packets seen on %s: %w", st.Recv, want, ifname, err)
		}
		if st.Recv != want {
			return fmt.Errorf("%s saw %d packets where %d were sent: there is other traffic", ifname,
				st.Recv, want)
		}
	}
	return nil
}

// Forgotten tells the pair that the counters of its descriptors were zeroed.
func (p *Pair) Forgotten() { clear(p.count) }

var errLate = fmt.Errorf("not within %v", Patience)

// Until looks until cond is true, or cond fails, or Patience has passed.
//
// It looks again at once for a millisecond, and then once a millisecond. It must not spin for long.
// A thread that spun on 12.1 kept the thread that it waited for off their one processor for a
// quarter of a second.
func Until(cond func() (bool, error)) error {
	const spin = time.Millisecond
	began := time.Now()
	for {
		ok, err := cond()
		if ok || err != nil {
			return err
		}
		switch waited := time.Since(began); {
		case waited > Patience:
			return errLate
		case waited < spin:
			yield()
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

// Frame returns an Ethernet frame of n bytes (at least 14 for one that a wire takes) to an address
// that no interface has, with an ethertype for experiments. Its payload tells it from other seeds.
func Frame(n int, seed uint32) []byte {
	f := make([]byte, n)
	head := []byte{0x02, 0, 0, 0, 0, 0xee, 0x02, 0, 0, 0, 0, 0xdd, 0x88, 0xb5}
	copy(f, head)
	x := seed*2654435761 + 12345
	for i := len(head); i < n; i++ {
		if i < len(head)+4 {
			f[i] = byte(seed >> (8 * (i - len(head))))
			continue
		}
		x = x*1664525 + 1013904223
		f[i] = byte(x >> 24)
	}
	return f
}

// Seed returns the seed of a frame of at least 18 bytes.
func Seed(frame []byte) uint32 {
	return uint32(frame[14]) | uint32(frame[15])<<8 | uint32(frame[16])<<16 | uint32(frame[17])<<24
}

// SetSysctl sets an integer sysctl until the test is over.
func SetSysctl(t testing.TB, w World, name string, v int) {
	t.Helper()
	was, err := w.Sysctl(name)
	require.NoError(t, err, name)
	require.NoError(t, w.SetSysctl(name, v), name)
	t.Cleanup(func() { require.NoError(t, w.SetSysctl(name, was), name) })
}
