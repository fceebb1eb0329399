package sink

import (
	"bufio"
	"cmp"
	"fmt"
	"strconv"

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
	begun  bool
	first  int   // the interface that has the file's link type
	known  []int // numbers that the writer gave them, or foreign
}

// foreign is the number of an interface whose packets the file can't have.
const foreign = -1

// What is said when pcap has no place for something.
const (
	namesLost = "pcap has no place for interfaces: the file does not tell of which one a packet is; " +
		"pcapng does"
	commentsLost = "pcap has no place for comments: those of the packets are left out; " +
		"pcapng keeps them"
)

func (f *pcap) addInterface(i pcapio.Interface) error {
	f.ifaces = append(f.ifaces, i)
	if len(f.ifaces) == 2 {
		f.spec.say(namesLost)
	}
	if f.begun {
		return f.know(i)
	}
	return nil
}

// know tells the writer of an interface if the file has room for its packets.
func (f *pcap) know(i pcapio.Interface) (err error) {
	n := foreign
	if i.LinkType == f.ifaces[f.first].LinkType {
		n, err = f.w.AddInterface(i)
	}
	f.known = append(f.known, n)
	return err
}

// begin writes the head of the file, for packets like those of an interface.
func (f *pcap) begin(first int) error {
	if f.begun || first >= len(f.ifaces) {
		return nil
	}
	f.begun, f.first = true, first
	for _, i := range f.ifaces {
		if err := f.know(i); err != nil {
			return err
		}
	}
	return nil
}

// packet takes a packet. The first one decides on the file's link type. So a file can become pcap
// that has interfaces of several types, if the packets that are picked are of one type.
func (f *pcap) packet(p capture.Packet) error {
	if err := f.begin(p.Interface); err != nil {
		return err
	}
	n := f.known[p.Interface]
	if n == foreign {
		return differ(f.ifaces, f.first, p.Interface)
	}
	if len(p.Comments) > 0 {
		f.spec.say(commentsLost)
	}
	return f.w.WritePacket(n, p.Sec, p.Nsec, p.Data, p.WireLen)
}

// flush writes the head of the file before the first packet, if it is known: a program that reads
// along waits for it.
func (f *pcap) flush() error {
	if f.spec.CheckInterfaces(f.ifaces) != nil {
		return nil
	}
	return f.begin(0)
}

func (f *pcap) finish([]pcapio.Statistics) error {
	if err := f.begin(0); err != nil {
		return err
	}
	return f.w.Finish()
}

// CheckInterfaces returns an error if a file has no room for packets of all these interfaces.
func (s Spec) CheckInterfaces(all []pcapio.Interface) error {
	for i := range all {
		if (s.Format == Pcap || s.Format == PcapNano) && all[i].LinkType != all[0].LinkType {
			return differ(all, 0, i)
		}
	}
	return nil
}

// differ is the error for two interfaces with different link types.
func differ(ifaces []pcapio.Interface, a, b int) error {
	name := func(i int) string { return human.Printable(cmp.Or(ifaces[i].Name, strconv.Itoa(i))) }
	return fmt.Errorf("pcap has one link type for all packets, and that of interface %s is %d "+
		"(LINKTYPE_), that of interface %s %d: write pcapng, or pick packets of one of them",
		name(a), ifaces[a].LinkType, name(b), ifaces[b].LinkType)
}
