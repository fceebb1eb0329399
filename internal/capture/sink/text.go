package sink

import (
	"bufio"
	"fmt"
	"strconv"
	"time"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/decode"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Text is the name of the format with a line for each packet, for people.
const Text = "text"

var _ = register(Text, func(w *bufio.Writer, s Spec) format {
	time.Unix(0, 0).Hour() // reads the time zone now, before a sandbox hides its file
	return &text{w: w, TextOptions: s.Lines}
})

// Times says how a line begins.
type Times int

// The values of Times are the numbers of tcpdump's flags -t.
const (
	Clock      Times = iota // the local time of day
	NoTime                  // nothing
	Epoch                   // seconds since 1970
	Delta                   // the time since the line before
	Date                    // the local date and time of day
	SinceFirst              // the time since the first line
)

// TextOptions says how [Text] looks.
type TextOptions struct {
	decode.Style
	Times Times
	Hex   int // 1: the bytes behind the link header; 2: all bytes
	ASCII int // the same, and their characters
}

// text is a line for each packet: the time, the interface if there are several, and what the packet
// is.
type text struct {
	TextOptions
	w            *bufio.Writer
	ifaces       []named
	line         []byte
	first, prior stamp
	begun        bool
}

// named is an interface as lines show it.
type named struct {
	name     string
	linkType uint16
}

// nameOf returns the n-th interface with a name that a terminal can show. A file can have any bytes
// for a name, or none.
func nameOf(i pcapio.Interface, n int) named {
	name := human.Printable(i.Name)
	if name == "" {
		name = strconv.Itoa(n)
	}
	return named{name, i.LinkType}
}

func (f *text) addInterface(i pcapio.Interface) error {
	f.ifaces = append(f.ifaces, nameOf(i, len(f.ifaces)))
	return nil
}

func (f *text) packet(p capture.Packet) error {
	i := f.ifaces[p.Interface]
	f.line = f.time(f.line[:0], stamp{p.Sec, p.Nsec})
	if len(f.ifaces) > 1 {
		f.line = append(append(f.line, i.name...), ' ')
	}
	s := decode.Packet(i.linkType, p.Data, p.WireLen)
	f.line = append(s.AppendLine(f.line, f.Style), '\n')
	if most := max(f.Hex, f.ASCII); most > 0 {
		from := 0
		if most == 1 {
			from = min(s.Header(), len(p.Data))
		}
		f.line = appendHex(f.line, p.Data[from:], f.ASCII > 0)
	}
	_, err := f.w.Write(f.line)
	return err
}

func (f *text) finish([]pcapio.Statistics) error { return nil }

// stamp is a time stamp. A file can have any, so the difference of two can be more than a
// time.Duration.
type stamp struct{ sec, nsec int64 }

// time appends the beginning of a line.
func (f *text) time(b []byte, t stamp) []byte {
	if !f.begun {
		f.begun, f.first, f.prior = true, t, t
	}
	prior := f.prior
	f.prior = t
	const clock, date = "15:04:05.000000000 ", "2006-01-02 15:04:05.000000000 "
	switch f.Times {
	case NoTime:
		return b
	case Epoch:
		return fmt.Appendf(b, "%d.%09d ", t.sec, t.nsec)
	case Delta:
		return t.since(b, prior)
	case SinceFirst:
		return t.since(b, f.first)
	case Date:
		return time.Unix(t.sec, t.nsec).AppendFormat(b, date)
	}
	return time.Unix(t.sec, t.nsec).AppendFormat(b, clock)
}

// since appends the time since an other stamp.
func (t stamp) since(b []byte, o stamp) []byte {
	sec, nsec := t.sec-o.sec, t.nsec-o.nsec
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	if sec < 0 {
		b = append(b, '-')
		if sec = -sec; nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	return fmt.Appendf(b, "%02d:%02d:%02d.%09d ", sec/3600, sec/60%60, sec%60, nsec)
}

// appendHex appends lines of 16 bytes, as tcpdump does.
func appendHex(b, data []byte, ascii bool) []byte {
	const perLine, width = 16, 41 // bytes; characters that the bytes of a whole line take
	const digits = "0123456789abcdef"
	for at := 0; at < len(data); at += perLine {
		piece := data[at:min(at+perLine, len(data))]
		b = fmt.Appendf(b, "\t0x%04x:  ", at)
		start := len(b)
		for i, x := range piece {
			b = append(b, digits[x>>4], digits[x&15])
			if i%2 == 1 && i < len(piece)-1 {
				b = append(b, ' ')
			}
		}
		if ascii {
			for len(b)-start < width {
				b = append(b, ' ')
			}
			for _, x := range piece {
				if x <= ' ' || x > '~' {
					x = '.'
				}
				b = append(b, x)
			}
		}
		b = append(b, '\n')
	}
	return b
}
