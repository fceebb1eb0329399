package packet_test

import (
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/packet"
)

// rules are what a net.PacketConn promises. Deadlines, concurrency and Close follow what
// nettest.TestConn of x/net checks for a net.Conn.
var rules = []struct {
	name  string
	holds func(t *testing.T, w *wire, typ packet.Type)
}{
	{"a frame arrives whole and says who sent it", frameArrives},
	{"a question and its answer, many times", pingPong},
	{"a short buffer gets the beginning", shortBuffer},
	{"each frame goes to one of the readers", oneReader},
	{"own frames are not read", ownFramesAreNotRead},
	{"own frames are read if asked for", ownFramesIfAskedFor},
	{"only the protocol is read", onlyTheProtocol},
	{"a filter narrows the protocol from the first frame", filterFromTheFirst},
	{"SetBPF keeps the protocol", setBPFKeepsTheProtocol},
	{"a filter that is refused leaves the old one", refusedFilter},
	{"WriteTo takes addresses of other packages", addresses},
	{"a buffer may be changed after its read has timed out", racyRead},
	{"a buffer may be changed after its write has timed out", racyWrite},
	{"a read deadline does not end writes", readDeadlineAlone},
	{"a write deadline does not end reads", writeDeadlineAlone},
	{"a deadline in the past ends calls at once", pastDeadline},
	{"a new deadline ends calls under way", presentDeadline},
	{"a deadline in the future ends calls then", futureDeadline},
	{"Close ends calls under way", closeEndsCalls},
	{"after Close every call says so", afterClose},
	{"all methods at once", allAtOnce},
	{"Stats counts since the last call", statsSince},
	{"SetPromiscuous enters and leaves", promiscuous},
	{"a group joined twice must be left twice", groupTwice},
	{"Close leaves all groups", closeLeavesGroups},
	{"the Conns of a process count a group together", groupOfTwoConns},
	{"a group that another program has joined is left to it", groupOfAnother},
	{"a group whose program has gone can be joined again", groupThatWasDeleted},
	{"a group that can't be joined is an error", groupErrors},
}

func frameArrives(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	assert.Equal(t, &packet.Addr{HardwareAddr: w.ifi[0].HardwareAddr}, a.LocalAddr())
	for _, length := range []int{46, 47, 100, 1499, 1500} {
		require.NoError(t, a.send(numbered(length, length)))
		b.requireNext(t, numbered(length, length))
		require.NoError(t, b.send(numbered(length+1, length)))
		a.requireNext(t, numbered(length+1, length))
	}
	err := a.send(make([]byte, 1501))
	require.ErrorIs(t, err, syscall.EMSGSIZE)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	assert.Equal(t, []any{"write", "packet", a.LocalAddr()}, []any{op.Op, op.Net, op.Addr})
}

func pingPong(t *testing.T, w *wire, typ packet.Type) {
	rounds := w.many(200)
	a, b := w.ends(t, typ)
	var both sync.WaitGroup
	both.Go(func() {
		for n := range rounds {
			got, _, err := b.receive()
			if !assert.NoError(t, err) || !assert.Equal(t, numbered(n, 0), got) ||
				!assert.NoError(t, b.send(numbered(n+1000, 0))) {
				return
			}
		}
	})
	for n := range rounds {
		require.NoError(t, a.send(numbered(n, 0)))
		a.requireNext(t, numbered(n+1000, 0))
	}
	both.Wait()
}

func shortBuffer(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	payload := numbered(7, 300)
	whole := a.frame(experiment, payload)
	for _, room := range []int{0, 1, 12, 13, 14, 15, 299, len(whole)} {
		require.NoError(t, a.send(payload))
		buf := make([]byte, room)
		n, from, err := b.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, whole[:room], buf[:n])
		require.Equal(t, a.LocalAddr(), from)
	}
	require.NoError(t, a.send(numbered(8, 0)))
	b.requireNext(t, numbered(8, 0))
}

func oneReader(t *testing.T, w *wire, typ packet.Type) {
	const count = 300
	a, b := w.ends(t, typ)
	seen, s := make(chan int, count), newStream()
	var readers sync.WaitGroup
	defer readers.Wait()
	defer b.Close()
	for range 5 {
		readers.Go(func() {
			for {
				payload, _, err := b.receive()
				if err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
					return
				}
				assert.Equal(t, numbered(number(payload), 0), payload)
				seen <- number(payload)
				<-s.room
			}
		})
	}
	require.NoError(t, s.send(a, count))
	var got, want []int
	for n := range count {
		want, got = append(want, n), append(got, <-seen)
	}
	assert.ElementsMatch(t, want, got)
}

func ownFramesAreNotRead(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	other := w.listen(t, 0, typ, experiment, packet.Config{})
	require.NoError(t, a.send(numbered(1, 0)))
	require.NoError(t, other.send(numbered(2, 0)))
	b.requireNext(t, numbered(1, 0))
	b.requireNext(t, numbered(2, 0))
	require.NoError(t, b.send(numbered(3, 0)))
	a.requireNext(t, numbered(3, 0))
}

func ownFramesIfAskedFor(t *testing.T, w *wire, typ packet.Type) {
	a := w.listen(t, 0, typ, experiment, packet.Config{OwnFrames: true})
	b := w.listen(t, 1, typ, experiment, packet.Config{})
	require.NoError(t, a.send(numbered(1, 0)))
	got, from, err := a.receive()
	require.NoError(t, err)
	assert.Equal(t, numbered(1, 0), got)
	assert.Equal(t, a.LocalAddr(), from)
	require.NoError(t, b.send(numbered(2, 0)))
	a.requireNext(t, numbered(2, 0))
}

func onlyTheProtocol(t *testing.T, w *wire, typ packet.Type) {
	one := w.listen(t, 1, typ, experiment, packet.Config{})
	all := w.listen(t, 1, typ, packet.All, packet.Config{})
	none := w.listen(t, 1, typ, 0, packet.Config{})
	sender := w.listen(t, 0, packet.Raw, 0, packet.Config{})
	for n, protocol := range []uint16{0x88b6, experiment, 0x0806, 100} { // 100 is a length
		require.NoError(t, sender.sendAs(protocol, numbered(n, 0)))
		all.requireNext(t, numbered(n, 0))
	}
	one.requireNext(t, numbered(1, 0))
	require.NoError(t, sender.sendAs(experiment, numbered(9, 0)))
	all.requireNext(t, numbered(9, 0))
	one.requireNext(t, numbered(9, 0))
	require.NoError(t, none.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, _, err := none.receive()
	assertTimeout(t, err)
	if typ == packet.Datagram {
		for _, c := range []*end{all, none} {
			require.ErrorIs(t, c.send(numbered(1, 0)), syscall.EINVAL, "it has no EtherType")
		}
	}
}

// atLeast makes a program that passes frames with at least that number, and their first bytes.
func atLeast(t testing.TB, typ packet.Type, n uint32, bytes uint32) []xbpf.RawInstruction {
	off := uint32(14)
	if typ == packet.Datagram {
		off = 0
	}
	prog, err := xbpf.Assemble([]xbpf.Instruction{
		xbpf.LoadAbsolute{Off: off, Size: 4},
		xbpf.JumpIf{Cond: xbpf.JumpGreaterOrEqual, Val: n, SkipFalse: 1},
		xbpf.RetConstant{Val: off + bytes},
		xbpf.RetConstant{Val: 0},
	})
	require.NoError(t, err)
	return prog
}

func filterFromTheFirst(t *testing.T, w *wire, typ packet.Type) {
	a := w.listen(t, 0, packet.Raw, 0, packet.Config{})
	b := w.listen(t, 1, typ, experiment, packet.Config{Filter: atLeast(t, typ, 5, 20)})
	require.NoError(t, a.send(numbered(4, 0)))
	require.NoError(t, a.sendAs(0x88b6, numbered(6, 0)))
	require.NoError(t, a.send(numbered(5, 0)))
	b.requireNext(t, numbered(5, 0)[:20])
}

func setBPFKeepsTheProtocol(t *testing.T, w *wire, typ packet.Type) {
	a := w.listen(t, 0, packet.Raw, 0, packet.Config{})
	b := w.listen(t, 1, typ, experiment, packet.Config{})
	require.NoError(t, a.send(numbered(1, 0)))
	b.requireNext(t, numbered(1, 0))
	require.NoError(t, b.SetBPF(atLeast(t, typ, 5, 4)))
	require.NoError(t, a.send(numbered(4, 0)))
	require.NoError(t, a.sendAs(0x88b6, numbered(6, 0)))
	require.NoError(t, a.send(numbered(5, 0)))
	b.requireNext(t, numbered(5, 0)[:4])
	require.NoError(t, b.SetBPF(nil))
	require.NoError(t, a.sendAs(0x88b6, numbered(6, 0)))
	require.NoError(t, a.send(numbered(2, 0)))
	b.requireNext(t, numbered(2, 0))
}

func refusedFilter(t *testing.T, w *wire, typ packet.Type) {
	a := w.listen(t, 0, packet.Raw, 0, packet.Config{})
	b := w.listen(t, 1, typ, experiment, packet.Config{Filter: atLeast(t, typ, 5, 46)})
	require.Error(t, b.SetBPF([]xbpf.RawInstruction{{Op: 0x20}}), "it does not return")
	long := make([]xbpf.RawInstruction, 1<<16)
	for i := range long {
		long[i].Op = 0x06
	}
	require.ErrorIs(t, b.SetBPF(long), syscall.EINVAL)
	require.NoError(t, a.send(numbered(4, 0)))
	require.NoError(t, a.send(numbered(5, 0)))
	b.requireNext(t, numbered(5, 0))
}

// foreign is an address of another package.
type foreign string

func (foreign) Network() string  { return "packet" }
func (a foreign) String() string { return string(a) }

func addresses(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	peer := w.ifi[1].HardwareAddr
	payload := numbered(3, 0)
	for _, good := range []net.Addr{&packet.Addr{HardwareAddr: peer}, foreign(peer.String())} {
		n, err := a.WriteTo(a.frame(experiment, payload), good)
		require.NoError(t, err)
		assert.Equal(t, len(a.frame(experiment, payload)), n)
		b.requireNext(t, payload)
	}
	for _, bad := range []net.Addr{nil, (*packet.Addr)(nil), &packet.Addr{}, foreign(""),
		&packet.Addr{HardwareAddr: make([]byte, 5)}, &packet.Addr{HardwareAddr: make([]byte, 8)},
		foreign("00:00:5e:00:53:01:02:03"), &net.UDPAddr{IP: net.IPv4bcast, Port: 68}} {
		n, err := a.WriteTo(a.frame(experiment, payload), bad)
		var op *net.OpError
		require.ErrorAs(t, err, &op, "%v", bad)
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.Zero(t, n)
	}
	require.NoError(t, a.send(numbered(4, 0)))
	b.requireNext(t, numbered(4, 0))
}

func statsSince(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	want := func(n uint32) {
		t.Helper()
		s, err := b.Stats()
		require.NoError(t, err)
		assert.Equal(t, &packet.Stats{Packets: n}, s)
	}
	want(0)
	for _, n := range []int{3, 2} {
		for i := range n {
			require.NoError(t, a.send(numbered(i, 0)))
			b.requireNext(t, numbered(i, 0))
		}
		want(uint32(n))
	}
	want(0)
	const flood = 800 // more than both buffers hold
	for i := range flood {
		require.NoError(t, a.send(numbered(i, 1500)))
	}
	w.requireMatched(t, 1, 3+2+flood)
	var packets, drops, read uint32
	for packets < flood {
		require.NoError(t, b.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		if _, _, err := b.receive(); err == nil {
			read++
			continue
		}
		s, err := b.Stats()
		require.NoError(t, err)
		packets, drops = packets+s.Packets, drops+s.Drops
	}
	assert.EqualValues(t, flood, packets)
	assert.NotZero(t, drops)
	assert.Equal(t, read, packets-drops)
}

func promiscuous(t *testing.T, w *wire, typ packet.Type) {
	a, b := w.ends(t, typ)
	holders := func() (n int) {
		list, err := w.listeners()
		require.NoError(t, err)
		for _, l := range list {
			n += int(l.Promisc)
		}
		return n
	}
	was := holders()
	for range 2 {
		for range 2 {
			require.NoError(t, a.SetPromiscuous(true))
			assert.Equal(t, was+1, holders())
		}
		require.NoError(t, b.send(numbered(1, 0)))
		a.requireNext(t, numbered(1, 0))
		for range 2 {
			require.NoError(t, a.SetPromiscuous(false))
			assert.Equal(t, was, holders())
		}
	}
	require.NoError(t, a.SetPromiscuous(true))
	require.NoError(t, a.Close())
	assert.Equal(t, was, holders())
}
