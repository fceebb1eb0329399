package sender

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/zbuf-go/zbuf/internal/interruptible"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// File is a capture file to send. It can be a pipe.
type File struct {
	Name string // for messages

	ctx   context.Context
	f     io.Reader
	again bool // it can be read again
	close []io.Closer
	notes []string
}

// Open opens a file; "-" is standard input. When ctx is done, opening and reading end with its
// cause.
func Open(ctx context.Context, name string, stdin io.Reader) (*File, error) {
	f := &File{Name: name, ctx: ctx, f: stdin}
	if name == "-" {
		f.Name = "standard input"
	} else {
		o, err := interruptible.Open(ctx, name, os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		f.f, f.close = o, []io.Closer{o}
	}
	if f.again = interruptible.Regular(f.f); !f.again {
		i := interruptible.NewReader(ctx, f.f)
		f.f, f.close = i, append([]io.Closer{i}, f.close...)
	}
	return f, nil
}

// Close closes the file, and not standard input.
func (f *File) Close() {
	for _, c := range f.close {
		c.Close()
	}
}

// Again reports whether the file can be read more than once. A pipe can't.
func (f *File) Again() bool { return f.again }

// Notes returns the faults that a reader of the file has met and could pass over.
func (f *File) Notes() []string { return f.notes }

// each calls do for all packets of the file. Its errors name the file.
func (f *File) each(do func(linkType uint16, p pcapio.Packet) error) error {
	if s, ok := f.f.(io.Seeker); ok && f.again {
		if _, err := s.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	r, err := pcapio.NewReader(f.f)
	if err != nil {
		return f.explain(err)
	}
	defer func() { f.notes = r.Notes() }()
	for {
		p, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return f.explain(err)
		}
		if err := do(r.Interfaces()[p.Interface].LinkType, p); err != nil {
			return err
		}
	}
}

// explain names the file in an error of reading it.
func (f *File) explain(err error) error {
	if f.ctx.Err() != nil && !f.again {
		return context.Cause(f.ctx)
	}
	return fmt.Errorf("%s: %w", f.Name, err)
}

// Plan has the facts about files that the sender knows before it sends a packet.
type Plan struct {
	Packets   uint64
	LinkTypes []uint16 // LINKTYPE_ numbers of its packets
	Gap       Gap      // the longest
}

// Gap is the time between two packets of a file.
type Gap struct {
	time.Duration
	File   string
	Packet uint64 // the packet after it, counted from 1
}

// add reads a file that can be read again. It looks for gaps up to the packet numbered limit of all
// files, unless that is 0.
func (p *Plan) add(f *File, limit uint64) error {
	var times clock
	n := uint64(0)
	return f.each(func(linkType uint16, packet pcapio.Packet) error {
		p.Packets++
		n++
		if !slices.Contains(p.LinkTypes, linkType) {
			p.LinkTypes = append(p.LinkTypes, linkType)
		}
		if gap := times.gap(packet.Time); gap > p.Gap.Duration && (limit == 0 || p.Packets <= limit) {
			p.Gap = Gap{gap, f.Name, n}
		}
		return nil
	})
}
