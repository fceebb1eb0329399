package program

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// Loads from these offsets are not loads from the packet on Linux (linux/filter.h). FreeBSD's
// kernel takes them for offsets behind the end of any packet, and lets no packet through.
const (
	linuxLinkOffset = 0xffe00000 // SKF_LL_OFF: relative to the link header
	linuxNetOffset  = 0xfff00000 // SKF_NET_OFF: relative to the network header
	linuxAncillary  = 0xfffff000 // SKF_AD_OFF: what Linux knows of the packet besides its bytes
)

// ancillaries are the names that bpf_asm and linux/filter.h give what is at linuxAncillary, by
// the offset from there.
var ancillaries = map[uint32]string{
	0: "proto (SKF_AD_PROTOCOL)", 4: "type (SKF_AD_PKTTYPE)", 8: "ifidx (SKF_AD_IFINDEX)",
	12: "nla (SKF_AD_NLATTR)", 16: "nlan (SKF_AD_NLATTR_NEST)", 20: "mark (SKF_AD_MARK)",
	24: "queue (SKF_AD_QUEUE)", 28: "hatype (SKF_AD_HATYPE)", 32: "rxhash (SKF_AD_RXHASH)",
	36: "cpu (SKF_AD_CPU)", 40: "xor x (SKF_AD_ALU_XOR_X)", 44: "vlan_tci (SKF_AD_VLAN_TAG)",
	48: "vlan_avail (SKF_AD_VLAN_TAG_PRESENT)", 52: "poff (SKF_AD_PAY_OFFSET)",
	56: "rand (SKF_AD_RANDOM)", 60: "vlan_tpid (SKF_AD_VLAN_TPID)",
}

// Codes of instructions that load from a constant offset.
const (
	loadWord  = 0x20 // BPF_LD|BPF_W|BPF_ABS
	loadHalf  = 0x28 // BPF_LD|BPF_H|BPF_ABS
	loadByte  = 0x30 // BPF_LD|BPF_B|BPF_ABS
	loadIPLen = 0xb1 // BPF_LDX|BPF_B|BPF_MSH
)

// forLinux returns an error for a program that was made for Linux.
func forLinux(prog []bpf.RawInstruction) error {
	for i, in := range prog {
		switch in.Op {
		case loadWord, loadHalf, loadByte, loadIPLen:
		default:
			continue
		}
		what := ""
		switch {
		case in.K >= linuxAncillary:
			if what = ancillaries[in.K-linuxAncillary]; what == "" {
				what = fmt.Sprintf("Linux' own data at %#x (SKF_AD_OFF+%d)", in.K, in.K-linuxAncillary)
			}
		case in.K >= linuxNetOffset:
			what = "bytes relative to the network header (SKF_NET_OFF)"
		case in.K >= linuxLinkOffset:
			what = "bytes relative to the link header (SKF_LL_OFF)"
		default:
			continue
		}
		return fmt.Errorf("instruction %d loads %s, which only Linux has: "+
			"run `tcpdump -ddd` on FreeBSD, or with -r on a file of the same link type", i, what)
	}
	return nil
}
