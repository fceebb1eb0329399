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
// A reader can read everything up to there.
type format interface {
	addInterface(pcapio.Interface) error // numbered from 0
	packet(p capture.Packet) error
	finish([]pcapio.Statistics) error
}

var formats = map[string]func(w *bufio.Writer) format{}

// register adds a format. Each file of a format declares its name and calls it for a variable.
func register(name string, open func(w *bufio.Writer) format) string {
	formats[name] = open
	return name
}

// New returns a sink that writes a format to standard output, or to a writer in its place.
func New(format string, stdout io.Writer) capture.Sink {
	return newSink(format, newOutput(targetOf(stdout, false), "standard output"))
}

// Open returns a sink that writes a format to a file. It creates the file, or empties it. To open a
// FIFO, it waits until a program reads from it.
//
// Errors:
//   - context.Cause(ctx): ctx was done first.
//   - Those of open(2).
func Open(ctx context.Context, format, name string) (capture.Sink, error) {
	f, err := interruptible.Open(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, fmt.Errorf("can't write: %w", err)
	}
	return newSink(format, newOutput(targetOf(f, true), name)), nil
}

func newSink(format string, o *output) *sink {
	return &sink{out: o, format: formats[format](o.buf)}
}

type sink struct {
	out    *output
	format format
}

func (s *sink) AddInterface(i pcapio.Interface) error {
	err := s.format.addInterface(i)
	if err == nil {
		s.out.unit(0, 0)
	}
	return s.out.explain(err)
}

func (s *sink) Write(b *capture.Batch) error {
	for _, p := range b.Packets {
		if err := s.format.packet(p); err != nil {
			return s.out.explain(err)
		}
		s.out.unit(1, len(p.Data))
	}
	return nil
}

func (s *sink) Flush() error { return s.out.explain(s.out.buf.Flush()) }

func (s *sink) Finish(stats []pcapio.Statistics) error {
	err := s.format.finish(stats)
	if err == nil {
		s.out.unit(0, 0)
		err = s.out.buf.Flush()
	}
	if cerr := s.out.to.close(); err == nil {
		err = cerr
	}
	return s.out.explain(err)
}

func (s *sink) Written() (packets, bytes uint64) { return s.out.whole.packets, s.out.whole.bytes }
