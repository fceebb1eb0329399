package sink

import (
	"bufio"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Pcapng is the name of the format that keeps everything.
const Pcapng = "pcapng"

var _ = register(Pcapng, func(w *bufio.Writer, s Spec) format {
	ng := pcapio.NewWriter(w)
	ng.Comment = s.Comment
	return &pcapng{ng}
})

// pcapng stores packets with all their properties.
type pcapng struct{ w *pcapio.Writer }

func (f *pcapng) addInterface(i pcapio.Interface) error {
	_, err := f.w.AddInterface(i)
	return err
}

func (f *pcapng) packet(p capture.Packet) error {
	return f.w.WriteCommented(p.Interface, p.Sec, p.Nsec, p.Data, p.WireLen, p.Comments)
}

func (f *pcapng) finish(stats []pcapio.Statistics) error {
	for i, st := range stats {
		if err := f.w.WriteStatistics(i, st); err != nil {
			return err
		}
	}
	return f.w.Finish()
}
