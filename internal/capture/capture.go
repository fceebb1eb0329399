// Package capture moves packets from a source, such as an interface, to a sink, such as a file.
//
// A [Pipeline] takes batches of packets out of a [Source], lets each [Stage] change them, and gives
// them to a [Sink]. It alone decides when a capture ends and with which error.
package capture

import (
	"context"
	"errors"
	"time"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// batchSize is the number of packets that a batch has at most.
const batchSize = 256

// Packet is one captured packet.
type Packet struct {
	Interface int   // the number of its interface
	Sec, Nsec int64 // the time stamp
	WireLen   int   // bytes on the wire
	Data      []byte
	Comments  []string // from a file
}

// PacketOf returns a packet that a reader has captured on an interface. It is valid as long as p.
func PacketOf(iface int, p bpf.Packet) Packet {
	sec, nsec := p.Timestamp()
	return Packet{Interface: iface, Sec: sec, Nsec: nsec, WireLen: p.WireLen(), Data: p.Data()}
}

// Batch has some packets in the order in which the sink shall have them.
type Batch struct {
	// New are interfaces that no batch has had before. Interfaces are numbered from 0, in the
	// order in which they come. They come before the packets.
	New []pcapio.Interface

	// Notes are sentences that the user shall read at once.
	Notes []string

	Packets []Packet // valid until the next batch; their capacity bounds a batch
}

// Reset empties a batch.
func (b *Batch) Reset() { b.New, b.Notes, b.Packets = nil, nil, b.Packets[:0] }

// Full reports whether a batch has no room for a packet.
func (b *Batch) Full() bool { return len(b.Packets) == cap(b.Packets) }

// NewBatch returns an empty batch with room for packets.
func NewBatch() *Batch { return &Batch{Packets: make([]Packet, 0, batchSize)} }

// Source gives packets. It captures them on an interface, or reads them from a file.
type Source interface {
	// Next waits for packets and puts them into an empty batch. It returns io.EOF when there
	// are no more. When ctx is done, it first returns the packets that have been captured
	// already, and then io.EOF.
	Next(ctx context.Context, b *Batch) error

	// Describe returns a text that names the source and the mode. If they are not known before the
	// first batch, Describe returns nothing, and a batch has a note with that text.
	Describe() string

	// Statistics returns the kernel's counters for each interface. Any goroutine may call it until
	// Close.
	Statistics() []pcapio.Statistics

	// Notes returns the faults of the source in spite of which its packets were captured. It ends the
	// source: nobody may call Next any more.
	Notes() []string

	Close() error
}

// Stage changes batches on their way.
type Stage interface {
	// Apply changes a batch in place. It returns ErrEnough with the last batch that it wants.
	Apply(b *Batch) error
}

// ErrEnough is the error of a [Stage] that wants no more packets.
var ErrEnough = errors.New("enough packets")

// Sink takes packets, and prints or stores them. One goroutine at a time uses it.
type Sink interface {
	AddInterface(pcapio.Interface) error

	// Write takes the packets of a batch. It may keep them back until Flush.
	Write(b *Batch) error

	Flush() error

	// Finish completes the output, with statistics for each interface, and closes it.
	Finish([]pcapio.Statistics) error

	// Written returns the number of whole packets that have arrived in the output, and the number of
	// their captured bytes.
	Written() (packets, bytes uint64)
}

// Breakable is a sink whose output can go away, such as a pipe.
type Breakable interface {
	Sink

	// Broken returns the error of writing if the output has gone. can is false if that can't happen.
	Broken() (can bool, err error)
}

// Rotator is a sink that has one output after another.
type Rotator interface {
	Sink

	// Rotate ends the current output and begins the next one.
	Rotate(now time.Time) error

	// Due does what is due at a time. It returns when to call it next, or the zero time for never.
	Due(now time.Time) (next time.Time, err error)
}
