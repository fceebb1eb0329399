package packet_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/internal/lab"
	"github.com/zbuf-go/zbuf/packet"
)

// experiment is an EtherType for experiments.
const experiment = 0x88b5

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// A wire joins two Ethernet interfaces of a kernel or of a model.
type wire struct {
	sys       zbuf.System
	ifi       [2]*net.Interface
	listeners func() ([]zbuf.XbpfD, error)
	groups    func(at int) ([]net.HardwareAddr, error)
	mode      bpf.Mode
	brief     bool // a kernel, in short form
}

// many is how often a rule does something that it repeats n times on the model. An emulated machine
// takes 20 ms for a question and its answer, and as much for a descriptor.
func (w *wire) many(n int) int {
	if w.brief {
		return n / 4
	}
	return n
}

// An end is a Conn on one end of a wire. It sends to the other one.
type end struct {
	*packet.Conn
	typ   packet.Type
	local net.HardwareAddr
	peer  net.HardwareAddr
}

func modelWire(mode bpf.Mode, opts ...bpftest.Option) *wire {
	return modelWireOf(bpftest.New(append([]bpftest.Option{zerocopyOn}, opts...)...), mode)
}

func modelWireOf(k *bpftest.Kernel, mode bpf.Mode) *wire {
	w := &wire{sys: k, mode: mode,
		listeners: func() ([]zbuf.XbpfD, error) { return k.Stats(), nil }}
	var pair [2]*bpftest.Interface
	for i, name := range []string{"em0", "em1"} {
		addr := [6]byte{2, 0, 0, 0, 0, byte(10 + i)}
		pair[i] = k.AddInterface(name, zbuf.DLT_EN10MB, bpftest.HardwareAddr(addr))
		w.ifi[i] = &net.Interface{Name: name, HardwareAddr: addr[:]}
	}
	bpftest.Pair(pair[0], pair[1])
	w.groups = func(at int) (list []net.HardwareAddr, err error) {
		for _, addr := range pair[at].Multicast() {
			list = append(list, addr[:])
		}
		return list, nil
	}
	return w
}

var zerocopyOn = bpftest.WithSysctl("net.bpf.zerocopy_enable", 1)

// listen opens a Conn on an end.
func (w *wire) listen(
	t testing.TB, at int, typ packet.Type, protocol int, cfg packet.Config,
) *end {
	t.Helper()
	cfg.Mode, cfg.System = w.mode, w.sys
	c, err := packet.Listen(w.ifi[at], typ, protocol, &cfg)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &end{c, typ, w.ifi[at].HardwareAddr, w.ifi[1-at].HardwareAddr}
}

// requireMatched waits until n frames have passed the filter of one descriptor on an end. A frame
// that the other end has sent may still be on the way, and a reader may take others meanwhile.
func (w *wire) requireMatched(t testing.TB, at int, n uint64) {
	t.Helper()
	require.NoError(t, lab.Until(func() (bool, error) {
		list, err := w.listeners()
		return slices.ContainsFunc(list, func(x zbuf.XbpfD) bool {
			return string(bytes.TrimRight(x.Ifname[:], "\x00")) == w.ifi[at].Name && x.Fcount == n
		}), err
	}), "%d frames do not arrive", n)
}

// ends opens a Conn on each end.
func (w *wire) ends(t testing.TB, typ packet.Type) (a, b *end) {
	t.Helper()
	return w.listen(t, 0, typ, experiment, packet.Config{}),
		w.listen(t, 1, typ, experiment, packet.Config{})
}

// frame returns the bytes that an end writes to send a payload.
func (e *end) frame(protocol uint16, payload []byte) []byte {
	if e.typ == packet.Datagram {
		return payload
	}
	f := append(append([]byte{}, e.peer...), e.local...)
	return append(binary.BigEndian.AppendUint16(f, protocol), payload...)
}

// sendAs sends a frame of a protocol, of which a Datagram knows only its own.
func (e *end) sendAs(protocol uint16, payload []byte) error {
	f := e.frame(protocol, payload)
	n, err := e.WriteTo(f, &packet.Addr{HardwareAddr: e.peer})
	if err == nil && n != len(f) {
		return io.ErrShortWrite
	}
	return err
}

func (e *end) send(payload []byte) error { return e.sendAs(experiment, payload) }

// receive reads a frame, and returns its payload.
func (e *end) receive() ([]byte, net.Addr, error) {
	buf := make([]byte, 2048)
	n, from, err := e.ReadFrom(buf)
	if err != nil {
		return nil, from, err
	}
	if e.typ == packet.Raw {
		return buf[14:n], from, nil
	}
	return buf[:n], from, nil
}

// requireNext fails unless the next frame has that payload.
func (e *end) requireNext(t testing.TB, payload []byte) {
	t.Helper()
	got, from, err := e.receive()
	require.NoError(t, err)
	require.Equal(t, payload, got)
	require.Equal(t, &packet.Addr{HardwareAddr: e.peer}, from)
}

// numbered is a payload that carries n.
func numbered(n, length int) []byte {
	p := make([]byte, max(length, 46))
	binary.BigEndian.PutUint32(p, uint32(n))
	for i := 4; i < len(p); i++ {
		p[i] = byte(n) + byte(i)
	}
	return p
}

func number(payload []byte) int { return int(binary.BigEndian.Uint32(payload)) }

// A stream sends numbered frames from one end to the other, each when there is room for it on the
// wire. A wire of FreeBSD 12.1 with very many frames on it never recovers.
type stream struct{ room chan struct{} }

func newStream() *stream { return &stream{room: make(chan struct{}, 200)} }

// send sends until an error, which it returns. It makes n-1 the last number if n is not negative.
func (s *stream) send(e *end, n int) error {
	for i := 0; i != n; i++ {
		s.room <- struct{}{}
		if err := e.send(numbered(i, 0)); err != nil {
			<-s.room
			return err
		}
	}
	return nil
}

// drain reads until an error, which it returns.
func (s *stream) drain(e *end) error {
	buf := make([]byte, 2048)
	for {
		if _, _, err := e.ReadFrom(buf); err != nil {
			return err
		}
		<-s.room
	}
}

// echo sends back everything that the end gets, until it is closed.
func echo(e *end) {
	for {
		payload, _, err := e.receive()
		if err != nil {
			return
		}
		if e.send(payload) != nil {
			return
		}
	}
}

// requireRoundTrip sends a payload to an end that echoes, and reads until it comes back.
func requireRoundTrip(t testing.TB, e *end, n int) {
	t.Helper()
	require.NoError(t, e.SetDeadline(time.Time{}))
	require.NoError(t, e.send(numbered(n, 0)))
	for {
		got, _, err := e.receive()
		require.NoError(t, err)
		if number(got) == n {
			require.Equal(t, numbered(n, 0), got)
			return
		}
	}
}

func assertTimeout(t testing.TB, err error) {
	t.Helper()
	ne, ok := err.(net.Error)
	if assert.True(t, ok, "%T: %v", err, err) {
		assert.True(t, ne.Timeout(), "%v", err)
	}
}

// conforms has a subtest for each rule. A rule that takes too long ends the program, which shows
// who waits.
func conforms(t *testing.T, newWire func(t *testing.T) *wire) {
	for _, typ := range []packet.Type{packet.Raw, packet.Datagram} {
		for _, r := range rules {
			t.Run(map[packet.Type]string{packet.Raw: "Raw", packet.Datagram: "Datagram"}[typ]+"/"+r.name,
				func(t *testing.T) {
					w := newWire(t)
					watch := time.AfterFunc(3*lab.Patience, func() { panic("no end of: " + r.name) })
					defer watch.Stop()
					r.holds(t, w, typ)
				})
		}
	}
}
