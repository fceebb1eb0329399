package sink

import (
	"bufio"
	"fmt"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Names of the format of old. Each program that reads captures reads it.
const (
	Pcap     = "pcap"    // microseconds
	PcapNano = "pcap-ns" // nanoseconds
)

var (
	_ = register(Pcap, func(w *bufio.Writer, s Spec) format {
		return &pcap{w: pcapio.NewPcapWriter(w, false), spec: s}
	})
	_ = register(PcapNano, func(w *bufio.Writer, s Spec) format {
		return &pcap{w: pcapio.NewPcapWriter(w, true), spec: s}
	})
)

// pcap stores packets of one link type without what tells their interface.
type pcap struct {
	w      *pcapio.PcapWriter
	spec   Spec
	ifaces []pcapio.Interface
	known  []int // numbers that the writer gave them, or foreign
}

// foreign is the number of an interface whose packets the file can't have.
const foreign = -1

func (f *pcap) addInterface(i pcapio.Interface) (err error) {
	n := foreign
	if len(f.ifaces) == 0 || i.LinkType == f.ifaces[0].LinkType {
		n, err = f.w.AddInterface(i)
	}
	f.ifaces, f.known = append(f.ifaces, i), append(f.known, n)
	return err
}

func (f *pcap) packet(p capture.Packet) error {
	n := f.known[p.Interface]
	if n == foreign {
		return fmt.Errorf("a packet of interface %s has the link type %d, and those of interface %s "+
			"before it %d: pcap has one link type for all packets: write pcapng, which has one for each "+
			"interface, or capture from one of them alone", f.name(p.Interface),
			f.ifaces[p.Interface].LinkType, f.name(0), f.ifaces[0].LinkType)
	}
	return f.w.WritePacket(n, p.Sec, p.Nsec, p.Data, p.WireLen)
}

// name returns the name of an interface for messages.
func (f *pcap) name(i int) string {
	if name := f.ifaces[i].Name; name != "" {
		return human.Printable(name)
	}
	return fmt.Sprint(i)
}

func (f *pcap) finish([]pcapio.Statistics) error { return f.w.Finish() }
