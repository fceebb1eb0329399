package contestant

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf/bench/internal/load"
)

// Config is the same for all contestants.
type Config struct {
	Interface string
	Filter    []bpf.RawInstruction
	Memory    int           // bytes of all packet buffers together, the kernel's and the reader's
	Timeout   time.Duration // the longest time that packets may gather
	Immediate bool          // deliver each packet at once; Timeout is not used
}

// A Contestant reads packets from one interface.
type Contestant interface {
	// Run reads until Stop, and gives every packet to t. The caller may call it again after Start.
	Run(t *Tally) error
	// Stop ends Run within Config.Timeout or at the next packet. Start undoes Stop.
	Stop()
	Start()
	// Syscalls returns the number of system calls that Run has counted. ok is false if it counts
	// none.
	Syscalls() (n uint64, ok bool)
	Close() error
}

// opener makes a contestant.
type opener func(Config) (Contestant, error)

var openers = map[string]opener{}

// Names are the names of all contestants. Those of this module come first, and the limit last.
var Names = []string{"zbuf-lease", "zbuf-packet", "zbuf-packetreader", "zbuf-gopacket", "zbuf-copy",
	"zbuf-packetconn", "zbuf-buffered", "gopacket", "go-pcap", "read2", "bare"}

// Buffers are the numbers of pieces into which each contestant divides Config.Memory. Lending has
// the two buffers of the kernel. read(2) has two of the kernel and one of the reader. 0 means that
// the contestant has no setting for it.
func Buffers(name string) int {
	switch name {
	case "zbuf-lease", "zbuf-packet", "zbuf-packetreader", "zbuf-gopacket", "zbuf-copy", "bare":
		return 2
	case "zbuf-packetconn", "go-pcap":
		return 0
	}
	return 3
}

// Open starts capturing with the named contestant.
func Open(name string, cfg Config) (Contestant, error) {
	o := openers[name]
	if o == nil {
		return nil, fmt.Errorf("there is no contestant %q on this system; all are %v", name, Names)
	}
	c, err := o(cfg)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return c, nil
}

// stop ends Run.
type stop struct{ atomic.Bool }

func (s *stop) Stop()  { s.Store(true) }
func (s *stop) Start() { s.Store(false) }

// Tally counts the packets of a contestant.
type Tally struct {
	Packets uint64
	Bytes   uint64
	sum     uint64 // keeps the loads alive

	// Work is the number of turns of a loop for each packet. It stands for the work of an analyser.
	Work int
	// Delays, if it has capacity, gets the nanoseconds since each packet was sent. load.StampAt
	// says where the packet has that time.
	Delays []int64
	// Gate, if it is set, runs for each packet.
	Gate func()

	each func(t *Tally, data []byte)
	now  func() int64
}

// Ready makes the tally ready for packets, after the fields are set. now is the clock for Delays.
func (t *Tally) Ready(now func() int64) {
	t.each, t.now = (*Tally).quickly, now
	if t.Work > 0 || cap(t.Delays) > 0 || t.Gate != nil {
		t.each = (*Tally).slowly
	}
}

// Packet counts a packet and touches it: it loads a word of every cache line. c/contest.c does the
// same, at the same cost.
func (t *Tally) Packet(data []byte) { t.each(t, data) }

// quickly is Packet where that is all. It calls nothing, so it has no frame and does not check the
// stack. Both would cost more than the rest does for a small packet, and C has neither.
//
//go:noinline
func (t *Tally) quickly(data []byte) {
	t.Packets++
	t.Bytes += uint64(len(data))
	t.sum += touch(data)
}

// slowly is Packet with more to do.
//
//go:noinline
func (t *Tally) slowly(data []byte) {
	t.quickly(data)
	if len(t.Delays) < cap(t.Delays) && len(data) >= load.StampAt+8 {
		sent := int64(binary.LittleEndian.Uint64(data[load.StampAt:]))
		t.Delays = append(t.Delays, t.now()-sent)
	}
	if t.Work > 0 {
		t.sum += Spin(t.Work)
	}
	if t.Gate != nil {
		t.Gate()
	}
}

// Spin runs a loop n times. The compiler can't leave the loop out.
//
//go:noinline
func Spin(n int) uint64 {
	x := uint64(n) | 1
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// Quantiles returns the median, the 99th percentile and the maximum of d. d is sorted.
func Quantiles(d []int64) (p50, p99, most int64) {
	slices.Sort(d)
	if len(d) == 0 {
		return 0, 0, 0
	}
	return d[len(d)/2], d[len(d)*99/100], d[len(d)-1]
}

// Cost is what it took to touch packets, and what the packets were.
type Cost struct {
	Elapsed             time.Duration
	Packets, Bytes, Sum uint64
}

// TouchCost measures what it costs to count and touch a packet of size bytes.
func TouchCost(size int) Cost {
	const turns = 20000
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i)
	}
	var t Tally
	t.Ready(nil)
	begin := time.Now()
	for range turns / 8 { // the loop itself costs little of this
		t.Packet(data)
		t.Packet(data)
		t.Packet(data)
		t.Packet(data)
		t.Packet(data)
		t.Packet(data)
		t.Packet(data)
		t.Packet(data)
	}
	return Cost{time.Since(begin), t.Packets, t.Bytes, t.sum}
}
