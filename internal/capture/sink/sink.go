// Package sink writes captures to files, pipes and terminals. Each format has one file here, which
// registers it.
package sink

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/interruptible"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// format encodes packets. After each of its methods the bytes in the buffer end with a whole unit.
// A reader can read everything up to there. A format can have a method flush. It is called before
// the bytes are written out.
type format interface {
	addInterface(pcapio.Interface) error // numbered from 0
	packet(p capture.Packet) error
	finish([]pcapio.Statistics) error
}

var formats = map[string]func(w *bufio.Writer, s Spec) format{}

// register adds a format. Each file of a format declares its name and calls it for a variable.
func register(name string, open func(w *bufio.Writer, s Spec) format) string {
	formats[name] = open
	return name
}

// Sink writes packets to one file.
type Sink struct {
	out    *output
	format format
}

var _ capture.Breakable = (*Sink)(nil)

// New returns a sink that writes to standard output, or to a writer in its place.
func New(s Spec, stdout io.Writer) *Sink {
	return newSink(s, newOutput(targetOf(stdout, false), "standard output", s.Compression))
}

// Open returns a sink that writes to a file. It creates the file, or empties it. To open a FIFO, it
// waits until a program reads from it.
//
// Errors:
//   - context.Cause(ctx): ctx was done first.
//   - Those of open(2).
func Open(ctx context.Context, s Spec, name string) (*Sink, error) {
	f, err := interruptible.Open(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, fmt.Errorf("can't write: %w", err)
	}
	return To(s, f, name), nil
}

// To returns a sink that writes to an open file, from its offset on. Finish closes the file.
// Messages use the name.
func To(s Spec, f *os.File, name string) *Sink {
	return newSink(s, newOutput(targetOf(f, true), name, s.Compression))
}

func newSink(s Spec, o *output) *Sink { return &Sink{out: o, format: formats[s.Format](o.buf, s)} }

// AddInterface adds an interface. Packets name it by its number, which counts from 0.
func (s *Sink) AddInterface(i pcapio.Interface) error {
	err := s.format.addInterface(i)
	if err == nil {
		err = s.out.unit(0, 0)
	}
	return s.out.explain(err)
}

// Write takes the packets of a batch.
func (s *Sink) Write(b *capture.Batch) error {
	for _, p := range b.Packets {
		if err := s.WritePacket(p); err != nil {
			return err
		}
	}
	return nil
}

// WritePacket takes one packet.
func (s *Sink) WritePacket(p capture.Packet) error {
	err := s.format.packet(p)
	if err == nil {
		err = s.out.unit(1, len(p.Data))
	}
	return s.out.explain(err)
}

// Flush writes out everything that the sink keeps back. A program that reads the file then finds
// whole packets only, also if the file is compressed.
func (s *Sink) Flush() error {
	if f, ok := s.format.(interface{ flush() error }); ok {
		if err := f.flush(); err != nil {
			return s.out.explain(err)
		}
		if err := s.out.unit(0, 0); err != nil {
			return s.out.explain(err)
		}
	}
	return s.out.explain(s.out.flush())
}

// Broken returns an error if the output is a pipe, a FIFO or a socket that nobody reads any more.
// can is false if the output is something else.
func (s *Sink) Broken() (can bool, err error) {
	can, err = s.out.to.broken()
	return can, s.out.explain(err)
}

// Finish completes the file and closes it.
func (s *Sink) Finish(stats []pcapio.Statistics) error {
	err := s.format.finish(stats)
	if err == nil {
		err = s.out.unit(0, 0)
	}
	if err == nil {
		err = s.out.flush()
	}
	if cerr := s.out.close(); err == nil {
		err = cerr
	}
	return s.out.explain(err)
}

// Written returns the number of whole packets that have arrived in the file, and the number of
// their captured bytes.
func (s *Sink) Written() (packets, bytes uint64) { return s.out.whole.packets, s.out.whole.bytes }

// Size returns the length of the file in bytes. If the file is not compressed, that includes what
// the sink keeps back.
//
// If the file is compressed, Size does not include it: nobody knows yet how long it will be. It
// becomes one block of compressed data. That happens when about 256 KiB of packets have come, and
// at each Flush.
func (s *Sink) Size() int64 { return s.out.size() }

// OnFull makes the sink call f when the disk is full. If f returns true, there may be room now, and
// the sink tries again: no packet is lost. progress says whether the last try has written some
// bytes. The sink calls f from within the method that writes.
func (s *Sink) OnFull(f func(progress bool) bool) { s.out.full = f }
