// Package decode says what a packet is: a [Summary] of its headers, and a line of text for people.
package decode

import (
	"net"
	"net/netip"
)

// Summary says what a packet is. A part is nil if the packet has no such header. Nothing in it
// refers to the packet's memory. All strings are escaped as [human.Printable] does it, so a
// terminal can show them. docs/bpfctl.md describes the JSON form, which stays stable.
type Summary struct {
	Protocols []string   `json:"protocols"` // from the outside in
	Link      *Link      `json:"link,omitempty"`
	VLANs     []VLAN     `json:"vlans,omitempty"`
	PFLog     *PFLog     `json:"pflog,omitempty"`
	WLAN      *WLAN      `json:"wlan,omitempty"`
	ARP       *ARP       `json:"arp,omitempty"`
	STP       *STP       `json:"stp,omitempty"`
	LLDP      *LLDP      `json:"lldp,omitempty"`
	Network   *Network   `json:"network,omitempty"`
	Transport *Transport `json:"transport,omitempty"`
	ICMP      *ICMP      `json:"icmp,omitempty"`
	IGMP      *IGMP      `json:"igmp,omitempty"`
	DNS       *DNS       `json:"dns,omitempty"`
	DHCP      *DHCP      `json:"dhcp,omitempty"`
	TLS       *TLS       `json:"tls,omitempty"`
	// Inner is the packet in a tunnel, or the one that an ICMP error is about.
	Inner *Summary `json:"inner,omitempty"`
	// Error says why the rest is not decoded.
	Error *Error `json:"error,omitempty"`

	wire   int // bytes on the wire
	header int // those of the link headers
	length int // those behind them
}

// Header returns the number of bytes of the link headers.
func (s *Summary) Header() int { return s.header }

// Error says why the rest of a packet is not decoded.
type Error struct {
	Protocol string `json:"protocol"`
	Reason   string `json:"reason"` // for people
	Cut      bool   `json:"cut"`    // the capture has only the beginning of the packet
}

// MAC is a hardware address.
type MAC []byte

func (m MAC) String() string { return net.HardwareAddr(m).String() }

// MarshalText returns the address in its usual form.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Link is an Ethernet header, or what takes its place.
type Link struct {
	Src  MAC    `json:"src,omitempty"`
	Dst  MAC    `json:"dst,omitempty"`
	Type uint16 `json:"type,omitempty"` // the EtherType; 0 with a length in its place
}

// VLAN is an 802.1Q tag.
type VLAN struct {
	ID           uint16 `json:"id"`
	Priority     uint8  `json:"priority"`
	DropEligible bool   `json:"drop_eligible"`
	typ          uint16 // the EtherType behind it
}

// PFLog is what pf(4) says of a packet that it logged.
type PFLog struct {
	Action    string  `json:"action"`
	Reason    string  `json:"reason"`
	Direction string  `json:"direction"` // in, out or inout
	Interface string  `json:"interface"`
	Rule      uint32  `json:"rule"`
	Ruleset   string  `json:"ruleset,omitempty"`
	Subrule   *uint32 `json:"subrule,omitempty"`
	reason    uint8
}

// WLAN is an 802.11 header.
type WLAN struct {
	Type      string  `json:"type"`
	Receiver  MAC     `json:"receiver"`
	Sender    MAC     `json:"sender,omitempty"`
	Third     MAC     `json:"third,omitempty"` // the address whose meaning depends on the direction
	SSID      *string `json:"ssid,omitempty"`
	Protected bool    `json:"protected"`
}

// ARP is an ARP message.
type ARP struct {
	Operation string     `json:"operation"`
	SenderMAC MAC        `json:"sender_mac"`
	Sender    netip.Addr `json:"sender"`
	TargetMAC MAC        `json:"target_mac"`
	Target    netip.Addr `json:"target"`
}

// STP is a message of the spanning tree protocol.
type STP struct {
	Version        string `json:"version"` // 802.1d, 802.1w or 802.1s
	Message        string `json:"message"`
	Root           string `json:"root,omitempty"`
	Bridge         string `json:"bridge,omitempty"`
	Port           uint16 `json:"port,omitempty"`
	Cost           uint32 `json:"cost,omitempty"`
	TopologyChange bool   `json:"topology_change"`
}

// LLDP is what a device says of itself.
type LLDP struct {
	Chassis string `json:"chassis"`
	Port    string `json:"port"`
	TTL     uint16 `json:"ttl"`
	System  string `json:"system,omitempty"`
}

// Network is an IP header.
type Network struct {
	Protocol string     `json:"protocol"` // ipv4 or ipv6
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
	Length   int        `json:"length"` // of header and payload
	TTL      uint8      `json:"ttl"`    // or the hop limit
	TOS      uint8      `json:"tos"`    // or the traffic class
	ID       *uint16    `json:"id,omitempty"`
	DF       bool       `json:"df,omitempty"`
	Flow     uint32     `json:"flow,omitempty"`
	Next     uint8      `json:"next"` // the number of the protocol behind all IP headers
	Checksum string     `json:"checksum,omitempty"`
	Fragment *Fragment  `json:"fragment,omitempty"`
}

// Fragment says which piece of a packet this is.
type Fragment struct {
	ID     uint32 `json:"id"`
	Offset int    `json:"offset"` // bytes
	Length int    `json:"length"` // bytes
	More   bool   `json:"more"`
}

// Transport is a header with ports.
type Transport struct {
	Protocol string   `json:"protocol"` // tcp, udp or sctp
	SrcPort  uint16   `json:"src_port"`
	DstPort  uint16   `json:"dst_port"`
	Length   int      `json:"length"`             // bytes of payload
	Checksum string   `json:"checksum,omitempty"` // ok or bad, if the packet is whole
	Flags    []string `json:"flags,omitempty"`
	Seq      *uint32  `json:"seq,omitempty"`
	Ack      *uint32  `json:"ack,omitempty"`
	Window   *uint16  `json:"window,omitempty"`
	Urgent   uint16   `json:"urgent,omitempty"`
	Options  []string `json:"options,omitempty"` // as text
}

// ICMP is an ICMP or ICMPv6 message.
type ICMP struct {
	Type     uint8       `json:"type"`
	Code     uint8       `json:"code"`
	Message  string      `json:"message"`
	Length   int         `json:"length"` // with its header
	Checksum string      `json:"checksum,omitempty"`
	ID       *uint16     `json:"id,omitempty"`
	Seq      *uint16     `json:"seq,omitempty"`
	Target   *netip.Addr `json:"target,omitempty"` // of neighbour discovery and redirects
	MTU      uint32      `json:"mtu,omitempty"`
	MAC      MAC         `json:"mac,omitempty"` // the link address of neighbour discovery
	Prefixes []string    `json:"prefixes,omitempty"`
}

// IGMP is an IGMP message, or the same for IPv6, MLD.
type IGMP struct {
	Message string       `json:"message"`
	Groups  []netip.Addr `json:"groups,omitempty"`
}

// DNS is a message of DNS, mDNS or LLMNR.
type DNS struct {
	ID          uint16     `json:"id"`
	Response    bool       `json:"response"`
	Opcode      string     `json:"opcode"`
	Rcode       string     `json:"rcode,omitempty"`
	Flags       []string   `json:"flags,omitempty"`
	Questions   []Question `json:"questions,omitempty"` // the first ones
	Answers     []Record   `json:"answers,omitempty"`   // the first ones
	AnswerCount int        `json:"answer_count"`
	Authorities int        `json:"authorities"` // a number
	Additionals int        `json:"additionals"` // a number
	Length      int        `json:"length"`
}

// Question is a question of DNS.
type Question struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Record is an answer of DNS.
type Record struct {
	Name string `json:"name"`
	Type string `json:"type"`
	TTL  uint32 `json:"ttl"`
	Data string `json:"data,omitempty"`
}

// DHCP is a message of DHCP, for IPv4 or IPv6.
type DHCP struct {
	Version  int         `json:"version"` // 4 or 6
	Message  string      `json:"message"`
	XID      uint32      `json:"xid"`
	MAC      MAC         `json:"mac,omitempty"` // the client's
	Client   *netip.Addr `json:"client,omitempty"`
	Your     *netip.Addr `json:"your,omitempty"`
	Asked    *netip.Addr `json:"asked,omitempty"`
	Server   *netip.Addr `json:"server,omitempty"`
	Hostname string      `json:"hostname,omitempty"`
	Lease    uint32      `json:"lease,omitempty"` // seconds
}

// TLS is the first message of a TLS client or server.
type TLS struct {
	Message string   `json:"message"` // client_hello or server_hello
	Version string   `json:"version"`
	SNI     string   `json:"sni,omitempty"`
	ALPN    []string `json:"alpn,omitempty"`
}
