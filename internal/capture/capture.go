// Package capture moves packets from where they are captured to where they are kept.
//
// A [Pipeline] takes batches of packets out of a [Source], lets each [Stage] change them, and
// gives them to a [Sink]. It alone knows when a capture ends and which error it ends with.
package capture

import (
	"context"
	"errors"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// batchSize is the most packets of a batch.
const batchSize = 256

// Batch is some packets of one interface, in the order in which they were captured.
type Batch struct {
	// New are interfaces that no batch has had before. Interfaces are numbered from 0, in the
	// order in which they come. They come before the packets.
	New []pcapio.Interface

	Interface int
	Packets   []bpf.Packet // valid until the next batch; their capacity bounds a batch
}

// Reset empties a batch.
func (b *Batch) Reset() { b.New, b.Packets = nil, b.Packets[:0] }

// NewBatch returns an empty batch with room for packets.
func NewBatch() *Batch { return &Batch{Packets: make([]bpf.Packet, 0, batchSize)} }

// Source is where packets come from: an interface, or a file.
type Source interface {
	// Next waits for packets and puts them into an empty batch. It returns io.EOF when there
	// are no more. When ctx is done, it first returns the packets that have been captured
	// already, and then io.EOF.
	Next(ctx context.Context, b *Batch) error

	// Describe says what is captured and how, as far as that is known.
	Describe() string

	// Statistics returns what the kernel counted, for each interface. Any goroutine may call
	// it until Close.
	Statistics() []pcapio.Statistics

	// Notes says what was odd and could be captured nevertheless. It ends the source: Next
	// is not called any more.
	Notes() []string

	Close() error
}

// Stage changes batches on their way.
type Stage interface {
	// Apply changes a batch in place. It returns ErrEnough with the last batch that it wants.
	Apply(b *Batch) error
}

// ErrEnough is returned by a Stage that has seen all packets that it wants.
var ErrEnough = errors.New("enough packets")

// Sink is where packets go. One goroutine at a time uses it.
type Sink interface {
	AddInterface(pcapio.Interface) error

	// Write takes the packets of a batch. It may keep them back until Flush.
	Write(b *Batch) error

	Flush() error

	// Finish completes what was written, with statistics for each interface, and closes it.
	Finish([]pcapio.Statistics) error

	// Written returns how many packets have arrived where the sink writes to, whole, and how
	// many bytes of them were captured.
	Written() (packets, bytes uint64)
}
