package sender

import (
	"fmt"
	"strings"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/machine"
)

// outlet is a descriptor that writes packets to an interface and captures nothing.
type outlet struct {
	d     *zbuf.Device
	iface string
	dlt   uint32
	known bool   // dlt was chosen
	want  uint16 // the LINKTYPE_ number that it was chosen for
}

// nothing is a filter program that captures nothing.
var nothing = []zbuf.Insn{{Op: 0x06}} // ret #0

func openOutlet(m *machine.Machine, iface string) (*outlet, error) {
	d, err := zbuf.OpenOn(m.BPF)
	if err != nil {
		return nil, err
	}
	err = d.SetFilter(nothing)
	if err == nil {
		err = d.SetInterface(iface)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return &outlet{d: d, iface: iface}, nil
}

// choose makes the outlet take packets of a link type.
func (o *outlet) choose(want uint16) error {
	if o.known && o.want == want {
		return nil
	}
	if o.known {
		return o.several(o.want, want)
	}
	offered, err := o.d.LinkTypes()
	if err != nil {
		return err
	}
	var names []string
	for _, dlt := range offered {
		if zbuf.DLTToLinkType(dlt) == want {
			o.dlt, o.want, o.known = dlt, want, true
			return o.prepare()
		}
		names = append(names, zbuf.DLTName(dlt))
	}
	return fmt.Errorf("the packets are of link type %d (LINKTYPE_), and %s takes %s",
		want, o.iface, strings.Join(names, ", "))
}

func (o *outlet) several(a, b uint16) error {
	return fmt.Errorf("the file has packets of several link types (LINKTYPE_ %d and %d): %s takes "+
		"one at a time",
		a, b, o.iface)
}

// prepare makes the kernel send packets as they are. BIOCSHDRCMPLT keeps the source address of
// an Ethernet frame. Other interfaces have none, and tun refuses every packet with it.
func (o *outlet) prepare() error {
	if err := o.d.SetLinkType(o.dlt); err != nil {
		return err
	}
	return o.d.SetHeaderComplete(o.dlt == zbuf.DLT_EN10MB)
}

// linkHeaders are the bytes of a packet that are not in the MTU (bpf_movein in sys/net/bpf.c).
// Other link types that can be written have none.
var linkHeaders = map[uint32]int{
	zbuf.DLT_EN10MB: 14, zbuf.DLT_NULL: 4, zbuf.DLT_PPP: 4,
	zbuf.DLT_ATM_RFC1483: 12, zbuf.DLT_IEEE802_11_RADIO: 14,
}

func (o *outlet) linkHeader() int { return linkHeaders[o.dlt] }
