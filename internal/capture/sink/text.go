package sink

import (
	"bufio"
	"strconv"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Text is the name of the format with a line for each packet.
const Text = "text"

var _ = register(Text, func(w *bufio.Writer, _ Spec) format { return &text{w: w} })

// text is a line for each packet: seconds since 1970, interface, bytes captured, and "/" with
// the bytes on the wire if those are more.
type text struct {
	w     *bufio.Writer
	names []string
	line  []byte
}

func (f *text) addInterface(i pcapio.Interface) error {
	name := human.Printable(i.Name) // a file can have any bytes for a name
	if name == "" {
		name = strconv.Itoa(len(f.names))
	}
	f.names = append(f.names, name)
	return nil
}

func (f *text) packet(p capture.Packet) error {
	b := strconv.AppendInt(f.line[:0], p.Sec, 10)
	b = append(b, '.')
	for unit := int64(1e8); unit > 0; unit /= 10 {
		b = append(b, byte('0'+p.Nsec/unit%10))
	}
	b = append(b, ' ')
	b = append(b, f.names[p.Interface]...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(p.Data)), 10)
	if p.WireLen != len(p.Data) {
		b = append(b, '/')
		b = strconv.AppendInt(b, int64(p.WireLen), 10)
	}
	f.line = append(b, '\n')
	_, err := f.w.Write(f.line)
	return err
}

func (f *text) finish([]pcapio.Statistics) error { return nil }
