package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/term"

	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// A sink is where captured packets go. It is used by one goroutine at a time.
type sink interface {
	addInterface(pcapio.Interface) error // numbered from 0
	packet(iface int, p bpf.Packet) error
	flush() error
	// finish is the end: statistics, if known, for each interface.
	finish(stats []pcapio.Statistics) error
}

// openSink opens what -w names, or the list of packets on standard output.
func openSink(f *captureFlags, stdout io.Writer) (sink, error) {
	switch f.write {
	case "":
		return &lines{w: bufio.NewWriterSize(stdout, 64<<10)}, nil
	case "-":
		return &pcapng{w: pcapio.NewWriter(stdout), name: "standard output"}, nil
	}
	if f.replay != "" && sameFile(f.replay, f.write) {
		return nil, usagef("-w %s: that is the file to replay", f.write)
	}
	file, err := os.Create(f.write)
	if err != nil {
		return nil, fmt.Errorf("can't write: %w", err)
	}
	return &pcapng{w: pcapio.NewWriter(pcapio.NewWholeBlocks(file)), name: f.write, file: file}, nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// pcapng is a sink that keeps the packets.
type pcapng struct {
	w    *pcapio.Writer
	name string
	file *os.File // nil for standard output
}

func (s *pcapng) failed(err error) error {
	if err == nil {
		return nil
	}
	if s.file == nil {
		return fmt.Errorf("can't write to %s: %w", s.name, err)
	}
	return fmt.Errorf("can't write, %s ends with the last packet that is complete: %w", s.name, err)
}

func (s *pcapng) addInterface(i pcapio.Interface) error {
	_, err := s.w.AddInterface(i)
	return s.failed(err)
}

func (s *pcapng) packet(iface int, p bpf.Packet) error {
	sec, nsec := p.Timestamp()
	if err := s.w.WritePacket(iface, sec, nsec, p.Data(), p.WireLen()); err != nil {
		return s.failed(err)
	}
	return nil
}

func (s *pcapng) flush() error { return s.failed(s.w.Flush()) }

func (s *pcapng) finish(stats []pcapio.Statistics) error {
	for i, st := range stats {
		if err := s.w.WriteStatistics(i, st); err != nil {
			return s.failed(err)
		}
	}
	err := s.w.Finish()
	if s.file != nil {
		if cerr := s.file.Close(); err == nil {
			err = cerr
		}
	}
	return s.failed(err)
}

// lines is a sink that prints a line for each packet.
type lines struct {
	w     *bufio.Writer
	names []string
	buf   []byte
}

func (s *lines) addInterface(i pcapio.Interface) error {
	if i.Name == "" {
		i.Name = strconv.Itoa(len(s.names))
	}
	s.names = append(s.names, i.Name)
	return nil
}

func (s *lines) packet(iface int, p bpf.Packet) error {
	sec, nsec := p.Timestamp()
	b := strconv.AppendInt(s.buf[:0], sec, 10)
	b = append(b, '.')
	for unit := int64(1e8); unit > 0; unit /= 10 {
		b = append(b, byte('0'+nsec/unit%10))
	}
	b = append(b, ' ')
	b = append(b, s.names[iface]...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(p.CapLen()), 10)
	if p.WireLen() != p.CapLen() {
		b = append(b, '/')
		b = strconv.AppendInt(b, int64(p.WireLen()), 10)
	}
	s.buf = append(b, '\n')
	_, err := s.w.Write(s.buf)
	return s.failed(err)
}

func (s *lines) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("can't write to standard output: %w", err)
}

func (s *lines) flush() error                       { return s.failed(s.w.Flush()) }
func (s *lines) finish(_ []pcapio.Statistics) error { return s.flush() }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
